//! All files of an export or none: everything is written beside its place first, and only then renamed.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::Error;

/// Files that are ready to take their places in one directory.
pub(crate) struct Commit {
    directory: PathBuf,
    /// The outermost directory that had to be made, to be removed again if nothing comes of it.
    made: Option<PathBuf>,
    ready: Vec<(String, NamedTempFile)>,
    obsolete: Vec<String>,
}

impl Commit {
    /// Makes the directory, with its parents, if it is not there.
    pub(crate) fn begin(directory: &Path) -> Result<Self, Error> {
        let made =
            directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).last();
        let made = made.map(Path::to_owned);
        let commit = Self { directory: directory.to_owned(), made, ready: Vec::new(), obsolete: Vec::new() };
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        Ok(commit)
    }

    /// Writes a file beside its place. Returns its size in bytes.
    pub(crate) fn write(
        &mut self,
        name: &str,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, Error> {
        let path = self.directory.join(name);
        let mut file = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".part")
            .tempfile_in(&self.directory)
            .map_err(Error::io(&path))?;
        let write = |file: &mut NamedTempFile| {
            let mut buffered = BufWriter::with_capacity(1 << 16, file.as_file_mut());
            content(&mut buffered)?;
            buffered.flush()?;
            drop(buffered);
            share(file.as_file())?;
            file.as_file().metadata().map(|metadata| metadata.len())
        };
        let size = write(&mut file).map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<Interrupted>() => Error::Interrupted,
            _ => Error::Io { path, source: error },
        })?;
        self.ready.push((name.to_owned(), file));
        Ok(size)
    }

    /// Says that a file of this name, if there is one, does not belong to what is being written.
    pub(crate) fn remove(&mut self, name: &str) {
        self.obsolete.push(name.to_owned());
    }

    /// Puts all files into their places. When one cannot be put there, the old ones come back.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let backup = tempfile::Builder::new()
            .prefix(".replaced.")
            .tempdir_in(&self.directory)
            .map_err(Error::io(&self.directory))?;
        let mut undo: Vec<Step> = Vec::new();
        let result = self.swap(backup.path(), &mut undo);
        if result.is_err() {
            for step in undo.into_iter().rev() {
                // Nothing better can be done about a failure here than to report the first one.
                let _ = match step {
                    Step::Placed(path) => fs::remove_file(path),
                    Step::Saved { from, to } => fs::rename(to, from),
                };
            }
            return result;
        }
        self.made = None;
        Ok(())
    }

    fn swap(&mut self, backup: &Path, undo: &mut Vec<Step>) -> Result<(), Error> {
        let names = self.ready.iter().map(|(name, _)| name.clone()).chain(self.obsolete.iter().cloned());
        for name in names {
            let (from, to) = (self.directory.join(&name), backup.join(&name));
            match fs::rename(&from, &to) {
                Ok(()) => undo.push(Step::Saved { from, to }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { path: from, source }),
            }
        }
        for (name, file) in self.ready.drain(..) {
            let path = self.directory.join(name);
            file.persist(&path).map_err(|error| Error::Io { path: path.clone(), source: error.error })?;
            undo.push(Step::Placed(path));
        }
        Ok(())
    }
}

/// Temporary files are private to their owner; what takes their place should be readable as any new file is.
#[cfg(unix)]
fn share(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn share(_: &fs::File) -> io::Result<()> {
    Ok(())
}

/// What was done, to be undone.
enum Step {
    Placed(PathBuf),
    Saved { from: PathBuf, to: PathBuf },
}

impl Drop for Commit {
    fn drop(&mut self) {
        self.ready.clear();
        if let Some(made) = &self.made {
            // Removes empty directories only, from the innermost outwards.
            for directory in self.directory.ancestors().take_while(|path| path.starts_with(made)) {
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

/// The error that a writer gives when the caller has asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_appear_together() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        let mut commit = Commit::begin(&directory).unwrap();
        assert_eq!(commit.write("one", |out| out.write_all(b"1")).unwrap(), 1);
        commit.write("two", |out| out.write_all(b"22")).unwrap();
        assert!(!directory.join("one").exists());
        commit.finish().unwrap();
        assert_eq!(names(&directory), ["one", "two"]);
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        let mut commit = Commit::begin(&directory).unwrap();
        commit.write("one", |out| out.write_all(b"1")).unwrap();
        let full = commit.write("two", |_| Err(io::Error::from(io::ErrorKind::StorageFull)));
        assert!(full.unwrap_err().to_string().contains("two"));
        drop(commit);
        assert!(names(root.path()).is_empty());
    }

    #[test]
    fn old_files_come_back_when_one_cannot_be_placed() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("one"), "old").unwrap();
        fs::write(root.path().join("gone"), "old").unwrap();
        let mut commit = Commit::begin(root.path()).unwrap();
        commit.write("one", |out| out.write_all(b"new")).unwrap();
        commit.write("two", |out| out.write_all(b"new")).unwrap();
        commit.remove("gone");
        // The file that waits to become `two` disappears.
        fs::remove_file(commit.ready[1].1.path()).unwrap();
        assert!(commit.finish().is_err());
        assert_eq!(names(root.path()), ["gone", "one"]);
        assert_eq!(fs::read_to_string(root.path().join("one")).unwrap(), "old");
    }

    #[test]
    fn obsolete_files_go() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("gone"), "old").unwrap();
        let mut commit = Commit::begin(root.path()).unwrap();
        commit.write("one", |out| out.write_all(b"new")).unwrap();
        commit.remove("gone");
        commit.remove("never there");
        commit.finish().unwrap();
        assert_eq!(names(root.path()), ["one"]);
    }
}
