//! Promise: what is generated from the types is current.
//!
//! `UPDATE_SCHEMA=1 cargo test -p waypost-config` writes `config/schema.json` and `docs/configuration.md` anew.
#![allow(clippy::unwrap_used)]

use std::fs;

#[test]
fn the_schema_is_current() {
    check("schema.json", &waypost_config::schema());
}

#[test]
fn the_reference_is_current() {
    check("../docs/configuration.md", &waypost_config::reference());
}

#[track_caller]
fn check(path: &str, content: &str) {
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(path, content).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(kept == content, "{path} is not current: run UPDATE_SCHEMA=1 cargo test -p waypost-config");
}
