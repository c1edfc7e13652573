//! Writes a single file or all files of a folder, completely or not at all.
//!
//! All files are first written next to their final places, complete and flushed, before any old file is
//! touched. In a folder, these steps follow:
//!
//! 1. Every old file receives a second name, a hard link (`.vitstream-old.NAME`; an empty
//!    `.vitstream-none.NAME` records that there was no old file).
//! 2. A file `.vitstream-unfinished` is created.
//! 3. The new files are renamed to their places, one by one. Each name refers to a complete file at every
//!    moment.
//! 4. `.vitstream-unfinished` is removed: from here on the new files are valid.
//! 5. The second names are removed.
//!
//! A process that is killed during step 3 leaves a mixture of old and new files, and the mark that says so.
//! [`vitstream_source::check_finished`] reports it to readers; the next export first restores the old files.
//! A process that is killed earlier or later leaves second names or parts, which the next export removes. A
//! lock on the folder keeps two exports apart.

mod file;
mod live;

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub use file::{Output, write};
use file::{Part, sweep, sync_directory};
use live::Live;
pub use live::abandon;
use same_file::is_same_file;
use vitstream_contract::files::UNFINISHED;

use crate::Error;

/// Prefix of the second name of an old file.
const OLD: &str = ".vitstream-old.";

/// Prefix of an empty file that records the absence of an old file.
const NONE: &str = ".vitstream-none.";

/// Limit on how often a directory is created again because another process removed it just before it was
/// locked.
const TRIES: usize = 8;

/// Files that are ready to take their places in a directory.
pub(crate) struct Staging {
    directory: PathBuf,
    /// Files that must never be replaced, whatever their names.
    inputs: Vec<PathBuf>,
    /// The outermost directory that was created; it is removed again if the export fails.
    made: Option<PathBuf>,
    ready: Vec<(String, Part)>,
    obsolete: Vec<String>,
    /// Keeps other exports out until it is dropped.
    _lock: Option<File>,
}

impl Staging {
    /// Creates the directory and its parents if they do not exist, restores what a killed export has mixed
    /// up, and removes its remains.
    /// `inputs` are files that must not be replaced.
    pub(crate) fn begin(directory: &Path, inputs: &[PathBuf]) -> Result<Self, Error> {
        let made = make(directory)?;
        // Without the lock the directory stays, even if it was created here: another export may be using it
        // by now, and removing it while it is still empty would make both fail.
        let lock = lock(directory).inspect_err(|_| live::lock().forget_made(directory))?;
        let staging = Self {
            directory: directory.to_owned(),
            inputs: inputs.to_vec(),
            made,
            ready: Vec::new(),
            obsolete: Vec::new(),
            _lock: lock,
        };
        let _live = live::lock();
        if directory.join(UNFINISHED).exists() {
            roll_back(directory)?;
        }
        remove_second_names(directory);
        sweep(directory);
        Ok(staging)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a file next to its final place. Returns its size in bytes.
    pub(crate) fn write(
        &mut self,
        name: &str,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, Error> {
        let path = self.directory.join(name);
        self.check_place(&path)?;
        let mut part = Part::create(&self.directory).map_err(Error::io(&path))?;
        let write = |part: &mut Part| {
            let mut buffered = BufWriter::with_capacity(1 << 16, &mut part.file);
            content(&mut buffered)?;
            buffered.flush()?;
            drop(buffered);
            part.file.sync_all()?;
            part.file.metadata().map(|metadata| metadata.len())
        };
        let size = write(&mut part).map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<Interrupted>() => Error::Interrupted,
            _ => Error::Io { path, source: error },
        })?;
        self.ready.push((name.to_owned(), part));
        Ok(size)
    }

