//! What an operator installs: the unit and the log's rotation as systemd and logrotate read them, and the Debian package
//! with everything in its place.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::process::waypost;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn unit() -> String {
    fs::read_to_string(repository().join("docs/examples/systemd/waypost.service")).unwrap()
}

/// What the command says, if there is such a tool on this machine.
fn tool(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {} is not installed", command.get_program().display());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// The directives of a unit: section, name and value.
fn directives(unit: &str) -> Vec<(String, String, String)> {
    let (mut section, mut found) = (String::new(), Vec::new());
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=') {
            Some((name, value)) => found.push((section.clone(), name.to_owned(), value.to_owned())),
            None => line.trim_matches(['[', ']']).clone_into(&mut section),
        }
    }
    found
}

fn directive(name: &str) -> String {
    let found = directives(&unit()).into_iter().find(|(_, this, _)| this == name);
    found.unwrap_or_else(|| panic!("no {name}")).2
}

#[test]
fn unit_says_nothing_twice() {
    let mut seen = HashSet::new();
    for (section, name, _) in directives(&unit()) {
        assert!(["Unit", "Service", "Install"].contains(&section.as_str()), "[{section}]");
        assert!(seen.insert(name.clone()), "{name} is there twice");
    }
}

#[test]
fn unit_says_what_the_process_counts_on() {
    for (name, value) in [
        // It tells of reloads, and of a process that follows it.
        ("Type", "notify-reload"),
        ("NotifyAccess", "all"),
        // One that was replaced may have clients, and drains like the other.
        ("KillMode", "control-group"),
        ("KillSignal", "SIGTERM"),
        ("Restart", "on-failure"),
        ("RuntimeDirectory", "waypost"),
        ("LogsDirectory", "waypost"),
        ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
        ("LimitNOFILE", "1048576"),
    ] {
        assert_eq!(directive(name), value, "{name}");
    }
    let seconds = |name| humantime::parse_duration(&directive(name)).unwrap();
    let grace_period = waypost_config::Server::default().grace_period.0;
    assert!(seconds("TimeoutStopSec") > grace_period, "a drain is cut short");
    assert!(
        seconds("WatchdogSec") >= Duration::from_secs(10),
        "a machine that is slow for a moment is no reason to end"
    );
}

