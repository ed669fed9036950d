//! There is no room for the access log: requests are served as ever, what is lost is counted, and writing goes on as soon
//! as there is room.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use loadtest::Plan;
use serde_json::Value;
use waypost_tests::{Stack, eventually, shop};

fn logged_to(path: &Path) -> String {
    format!("{}\n[telemetry]\naccess_log = {{ path = \"{}\", format = \"json\" }}\n", shop(""), path.display())
}

const LINES: &str = "waypost_access_log_lines_total";
const DROPPED: &str = "waypost_access_log_dropped_total";
const ERRORS: &str = "waypost_access_log_write_errors_total";

/// So many requests over a few connections, none of which fails.
async fn requests(stack: &Stack, count: u64) {
    let plan = Plan::new(&format!("http://{}/", stack.address("web"))).unwrap().requests(count).connections(20);
    let report = loadtest::run(plan).await.unwrap();
    assert_eq!((report.failed, report.completed), (0, count), "{report}");
}

/// Lines of the log, every one of them whole.
fn whole_lines(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap();
    let torn: Vec<&str> = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).collect();
    assert!(torn.is_empty(), "{torn:#?}");
    text.lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn log_that_takes_nothing_costs_no_request_and_no_line_once_it_is_opened_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    symlink("/dev/full", &log).unwrap();
    let stack = Stack::start(&logged_to(&log)).await;
    requests(&stack, 500).await;
    eventually!(stack.metric(ERRORS) >= 2.0);
    assert_eq!((stack.metric(LINES), stack.metric(DROPPED)), (0.0, 0.0));
    fs::remove_file(&log).unwrap();
    stack.waypost.reopen_logs();
    eventually!(stack.metric(LINES) == 500.0);
    assert_eq!(whole_lines(&log), 500);
}

/// A small file system of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` where nothing may be mounted.
    fn mount() -> Option<Disk> {
        let folder = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=64k", "none"], folder.path()).then_some(Disk(folder))
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("access.log")
    }

    fn grow(&self) {
        assert!(run("mount", &["-o", "remount,size=64m"], self.0.path()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the log may still be open.
        run("umount", &["--lazy"], self.0.path());
    }
}

fn run(command: &str, arguments: &[&str], folder: &Path) -> bool {
    Command::new(command).args(arguments).arg(folder).output().is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_costs_no_request_and_lost_lines_are_counted_until_there_is_room() {
    let Some(disk) = Disk::mount() else { return eprintln!("not tested: nothing may be mounted here") };
    let stack = Stack::start(&logged_to(&disk.log())).await;
    let counted = || stack.metric(LINES) + stack.metric(DROPPED);
    // More than a disk, what is being written and what may wait for it can hold.
    requests(&stack, 500).await;
    eventually!(stack.metric(ERRORS) >= 1.0);
    let asked = 500 + 18_000;
    requests(&stack, 18_000).await;
    eventually!(stack.metric(DROPPED) >= 1.0);
    assert!(stack.metric(LINES) < 500.0);
    disk.grow();
    eventually!(counted() == f64::from(asked));
    assert_eq!(whole_lines(&disk.log()) as f64, stack.metric(LINES), "no line is torn or doubled");
    requests(&stack, 10).await;
    eventually!(counted() == f64::from(asked + 10));
}