    /// Marks a file of this name, if it exists, as not part of the new folder.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.check_place(&self.directory.join(name))?;
        self.obsolete.push(name.to_owned());
        Ok(())
    }

    /// Puts all files into their places. If one cannot be placed, the old files are restored.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let mut live = live::lock();
        let names: Vec<&String> = self.ready.iter().map(|(name, _)| name).chain(&self.obsolete).collect();
        for name in &names {
            self.check_place(&self.directory.join(name))?;
        }
        let kept = names.iter().try_for_each(|name| keep(&self.directory, name));
        let io = Error::io(&self.directory);
        let begun = kept.and_then(|()| {
            sync_directory(&self.directory)
                .and_then(|()| File::create_new(self.directory.join(UNFINISHED)))
                .and_then(|_| sync_directory(&self.directory))
                .map_err(io)
        });
        if let Err(error) = begun.and_then(|()| self.place(&mut live)) {
            if !self.directory.join(UNFINISHED).exists() {
                remove_second_names(&self.directory);
                return Err(error);
            }
            return match roll_back(&self.directory) {
                Ok(()) => Err(error),
                Err(worse) => Err(Error::Output {
                    path: self.directory.clone(),
                    problem: format!("{error}; then {worse}"),
                }),
            };
        }
        remove_second_names(&self.directory);
        live.complete();
        live.forget_made(&self.directory);
        self.made = None;
        Ok(())
    }

    /// Refuses to replace anything other than a regular file, or any of the inputs.
    fn check_place(&self, path: &Path) -> Result<(), Error> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
        };
        let problem = if !metadata.is_file() {
            let found = match metadata.file_type() {
                kind if kind.is_dir() => "a directory",
                kind if kind.is_symlink() => "a link",
                _ => "something else",
            };
            format!("expected a file to replace, found {found}: move it away, or name another directory")
        } else if self
            .inputs
            .iter()
            .any(|input| input.is_file() && is_same_file(input, path).unwrap_or(false))
        {
            "is read by this export and would be overwritten: name another directory".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Output { path: path.to_owned(), problem })
    }

    fn place(&mut self, live: &mut Live) -> Result<(), Error> {
        // Files left over when one fails are removed later, when nothing is locked.
        self.ready.reverse();
        while let Some((name, part)) = self.ready.pop() {
            let path = self.directory.join(name);
            part.place(&path, live).map_err(Error::io(&path))?;
        }
        for name in &self.obsolete {
            let path = self.directory.join(name);
            remove_if_there(&path).map_err(Error::io(&path))?;
        }
        sync_directory(&self.directory)
            .and_then(|()| fs::remove_file(self.directory.join(UNFINISHED)))
            .and_then(|()| sync_directory(&self.directory))
            .map_err(Error::io(&self.directory))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.ready.clear();
        if let Some(made) = &self.made {
            live::remove_empty(made, &self.directory);
            live::lock().forget_made(&self.directory);
        }
    }
}

/// Creates `directory` and returns the outermost directory that did not exist.
fn make(directory: &Path) -> Result<Option<PathBuf>, Error> {
    let mut live = live::lock();
    let absent =
        directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).last();
    if let Some(outermost) = absent {
        live.add_made(outermost, directory);
    }
    fs::create_dir_all(directory).map_err(|source| {
        if let Some(outermost) = absent {
            live::remove_empty(outermost, directory);
            live.forget_made(directory);
        }
        Error::Io { path: directory.to_owned(), source }
    })?;
    Ok(absent.map(Path::to_owned))
}

/// Locks `directory` itself, so that no lock file remains. `None` on systems that cannot lock directories.
fn lock(directory: &Path) -> Result<Option<File>, Error> {
    for _ in 0..TRIES {
        let file = match open_to_lock(directory) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // If a signal's handler has removed it, this waits until the process has ended.
                let _live = live::lock();
                fs::create_dir_all(directory).map_err(Error::io(directory))?;
                continue;
            }
            Err(error) => return Err(Error::Io { path: directory.to_owned(), source: error }),
        };
        match file.try_lock() {
            Ok(()) if is_still(&file, directory) => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let problem = "another export is writing to this directory: wait for it to finish, or name another directory";
                return Err(Error::Output { path: directory.to_owned(), problem: problem.to_owned() });
            }
            Err(TryLockError::Error(error)) => {
                log::warn!(
                    "{}: cannot be locked ({error}); make sure that no other export writes to it at the same time",
                    directory.display()
                );
                return Ok(None);
            }
        }
    }
    let problem = "other programs keep removing this directory".to_owned();
    Err(Error::Output { path: directory.to_owned(), problem })
}

