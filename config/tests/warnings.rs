//! Promise: every lint says why it warns and what to write instead, and keeps still where it could be wrong.
//!
//! Each `tests/warnings/LINT.toml` gives reason for that lint; the `.expected` file next to it is the drawing, word for
//! word. In `LINT_not.toml` is what looks alike and is in order. After a change on purpose,
//! `UPDATE_EXPECTED=1 cargo test -p waypost-config` writes the drawings anew: read the difference.
#![allow(clippy::unwrap_used)]

mod golden;

use std::path::Path;

use waypost_config::Lint;

/// These take more than the file: certificates are read by who uses them.
const ELSEWHERE: [Lint; 2] = [Lint::CertificateExpires, Lint::CertificateNames];

#[test]
fn every_warning_is_drawn_word_for_word() {
    golden::check("tests/warnings", 20, |path| match golden::load(path) {
        Ok(loaded) if loaded.warnings.is_empty() => "no warning\n".to_owned(),
        Ok(loaded) => format!("{}\n", loaded.warnings),
        Err(problems) => format!("refused\n{problems}\n"),
    });
}

#[test]
fn every_lint_has_its_example_and_its_counterexample() {
    let lints = |name: &str| -> Vec<Lint> {
        let path = Path::new("tests/warnings").join(name).with_extension("toml");
        let loaded = golden::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        loaded.warnings.iter().filter_map(|problem| problem.lint).collect()
    };
    for lint in Lint::ALL.into_iter().filter(|lint| !ELSEWHERE.contains(lint)) {
        let found = lints(lint.name());
        assert!(!found.is_empty() && found.iter().all(|one| *one == lint), "{lint}: {found:?}");
        let none = lints(&format!("{lint}_not"));
        assert!(none.is_empty(), "{lint}: {none:?}");
    }
}
