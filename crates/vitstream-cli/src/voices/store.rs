//! Voices on this machine: one folder each, which is present completely or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use super::index::LONGEST;
use super::{Name, Offer, Part};

/// The file in a voice's folder that names the file to open. It is written last.
const OPENS: &str = ".vitstream";

/// The folder in which voices are prepared before they are moved to their places. No voice has this name.
const PARTIAL: &str = ".partial";

/// The last downloaded list of published voices.
const INDEX: &str = ".voices.json";

/// The user's voices.
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns the path to open for this voice, if it is installed.
    pub(super) fn find(&self, name: &Name) -> Result<Option<PathBuf>> {
        self.installed(&name.folder())
    }

    fn installed(&self, folder: &str) -> Result<Option<PathBuf>> {
        let folder = self.root.join(folder);
        let file = match File::open(folder.join(OPENS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.and_then(|file| read(file, 1 << 10)),
        };
        let file = file.with_context(|| folder.join(OPENS).display().to_string())?;
        let file = String::from_utf8_lossy(&file).into_owned();
        let file = file.trim();
        ensure!(
            super::name::is_plain(file),
            "{}: {file:?} is not a file name; delete the folder and download the voice again",
            folder.join(OPENS).display()
        );
        Ok(Some(folder.join(file)))
    }

    /// Installs `offer`: `get` writes the file of each part, and receives the total size of the parts before
    /// it.
    pub(super) fn install(
        &self,
        offer: &Offer,
        mut get: impl FnMut(&Part, &Path, u64) -> Result<()>,
    ) -> Result<PathBuf> {
        let partial = self.root.join(PARTIAL);
        let making = partial.join(&offer.folder);
        let named = |path: &Path| path.display().to_string();
        fs::create_dir_all(&making).with_context(|| named(&making))?;
        let _lock = lock(&partial.join(format!("{}.lock", offer.folder)))?;
        // Another process may have installed it in the meantime.
        if let Some(installed) = self.installed(&offer.folder)? {
            return Ok(installed);
        }
        fs::create_dir_all(&making).with_context(|| named(&making))?;
        let mut before = 0u64;
        for part in &offer.parts {
            get(part, &making.join(&part.file), before)?;
            before = before.saturating_add(part.size);
        }
        self.sweep(offer, &making)?;
        let mut opens = File::create(making.join(OPENS)).with_context(|| named(&making))?;
        let written = opens.write_all(offer.opens.as_bytes()).and_then(|()| opens.sync_all());
        written.with_context(|| named(&making))?;
        let place = self.root.join(&offer.folder);
        // The existing file or folder is not a voice, as checked above: perhaps the remains of one that was
        // deleted by hand.
        if fs::symlink_metadata(&place).is_ok() {
            fs::remove_dir(&place)
                .with_context(|| format!("{} is in the way and not empty; move it away", place.display()))?;
        }
        fs::rename(&making, &place).with_context(|| named(&place))?;
        Ok(place.join(&offer.opens))
    }

    /// Removes files that an earlier attempt downloaded of another version.
    fn sweep(&self, offer: &Offer, making: &Path) -> Result<()> {
        for entry in fs::read_dir(making).with_context(|| making.display().to_string())? {
            let entry = entry.with_context(|| making.display().to_string())?;
            let name = entry.file_name();
            if !offer.parts.iter().any(|part| name == *part.file) {
                fs::remove_file(entry.path()).with_context(|| entry.path().display().to_string())?;
            }
        }
        Ok(())
    }

    pub(super) fn keep_index(&self, bytes: &[u8]) -> Result<()> {
        fs::create_dir_all(&self.root)?;
        let mut file = NamedTempFile::new_in(&self.root)?;
        file.write_all(bytes)?;
        file.persist(self.root.join(INDEX))?;
        Ok(())
    }

    pub(super) fn read_index(&self) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(INDEX);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result
                .and_then(|file| read(file, LONGEST))
                .map(Some)
                .with_context(|| path.display().to_string()),
        }
    }
}

fn read(file: File, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(longest).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A lock held while a voice is downloaded, so that two processes do not write the same file. It ends with
/// the process, however that ends.
fn lock(path: &Path) -> Result<File> {
    let name = || path.display().to_string();
    let file = File::options().create(true).truncate(false).write(true).open(path).with_context(name)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tracing::warn!("another process is downloading this voice; waiting for it");
            file.lock().with_context(name)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(name),
    }
    Ok(file)
}