#[cfg(unix)]
fn open_to_lock(directory: &Path) -> io::Result<File> {
    File::open(directory)
}

#[cfg(unix)]
fn is_still(file: &File, directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::metadata(directory)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

/// Other systems cannot open directories: a file in the directory is locked instead, and remains.
#[cfg(not(unix))]
fn open_to_lock(directory: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(directory.join(".vitstream-lock"))
}

#[cfg(not(unix))]
fn is_still(_: &File, _: &Path) -> bool {
    true
}

/// Gives the old file a second name, or records that there is none.
fn keep(directory: &Path, name: &str) -> Result<(), Error> {
    let (path, second) = (directory.join(name), directory.join(format!("{OLD}{name}")));
    let kept = match fs::hard_link(&path, &second) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            File::create_new(directory.join(format!("{NONE}{name}"))).map(drop)
        }
        // Not every file system supports hard links.
        Err(_) => fs::copy(&path, &second).and_then(|_| File::open(&second)?.sync_all()),
        Ok(()) => Ok(()),
    };
    kept.map_err(Error::io(&path))
}

/// The second names in `directory`: the original name, and whether there was a file.
fn second_names(directory: &Path) -> Vec<(PathBuf, String, bool)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (name, was_there) = match name.strip_prefix(OLD) {
                Some(name) => (name.to_owned(), true),
                None => (name.strip_prefix(NONE)?.to_owned(), false),
            };
            Some((entry.path(), name, was_there))
        })
        .collect()
}

fn remove_second_names(directory: &Path) {
    for (second, _, _) in second_names(directory) {
        let _ = fs::remove_file(second);
    }
}

