//! Programs of this machine that tests use if they are there.

use std::path::PathBuf;

/// The first of these names that is a file on `PATH`: a program may be called otherwise by its makers than by Debian.
pub fn installed(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    found.into_iter().find(|file| file.is_file())
}
