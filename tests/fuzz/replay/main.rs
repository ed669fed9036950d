//! Promise: what the fuzz targets promise holds for their seeds and some thousand mutations of them, in every test run.
//!
//! libFuzzer looks further (`just fuzz`); what it finds becomes a seed. Mutations are the same in every run;
//! `WAYPOST_FUZZ_MUTATIONS=100000` makes more of them.
#![allow(clippy::unwrap_used)]

mod mutation;
#[path = "../src/lib.rs"]
#[allow(unreachable_pub, reason = "a library for libFuzzer, a module here")]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mutation::Mutations;

/// Of each target.
const MUTATIONS: usize = 3_000;

/// Texts of the repository that are seeds, too.
const MORE: [(&str, &str); 2] = [("config", "config/tests/mistakes"), ("config", "docs/examples")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The seeds of a target, in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let own = PathBuf::from("tests/fuzz/seeds").join(target);
    let more = MORE.iter().filter(|(of, _)| *of == target).map(|(_, folder)| PathBuf::from(folder));
    let files = |folder: PathBuf| {
        let entries =
            fs::read_dir(root().join(&folder)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        // What is told of a mistake is no config.
        files.retain(|path| path.is_file() && path.extension().is_none_or(|ending| ending == "toml"));
        files.sort();
        files
    };
    more.chain([own]).flat_map(files).map(|path| fs::read(path).unwrap()).collect()
}

/// Holds a target to its promise; what broke it is in the message.
fn hold(name: &str, number: usize, run: fn(&[u8]), data: &[u8]) {
    let held = catch_unwind(AssertUnwindSafe(|| run(data)));
    assert!(held.is_ok(), "{name}, mutation {number} (0 is a seed), of the bytes\n{}", data.escape_ascii());
}

fn check(name: &str) {
    let (_, run) = targets::TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    let seeds = seeds(name);
    assert!((5..=200).contains(&seeds.len()), "{} seeds", seeds.len());
    for seed in &seeds {
        hold(name, 0, run, seed);
    }
    let wanted = std::env::var("WAYPOST_FUZZ_MUTATIONS").ok().map_or(MUTATIONS, |text| text.parse().unwrap());
    let mutations = Mutations::of(&seeds);
    for (number, data) in (1..=wanted).zip(mutations) {
        hold(name, number, run, &data);
    }
}

#[test]
fn config_is_refused_with_a_place_or_loads_the_same_each_time() {
    check("config");
}

#[test]
fn sticky_cookies_are_not_forged_and_the_others_not_touched() {
    check("cookies");
}

#[test]
fn strangers_have_no_say_in_who_they_are() {
    check("forwarded");
}

#[test]
fn messages_are_read_in_one_way_however_their_bytes_are_split() {
    check("http1");
}

#[test]
fn proxy_headers_are_read_in_one_way_however_their_bytes_are_split() {
    check("proxy_protocol");
}

#[test]
fn router_finds_what_a_scan_finds() {
    check("router");
}

#[test]
fn every_target_has_seeds_and_a_binary() {
    let manifest = fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap();
    for (name, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")) && !seeds(name).is_empty(), "{name}");
    }
}
