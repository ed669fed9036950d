//! Promise: every mistake is answered with a drawing of its place that says what to write instead.
//!
//! Each `tests/mistakes/*.toml` is one realistic mistake (or several); the `.expected` file next to it is the answer,
//! word for word. After a change on purpose, `UPDATE_EXPECTED=1 cargo test -p waypost-config` writes them anew: read
//! the difference.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_mistake_is_answered_word_for_word() {
    let mistakes = mistakes();
    assert!(mistakes.len() >= 45, "only {} mistakes", mistakes.len());
    let wrong: Vec<String> = mistakes.iter().filter_map(|path| difference(path)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn no_expected_answer_is_without_its_mistake() {
    let answers = files_with("expected");
    let orphans: Vec<&PathBuf> = answers.iter().filter(|path| !path.with_extension("toml").exists()).collect();
    assert!(orphans.is_empty(), "{orphans:?}");
}

fn difference(path: &Path) -> Option<String> {
    let answer = answer(path);
    let expected_path = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected_path, &answer).unwrap();
        return None;
    }
    let expected = fs::read_to_string(&expected_path).unwrap_or_default();
    (answer != expected).then(|| format!("{}: got\n{answer}\nexpected\n{expected}", path.display()))
}

fn answer(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let environment = |name: &str| (name == "LB_SECRET").then(|| "0123456789abcdef0123456789abcdef".to_owned());
    match waypost_config::parse(&text, path, &environment) {
        Ok(_) => "no problem found\n".to_owned(),
        Err(problems) => format!("{problems}\n"),
    }
}

fn mistakes() -> Vec<PathBuf> {
    files_with("toml")
}

/// The files of the folder with this ending, in order, named from the crate's root as the drawings show them.
fn files_with(extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/mistakes").unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}
