//! Drawings held against files: each `FOLDER/*.toml` is drawn as the `.expected` file next to it has it, word for word.

use std::fs;
use std::path::{Path, PathBuf};

/// Holds every drawing of the folder against its file; there are at least so many. No file is left over.
#[track_caller]
pub(crate) fn check(folder: &str, least: usize, answer: fn(&Path) -> String) {
    let given = files_with(folder, "toml");
    assert!(given.len() >= least, "only {} files in {folder}", given.len());
    let wrong: Vec<String> = given.iter().filter_map(|path| difference(path, &answer(path))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let answers = files_with(folder, "expected");
    let orphans: Vec<&PathBuf> = answers.iter().filter(|path| !path.with_extension("toml").exists()).collect();
    assert!(orphans.is_empty(), "{orphans:?}");
}

/// Reads a file of the folder as a config.
pub(crate) fn load(path: &Path) -> Result<waypost_config::Loaded, waypost_config::Problems> {
    let text = fs::read_to_string(path).unwrap();
    let environment = |name: &str| (name == "LB_SECRET").then(|| "0123456789abcdef0123456789abcdef".to_owned());
    waypost_config::parse(&text, path, &environment)
}

fn difference(path: &Path, answer: &str) -> Option<String> {
    let expected_path = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected_path, answer).unwrap();
        return None;
    }
    let expected = fs::read_to_string(&expected_path).unwrap_or_default();
    (answer != expected).then(|| format!("{}: got\n{answer}\nexpected\n{expected}", path.display()))
}

/// The files of the folder with this ending, in order, named from the crate's root as the drawings show them.
fn files_with(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}
