//! Folders for the servers' files, gone with the servers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::{Outcome, Trying};

static MADE: AtomicU32 = AtomicU32::new(0);

/// See the module.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn make() -> Outcome<Self> {
        let path = root().join(MADE.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir_all(&path).trying(|| format!("{} can't be made", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        // The last one takes the root along; before, it isn't empty.
        let _ = std::fs::remove_dir(root());
    }
}

/// What all folders of this process are in. Its name is short: a unix socket's path has room for a
/// hundred characters.
fn root() -> PathBuf {
    std::env::temp_dir().join(format!("warp-bench-{}", std::process::id()))
}

/// Removes all at once, when nothing goes out of scope any more.
pub(crate) fn remove_all() {
    let _ = std::fs::remove_dir_all(root());
}
