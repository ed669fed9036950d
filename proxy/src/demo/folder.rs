//! A temporary folder that goes when its owner does.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the config and the certificate of a demo live; nobody else may look in.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn make() -> io::Result<Folder> {
        let name = format!("waypost-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        // Fails if it is there already: nobody can have prepared it for us.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        // Joining nothing would leave a slash at the end.
        if name.as_ref().as_os_str().is_empty() { self.0.clone() } else { self.0.join(name) }
    }

    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(self.path(name))?;
        file.write_all(text.as_bytes())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the temporary folder.
        drop(fs::remove_dir_all(&self.0));
    }
}