#[test]
fn commands_of_the_unit_are_understood() {
    let commands: Vec<_> = directives(&unit()).into_iter().filter(|(_, name, _)| name.starts_with("Exec")).collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    for (_, name, command) in commands {
        let arguments = command.strip_prefix("/usr/bin/waypost ").unwrap();
        let understood = waypost().args(arguments.split(' ')).arg("--help").output().unwrap();
        assert!(understood.status.success(), "{name}: {}", said(&understood));
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let Some(version) = tool(Command::new("systemd-analyze").arg("--version")) else { return };
    let version: u32 = said(&version).split_whitespace().nth(1).unwrap().parse().unwrap();
    let unit = unit().replace("/usr/bin/waypost", env!("CARGO_BIN_EXE_waypost"));
    // One that does not know the type yet can still judge the rest.
    let unit = if version < 253 { unit.replace("Type=notify-reload", "Type=notify") } else { unit };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("waypost.service");
    fs::write(&file, unit).unwrap();
    let verdict = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(file).output().unwrap();
    assert!(verdict.status.success() && said(&verdict).is_empty(), "{}", said(&verdict));
}

#[test]
fn signals_of_unit_and_rotation_are_those_that_the_process_knows() {
    let known = said(&waypost().args(["help", "run"]).output().unwrap());
    let rotation = fs::read_to_string(repository().join("docs/examples/systemd/waypost.logrotate")).unwrap();
    for (text, signal) in [(unit(), "SIGUSR2"), (rotation, "SIGUSR1")] {
        assert!(text.contains(&format!("--kill-whom=main --signal={signal}")), "{text}");
        assert!(known.contains(signal), "{known}");
    }
}

/// What is where, with which mode.
const CONTENTS: [(&str, &str); 13] = [
    ("-rwxr-xr-x", "./usr/bin/waypost"),
    ("-rw-r--r--", "./usr/lib/systemd/system/waypost.service"),
    ("-rw-r--r--", "./etc/waypost/waypost.toml"),
    ("-rw-r--r--", "./etc/logrotate.d/waypost"),
    ("-rw-r--r--", "./usr/share/man/man1/waypost.1.gz"),
    ("-rw-r--r--", "./usr/share/man/man1/waypost-run.1.gz"),
    ("-rw-r--r--", "./usr/share/bash-completion/completions/waypost"),
    ("-rw-r--r--", "./usr/share/zsh/vendor-completions/_waypost"),
    ("-rw-r--r--", "./usr/share/fish/vendor_completions.d/waypost.fish"),
    ("-rw-r--r--", "./usr/share/doc/waypost/copyright"),
    ("-rw-r--r--", "./usr/share/doc/waypost/changelog.Debian.gz"),
    ("-rw-r--r--", "./usr/share/doc/waypost/configuration.md"),
    ("-rw-r--r--", "./usr/share/doc/waypost/guides/operating.md"),
];

/// The package of the binary under test, in this folder.
fn package(folder: &Path) -> PathBuf {
    let mut command = Command::new(repository().join("proxy/deb"));
    command.arg(env!("CARGO_BIN_EXE_waypost")).arg(folder);
    // To press a binary for debugging together takes longer than all the rest.
    let built = command.env("DPKG_DEB_COMPRESSOR_TYPE", "none").output().unwrap();
    assert!(built.status.success(), "{}", said(&built));
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[track_caller]
fn asked(package: &Path, arguments: &[&str]) -> String {
    let output = Command::new("dpkg-deb").args(&arguments[..1]).arg(package).args(&arguments[1..]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn debian_package_has_everything_in_its_place() {
    if tool(Command::new("dpkg-deb").arg("--version")).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let package = package(folder.path());
    let contents = asked(&package, &["--contents"]);
    for (mode, path) in CONTENTS {
        let line = contents.lines().find(|line| line.ends_with(path)).unwrap_or_else(|| panic!("{path}\n{contents}"));
        assert!(line.starts_with(&format!("{mode} root/root ")), "{line}");
    }
    let conffiles = asked(&package, &["--info", "conffiles"]);
    assert_eq!(conffiles.lines().collect::<Vec<_>>(), ["/etc/waypost/waypost.toml", "/etc/logrotate.d/waypost"]);
    let version = asked(&package, &["--field", "Version"]);
    assert_eq!(version.trim(), concat!(env!("CARGO_PKG_VERSION"), "-1"));
    assert!(asked(&package, &["--field", "Depends"]).contains("libc6 (>= 2."));
    what_is_installed_works(&package);
    if let Some(found) = tool(Command::new("lintian").arg("--no-tag-display-limit").arg(&package)) {
        println!("{}", said(&found));
    }
}

fn what_is_installed_works(package: &Path) {
    let root = tempfile::tempdir().unwrap();
    let root_text = root.path().to_str().unwrap();
    asked(package, &["--raw-extract", root_text]);
    let at = |path: &str| root.path().join(path);
    let mut check = Command::new(at("usr/bin/waypost"));
    let checked = check.args(["check", "-c"]).arg(at("etc/waypost/waypost.toml")).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
    for script in ["postinst", "prerm", "postrm"] {
        let read = Command::new("sh").arg("-n").arg(at("DEBIAN").join(script)).output().unwrap();
        assert!(read.status.success(), "{script}: {}", said(&read));
    }
    if let Some(sums) = tool(Command::new("md5sum").args(["--check", "--quiet", "DEBIAN/md5sums"]).current_dir(&root)) {
        assert!(sums.status.success(), "{}", said(&sums));
    }
    if let Some(rotated) = tool(Command::new("logrotate").arg("--debug").arg(at("etc/logrotate.d/waypost"))) {
        assert!(rotated.status.success(), "{}", said(&rotated));
    }
}
