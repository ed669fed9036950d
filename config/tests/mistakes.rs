//! Promise: every mistake is answered with a drawing of its place that says what to write instead.
//!
//! Each `tests/mistakes/*.toml` is one realistic mistake (or several); the `.expected` file next to it is the answer,
//! word for word. After a change on purpose, `UPDATE_EXPECTED=1 cargo test -p waypost-config` writes them anew: read
//! the difference.
#![allow(clippy::unwrap_used)]

mod golden;

use std::path::Path;

#[test]
fn every_mistake_is_answered_word_for_word() {
    golden::check("tests/mistakes", 45, answer);
}

fn answer(path: &Path) -> String {
    match golden::load(path) {
        Ok(_) => "no problem found\n".to_owned(),
        Err(problems) => format!("{problems}\n"),
    }
}
