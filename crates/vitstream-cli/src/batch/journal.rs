//! The journal of finished files, one line of JSON each, so that work can continue after any interruption,
//! and a file is never mistaken for that of another line or voice.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Shard;
use super::place::{Place, STATE};

/// A complete file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Done {
    file: String,
    /// The content that it was made from.
    pub(super) content: String,
    /// The hash of the file.
    pub(super) sha256: String,
    pub(super) bytes: u64,
    pub(super) samples: u64,
}

/// The files finished by all shards, and the journal of this one.
pub(super) struct Journal {
    dir: PathBuf,
    done: HashMap<String, Done>,
    file: Mutex<File>,
    prefix: String,
    /// Held while this shard works.
    _lock: File,
}

impl Journal {
    /// Opens the journal in the output folder `root`, and removes unfinished files of an earlier run of this
    /// shard.
    pub(super) fn open(root: &Path, shard: Shard) -> Result<Self> {
        let dir = root.join(STATE);
        let named = || dir.display().to_string();
        fs::create_dir_all(&dir).with_context(named)?;
        let prefix = format!("{}-of-{}", shard.index, shard.of);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(format!("{prefix}.lock")))
            .with_context(named)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{}: another process is at work on shard {shard}", root.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(named),
        }
        let mut done = HashMap::new();
        for entry in fs::read_dir(&dir).with_context(named)? {
            let entry = entry.with_context(named)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".jsonl") {
                read(&entry.path(), &mut done).with_context(|| entry.path().display().to_string())?;
            } else if name.starts_with(&format!("{prefix}+")) {
                fs::remove_file(entry.path()).with_context(|| entry.path().display().to_string())?;
            }
        }
        let path = dir.join(format!("{prefix}.jsonl"));
        let mut file = File::options().create(true).append(true).open(&path).with_context(named)?;
        // The last line may be incomplete.
        if file.metadata().with_context(named)?.len() > 0 {
            file.write_all(b"\n").with_context(named)?;
        }
        Ok(Self { dir, done, file: Mutex::new(file), prefix, _lock: lock })
    }

    /// The entry for the file at `place`.
    pub(super) fn find(&self, place: &Place) -> Option<&Done> {
        self.done.get(place.as_str())
    }

    /// A temporary file on the same disk as its final place.
    pub(super) fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.prefix(&format!("{}+", self.prefix)).tempfile_in(&self.dir)
    }

    pub(super) fn add(&self, place: &Place, done: &mut Done) -> io::Result<()> {
        place.as_str().clone_into(&mut done.file);
        let mut line = serde_json::to_vec(done)?;
        line.push(b'\n');
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

impl Done {
    pub(super) fn new(content: String, sha256: String, bytes: u64, samples: u64) -> Self {
        Self { file: String::new(), content, sha256, bytes, samples }
    }
}

fn read(path: &Path, done: &mut HashMap<String, Done>) -> io::Result<()> {
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        // An incomplete line belongs to a file that is created again.
        if let Ok(entry) = serde_json::from_slice::<Done>(&line?) {
            done.insert(entry.file.clone(), entry);
        }
    }
    Ok(())
}
