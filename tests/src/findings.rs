//! What went wrong in the cases of a table: all of it is told at the end, and not only the first.

use std::fmt::{Debug, Write as _};

/// The cases that came out otherwise than expected, so far.
#[derive(Debug, Default)]
pub struct Findings(String);

impl Findings {
    /// Notes a case, if what was seen of it is not what was expected.
    pub fn note<T: Debug + PartialEq>(&mut self, case: impl AsRef<[u8]>, seen: &T, expected: &T) {
        if seen != expected {
            let case = case.as_ref();
            let begin = case[..case.len().min(160)].escape_ascii();
            writeln!(self.0, "{begin}\n  seen     {seen:?}\n  expected {expected:?}").expect("a string takes all");
        }
    }

    /// Fails if anything was noted.
    #[track_caller]
    pub fn end(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}
