//! Looks around inside a container: who is its first process, what may it do, where can a file be written?
//!
//! Built and started by `run`, beside this file, within the container of the proxy. Prints what is too much, a line
//! each, and ends with 1 if there is any.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// No file system of their own may be there at all; where one is, nobody may write to it.
const USUAL_PLACES: [&str; 8] = ["/", "/tmp", "/etc", "/etc/waypost", "/dev", "/dev/shm", "/run", "/var/tmp"];

fn main() -> ExitCode {
    let read = |name: &str| fs::read_to_string(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (status, mounts) = (read("/proc/1/status"), read("/proc/1/mounts"));
    let places = places(&mounts);
    let findings: Vec<String> = powers(&status).chain(places.iter().filter_map(|place| written(place))).collect();
    for finding in &findings {
        println!("too much: {finding}");
    }
    if !findings.is_empty() {
        return ExitCode::FAILURE;
    }
    println!("no root, no capability, and no file can be made in {} places", places.len());
    ExitCode::SUCCESS
}

/// Every way in which it is more than nobody.
fn powers(status: &str) -> impl Iterator<Item = String> {
    let expected = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|name| (name, "0000000000000000"));
    let strange = expected.into_iter().chain([("NoNewPrivs:", "1")]).filter_map(|(name, expected)| {
        let line = status_line(status, name);
        (line.split_whitespace().nth(1) != Some(expected)).then(|| line.to_owned())
    });
    let user = ["Uid:", "Gid:"].map(|name| status_line(status, name).to_owned());
    let root = user.into_iter().filter(|line| line.split_whitespace().skip(1).any(|id| id == "0"));
    strange.chain(root).collect::<Vec<_>>().into_iter()
}

fn status_line<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// Every folder at which something is mounted, and where programs usually write.
fn places(mounts: &str) -> BTreeSet<&str> {
    let mounted = mounts.lines().filter_map(|line| line.split_whitespace().nth(1));
    mounted.chain(USUAL_PLACES).filter(|place| Path::new(place).is_dir()).collect()
}

/// Says so if a file can be made there.
fn written(place: &&str) -> Option<String> {
    let file = Path::new(place).join("a-file-that-must-not-be");
    fs::write(&file, "written").is_ok().then(|| format!("{place} can be written to"))
}
