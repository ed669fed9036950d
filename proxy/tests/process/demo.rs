//! `waypost demo`: the tour holds what it promises, and nothing is left behind.

use std::fs;
use std::process::{Child, Command};

use crate::eventually;
use crate::process::waypost;

#[test]
fn every_promise_of_the_tour_holds() {
    let folder = tempfile::tempdir().unwrap();
    let output = waypost().args(["demo", "--exit-after-tour"]).env("TMPDIR", folder.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for said in ["web-1 100, web-2 100, web-3 100", "50 of 50", "TLSv1_3", "0 failed", "generation 2"] {
        assert!(text.contains(said), "{said} in\n{text}");
    }
    assert!(!String::from_utf8_lossy(&output.stderr).contains("config has warnings"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn ctrl_c_leaves_at_once_and_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command = waypost();
    command.args(["demo", "--no-tour"]).env("TMPDIR", &temporary);
    let output = fs::File::create(&said).unwrap();
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let mut demo = Demo(command.spawn().unwrap());
    eventually!(fs::read_to_string(&said).unwrap().contains("Five things to try"));
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 1);
    let pid = demo.0.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    eventually!(demo.0.try_wait().unwrap().is_some());
    assert!(demo.0.wait().unwrap().success());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}
