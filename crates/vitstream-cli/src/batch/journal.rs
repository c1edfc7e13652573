//! What is finished. A line of JSON a file, so that work can go on after whatever ended it, and a file is never taken for
//! that of another line or voice.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Shard;
use super::place::{Place, STATE};

/// A file that is whole.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Done {
    file: String,
    /// What it was made of.
    pub(super) content: String,
    /// What it has become.
    pub(super) sha256: String,
    pub(super) bytes: u64,
    pub(super) samples: u64,
}

/// What all shards have finished, and where this one writes what it finishes.
pub(super) struct Journal {
    dir: PathBuf,
    done: HashMap<String, Done>,
    file: Mutex<File>,
    prefix: String,
    /// Held as long as this shard works.
    _lock: File,
}

impl Journal {
    /// Opens the journal in the output folder `root`, and clears what an earlier run of this shard left half done.
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
        // The last line may be half a line.
        if file.metadata().with_context(named)?.len() > 0 {
            file.write_all(b"\n").with_context(named)?;
        }
        Ok(Self { dir, done, file: Mutex::new(file), prefix, _lock: lock })
    }

    /// What is known of the file at `place`.
    pub(super) fn find(&self, place: &Place) -> Option<&Done> {
        self.done.get(place.as_str())
    }

    /// A file that is not yet in its place, which is on the same disk.
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
        // A line that is half written is of a file that is made again.
        if let Ok(entry) = serde_json::from_slice::<Done>(&line?) {
            done.insert(entry.file.clone(), entry);
        }
    }
    Ok(())
}
