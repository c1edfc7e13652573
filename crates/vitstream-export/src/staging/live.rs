//! The files and directories that this process has begun to write but not yet placed, so that a signal
//! handler can remove them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static LIVE: Mutex<Live> = Mutex::new(Live { parts: Vec::new(), made: Vec::new(), complete: false });

/// Locked while files are created or placed: [`abandon`] can run between two such steps, but not within one.
pub(super) struct Live {
    parts: Vec<PathBuf>,
    /// Directories created for new files: the outermost, and the innermost.
    made: Vec<(PathBuf, PathBuf)>,
    /// Set once all files of a folder are in their places.
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

/// Removes everything that this process has begun to write but not yet placed. For signal handlers, which end
/// the process afterwards: nothing can be written any more. If the files of a folder are being placed at this
/// moment, it waits for them.
///
/// Returns true if work was interrupted, and false if all files of a folder are in their places, so that the
/// process only has to report success.
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
    // Kept locked until the process ends, so that nothing new is created.
    std::mem::forget(live);
    true
}

/// Removes empty directories from the innermost outwards.
pub(super) fn remove_empty(outermost: &Path, innermost: &Path) {
    for directory in innermost.ancestors().take_while(|path| path.starts_with(outermost)) {
        let _ = fs::remove_dir(directory);
    }
}
