//! A folder for a server's files, gone with it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::{Outcome, Trying};

static MADE: AtomicU32 = AtomicU32::new(0);

/// See the module.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn make() -> Outcome<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // Short: a unix socket's path has room for a hundred characters.
        let path = std::env::temp_dir().join(format!("warp-bench-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).trying(|| format!("{} can't be made", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
