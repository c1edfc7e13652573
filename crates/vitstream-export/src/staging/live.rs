//! What this process has begun to write and not yet put into its place, so that a signal can take it away.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static LIVE: Mutex<Live> = Mutex::new(Live { parts: Vec::new(), made: Vec::new(), complete: false });

/// Held while files are created or put into their places: between two such steps [`abandon`] can come, within one it
/// cannot.
pub(super) struct Live {
    parts: Vec<PathBuf>,
    /// Directories that were made for files to come: the outermost, and the innermost.
    made: Vec<(PathBuf, PathBuf)>,
    /// Whether all files of a folder are in their places.
    complete: bool,
}

pub(super) fn lock() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(super) fn add(&mut self, part: &Path) {
        self.parts.push(part.to_owned());
    }

    pub(super) fn forget(&mut self, part: &Path) {
        self.parts.retain(|path| path != part);
    }

    pub(super) fn add_made(&mut self, outermost: &Path, innermost: &Path) {
        self.made.push((outermost.to_owned(), innermost.to_owned()));
    }

    pub(super) fn forget_made(&mut self, innermost: &Path) {
        self.made.retain(|(_, directory)| directory != innermost);
    }

    pub(super) fn complete(&mut self) {
        self.complete = true;
    }
}

/// Takes away everything that this process has begun to write and not put into its place. For handlers of signals, which
/// end the process afterwards: nothing can be written any more. When a folder's files are just being placed it waits for
/// them.
///
/// Returns whether the work was cut short: `false` when all files of a folder are in their places, and all that the
/// process has left to do is to say so.
pub fn abandon() -> bool {
    let live = lock();
    if live.complete {
        return false;
    }
    for part in &live.parts {
        let _ = fs::remove_file(part);
    }
    for (outermost, innermost) in &live.made {
        remove_empty(outermost, innermost);
    }
    // Kept until the process ends, so that nothing new comes into being.
    std::mem::forget(live);
    true
}

/// Removes directories from the innermost outwards, but only empty ones.
pub(super) fn remove_empty(outermost: &Path, innermost: &Path) {
    for directory in innermost.ancestors().take_while(|path| path.starts_with(outermost)) {
        let _ = fs::remove_dir(directory);
    }
}