/// Restores the old files. Files that cannot be restored keep their second names, and the error says so.
fn roll_back(directory: &Path) -> Result<(), Error> {
    let mut stuck = Vec::new();
    for (second, name, was_there) in second_names(directory) {
        let path = directory.join(&name);
        let back = if was_there {
            // If both names refer to the same file, renaming does nothing.
            fs::rename(&second, &path).and_then(|()| remove_if_there(&second))
        } else if vitstream_contract::files::is_one(&name) {
            remove_if_there(&path).and_then(|()| remove_if_there(&second))
        } else {
            remove_if_there(&second)
        };
        if let Err(error) = back {
            stuck.push(format!("{} of {name} ({error})", second.display()));
        }
    }
    if !stuck.is_empty() {
        let problem = format!(
            "the previous files could not be restored; they are kept as: {}. Rename them by hand, and remove {UNFINISHED}",
            stuck.join(", ")
        );
        return Err(Error::Output { path: directory.to_owned(), problem });
    }
    sync_directory(directory)
        .and_then(|()| remove_if_there(&directory.join(UNFINISHED)))
        .map_err(Error::io(directory))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The error that a writer returns after the caller has asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

#[cfg(test)]
mod tests {
    use vitstream_source::check_finished;

    use super::*;

    pub(super) fn names(directory: &Path) -> Vec<String> {
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
        let mut staging = Staging::begin(&directory, &[]).unwrap();
        assert_eq!(staging.write("one", |out| out.write_all(b"1")).unwrap(), 1);
        staging.write("two", |out| out.write_all(b"22")).unwrap();
        assert!(!directory.join("one").exists());
        staging.finish().unwrap();
        assert_eq!(names(&directory), ["one", "two"]);
    }

    #[test]
    fn of_two_at_once_one_makes_the_directory_and_writes() {
        let root = tempfile::tempdir().unwrap();
        for attempt in 0..200 {
            let directory = root.path().join(format!("{attempt}/a"));
            let export = || {
                let mut staging = Staging::begin(&directory, &[])?;
                staging.write("one", |out| out.write_all(b"1"))?;
                staging.finish()
            };
            let ends = std::thread::scope(|scope| {
                let both = [scope.spawn(export), scope.spawn(export)];
                both.map(|one| one.join().unwrap())
            });
            assert!(ends.iter().any(Result::is_ok), "{ends:?}");
            assert_eq!(names(&directory), ["one"]);
        }
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        let mut staging = Staging::begin(&directory, &[]).unwrap();
        staging.write("one", |out| out.write_all(b"1")).unwrap();
        let full = staging.write("two", |_| Err(io::Error::from(io::ErrorKind::StorageFull)));
        assert!(full.unwrap_err().to_string().contains("two"));
        drop(staging);
        assert!(names(root.path()).is_empty());
    }

    #[test]
    fn old_files_come_back_when_one_cannot_be_placed() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("one"), "old").unwrap();
        fs::write(root.path().join("gone"), "old").unwrap();
        let mut staging = Staging::begin(root.path(), &[]).unwrap();
        staging.write("one", |out| out.write_all(b"new")).unwrap();
        staging.write("two", |out| out.write_all(b"new")).unwrap();
        staging.remove("gone").unwrap();
        // The file waiting to become `two` disappears.
        fs::remove_file(&staging.ready[1].1.path).unwrap();
        assert!(staging.finish().is_err());
        assert_eq!(names(root.path()), ["gone", "one"]);
        assert_eq!(fs::read_to_string(root.path().join("one")).unwrap(), "old");
    }

    #[test]
    fn obsolete_files_go() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("gone"), "old").unwrap();
        let mut staging = Staging::begin(root.path(), &[]).unwrap();
        staging.write("one", |out| out.write_all(b"new")).unwrap();
        staging.remove("gone").unwrap();
        staging.remove("never there").unwrap();
        staging.finish().unwrap();
        assert_eq!(names(root.path()), ["one"]);
    }

    #[test]
    fn only_files_are_replaced_or_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("decoder.stream.onnx");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("mine"), "mine").unwrap();
        let mut staging = Staging::begin(root.path(), &[]).unwrap();
        for error in [
            staging.write("decoder.stream.onnx", |out| out.write_all(b"1")).map(drop).unwrap_err(),
            staging.remove("decoder.stream.onnx").unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains("decoder.stream.onnx") && error.contains("found a directory"), "{error}");
        }
        // A directory that appears while the others are written.
        staging.write("one", |out| out.write_all(b"1")).unwrap();
        fs::create_dir(root.path().join("one")).unwrap();
        let error = staging.finish().unwrap_err().to_string();
        assert!(error.contains("one: ") && error.contains("found a directory"), "{error}");
        assert_eq!(names(root.path()), ["decoder.stream.onnx", "one"]);
        assert_eq!(fs::read_to_string(folder.join("mine")).unwrap(), "mine");
    }

    #[test]
    fn no_input_is_replaced_by_whatever_name() {
        let root = tempfile::tempdir().unwrap();
        let input = root.path().join("config.txt");
        fs::write(&input, "input").unwrap();
        fs::hard_link(&input, root.path().join("config.json")).unwrap();
        let mut staging = Staging::begin(root.path(), &[input]).unwrap();
        let error = staging.write("config.json", |out| out.write_all(b"1")).unwrap_err().to_string();
        assert!(error.contains("config.json: is read by this export"), "{error}");
        assert!(staging.remove("config.json").is_err());
    }

    #[test]
    fn two_exports_do_not_write_to_one_directory_at_once() {
        let root = tempfile::tempdir().unwrap();
        let mut first = Staging::begin(root.path(), &[]).unwrap();
        first.write("one", |out| out.write_all(b"1")).unwrap();
        let error = Staging::begin(root.path(), &[]).err().unwrap().to_string();
        assert!(error.contains("another export"), "{error}");
        first.finish().unwrap();
        Staging::begin(root.path(), &[]).unwrap();
        assert_eq!(names(root.path()), ["one"]);
    }

    /// A folder in the state left by a killed export: new files in `placed`, old ones kept.
    fn torn(root: &Path, placed: &[&str]) {
        for (name, old) in [("decoder.onnx", true), ("encoder.onnx", true), ("config.json", false)] {
            if old {
                fs::write(root.join(name), "old").unwrap();
            }
            keep(root, name).unwrap();
        }
        File::create_new(root.join(UNFINISHED)).unwrap();
        for name in placed {
            fs::write(root.join("part"), "new").unwrap();
            fs::rename(root.join("part"), root.join(name)).unwrap();
        }
        fs::write(root.join(".vitstream-killed.part"), "new").unwrap();
    }

    #[test]
    fn a_killed_export_is_named_and_put_right_by_the_next() {
        for placed in [&[][..], &["encoder.onnx"], &["encoder.onnx", "decoder.onnx", "config.json"]] {
            let root = tempfile::tempdir().unwrap();
            torn(root.path(), placed);
            let error = check_finished(root.path()).unwrap_err().to_string();
            assert!(error.contains("was killed"), "{error}");
            // The old files are restored even if the new export fails.
            drop(Staging::begin(root.path(), &[]).unwrap());
            check_finished(root.path()).unwrap();
            assert_eq!(names(root.path()), ["decoder.onnx", "encoder.onnx"], "{placed:?}");
            for name in names(root.path()) {
                assert_eq!(fs::read_to_string(root.path().join(name)).unwrap(), "old", "{placed:?}");
            }
        }
    }

    /// If an export was killed after the mark was removed, the new files are valid, and nothing remains of
    /// the old ones.
    #[test]
    fn an_export_that_was_killed_at_its_very_end_counts() {
        let root = tempfile::tempdir().unwrap();
        torn(root.path(), &["encoder.onnx", "decoder.onnx", "config.json"]);
        fs::remove_file(root.path().join(UNFINISHED)).unwrap();
        check_finished(root.path()).unwrap();
        drop(Staging::begin(root.path(), &[]).unwrap());
        assert_eq!(names(root.path()), ["config.json", "decoder.onnx", "encoder.onnx"]);
        assert_eq!(fs::read_to_string(root.path().join("encoder.onnx")).unwrap(), "new");
    }

    #[test]
    fn what_cannot_be_put_back_is_kept_and_named() {
        let root = tempfile::tempdir().unwrap();
        torn(root.path(), &["encoder.onnx"]);
        fs::remove_file(root.path().join("encoder.onnx")).unwrap();
        fs::create_dir(root.path().join("encoder.onnx")).unwrap();
        let error = Staging::begin(root.path(), &[]).err().unwrap().to_string();
        assert!(error.contains(".vitstream-old.encoder.onnx") && error.contains("kept"), "{error}");
        assert_eq!(fs::read_to_string(root.path().join(".vitstream-old.encoder.onnx")).unwrap(), "old");
        check_finished(root.path()).unwrap_err();
    }

    #[test]
    fn a_strangers_leftovers_remove_no_other_files() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.txt"), "mine").unwrap();
        for name in [UNFINISHED, ".vitstream-none.thesis.txt", ".vitstream-none.tokens.txt"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        drop(Staging::begin(root.path(), &[]).unwrap());
        assert_eq!(names(root.path()), ["thesis.txt"]);
    }

    /// The handler of a signal removes what was begun and stays locked until the process has ended.
    #[test]
    fn nothing_is_created_after_a_signal() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("out");
        let handler = live::lock();
        let export = std::thread::spawn({
            let directory = directory.clone();
            move || lock(&directory).unwrap()
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!directory.exists());
        drop(handler);
        export.join().unwrap();
        assert!(directory.exists());
    }
}
