//! A file that takes its place only when it is complete.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::live::{self, Live};
use crate::Error;

/// Files waiting for their places are called `.vitstream-XXXXXX.part`, without their final name, which may
/// already have the maximum length.
const PREFIX: &str = ".vitstream-";
const SUFFIX: &str = ".part";

/// Limit on how often a file is created again because another process mistook it for a leftover just before
/// it was locked.
const TRIES: usize = 8;

/// A file written next to its final place. It is removed unless it is [placed](Self::place).
pub(super) struct Part {
    pub(super) file: File,
    pub(super) path: PathBuf,
    placed: bool,
}

impl Part {
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let mut live = live::lock();
        for _ in 0..TRIES {
            let mut code = None;
            let created = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).make_in(directory, |path| {
                // The umask determines the permissions, as for any new file.
                let file = File::options().read(true).write(true).create_new(true).open(path);
                file.inspect_err(|error| code = error.raw_os_error())
            });
            // The bare error: the path that `tempfile` would name is unknown to the user.
            let created = created.map_err(|error| code.map_or(error, io::Error::from_raw_os_error))?;
            let (file, path) = created.keep().map_err(|error| error.error)?;
            // The lock shows that the file is still being written. Where files cannot be locked, none is
            // treated as a leftover.
            let _ = file.try_lock();
            if is_linked(&file)? {
                live.add(&path);
                return Ok(Self { file, path, placed: false });
            }
        }
        Err(io::Error::other("other programs keep removing the files that are written here"))
    }

    /// Renames the file, which is complete and flushed, to `path`.
    pub(super) fn place(mut self, path: &Path, live: &mut Live) -> io::Result<()> {
        let renamed = fs::rename(&self.path, path);
        if renamed.is_err() {
            let _ = fs::remove_file(&self.path);
        }
        live.forget(&self.path);
        self.placed = true;
        renamed
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.path);
            live::lock().forget(&self.path);
        }
    }
}

#[cfg(unix)]
fn is_linked(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.nlink() > 0)
}

#[cfg(not(unix))]
fn is_linked(_: &File) -> io::Result<bool> {
    Ok(true)
}

/// Removes what killed processes left in `directory`: parts that are not locked.
pub(super) fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_part = |name: &OsStr| {
            let name = name.to_str();
            name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
        };
        // Checks the entry itself, without following links.
        if !is_part(&entry.file_name()) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes renames and links in `directory` durable against a loss of power.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(directory)?.sync_all().or_else(|error| match error.kind() {
        // Some file systems do not support this.
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => Ok(()),
        _ => Err(error),
    })?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}

/// A file written by a command, completely or not at all. Anything that is not a regular file, such as a pipe
/// or a device, is written directly.
pub struct Output {
    /// The path in the caller's spelling.
    path: PathBuf,
    target: Target,
}

enum Target {
    /// A stream, in which written data cannot be changed.
    Stream(File),
    /// A part, and its final place.
    Part(BufWriter<Part>, PathBuf),
}

impl Write for Part {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Output {
    /// Creates the file at `path`. A link to a file is kept, and the file that it points to is replaced.
    ///
    /// # Errors
    /// When `path` is a directory or a dangling link, or its directory does not exist or cannot be written
    /// to.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let problem = |problem: &str| Error::Output { path: path.to_owned(), problem: problem.to_owned() };
        let place = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => fs::canonicalize(path).map_err(|_| {
                problem("is a link whose target does not exist: remove it, or name another file")
            })?,
            _ => path.to_owned(),
        };
        match fs::metadata(&place) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(problem("expected the name of a file, found a directory"));
            }
            Ok(metadata) if !metadata.is_file() => {
                let stream = File::options().write(true).open(&place).map_err(Error::io(path))?;
                return Ok(Self { path: path.to_owned(), target: Target::Stream(stream) });
            }
            _ => {}
        }
        let directory = parent(&place);
        if !directory.is_dir() {
            return Err(problem(&format!("there is no directory {}", directory.display())));
        }
        let part = Part::create(directory).map_err(Error::io(path))?;
        Ok(Self { path: path.to_owned(), target: Target::Part(BufWriter::new(part), place) })
    }

    /// Returns true if the output is read immediately, so that nothing can be changed in it later.
    pub fn is_stream(&self) -> bool {
        matches!(self.target, Target::Stream(_))
    }

    /// Flushes the file and puts it into its place.
    ///
    /// # Errors
    /// When the disk is full, or the file cannot be placed; the previous file is then unchanged.
    pub fn finish(self) -> Result<(), Error> {
        let Self { path, target } = self;
        let Target::Part(part, place) = target else { return Ok(()) };
        let finish = || {
            let part = part.into_inner().map_err(|error| error.into_error())?;
            part.file.sync_all()?;
            part.place(&place, &mut live::lock())?;
            sync_directory(parent(&place))
        };
        finish().map_err(Error::io(&path))
    }

    /// As [`finish`](Self::finish), for a name that the user did not choose: an existing file is kept.
    ///
    /// # Errors
    /// When there is a file already that is not the same to the last byte.
    pub fn finish_anew(mut self) -> Result<(), Error> {
        if let Target::Part(part, place) = &mut self.target
            && fs::exists(&*place).map_err(Error::io(&self.path))?
        {
            if part
                .flush()
                .and_then(|()| is_same(&mut part.get_mut().file, place))
                .map_err(Error::io(&self.path))?
            {
                return Ok(());
            }
            let problem =
                "exists already, and differs from what is written now: delete it, or name another directory";
            return Err(Error::Output { path: self.path, problem: problem.to_owned() });
        }
        self.finish()
    }
}

/// Whether a file has the same content as that at `path`.
fn is_same(file: &mut File, path: &Path) -> io::Result<bool> {
    let mut other = File::open(path)?;
    if file.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    file.rewind()?;
    let (mut ours, mut theirs) = (BufReader::new(file), BufReader::new(&mut other));
    loop {
        let (a, b) = (ours.fill_buf()?, theirs.fill_buf()?);
        let length = a.len().min(b.len());
        if a[..length] != b[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(a.len() == b.len());
        }
        ours.consume(length);
        theirs.consume(length);
    }
}

impl Write for Output {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Stream(stream) => stream.write(buffer),
            Target::Part(part, _) => part.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Stream(stream) => stream.flush(),
            Target::Part(part, _) => part.flush(),
        }
    }
}

impl Seek for Output {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match &mut self.target {
            Target::Stream(stream) => stream.seek(to),
            Target::Part(part, _) => part.seek(to),
        }
    }
}

/// Writes `bytes` to `path`, completely or not at all: see [`Output`].
///
/// # Errors
/// As [`Output::create`] and [`Output::finish`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut output = Output::create(path)?;
    output.write_all(bytes).map_err(Error::io(path))?;
    output.finish()
}

/// The directory that contains `path`.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::super::tests::names;
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole_with_the_mode_of_any_new_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new");
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"0123").unwrap();
        output.seek(SeekFrom::Start(0)).unwrap();
        output.write_all(b"x").unwrap();
        assert!(!path.exists());
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x123");
        let usual = root.path().join("usual");
        fs::write(&usual, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&usual));
        assert_eq!(names(root.path()), ["new", "usual"]);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut output = Output::create(&root.path().join("new")).unwrap();
        output.write_all(b"0123").unwrap();
        drop(output);
        assert!(names(root.path()).is_empty());
    }

    #[test]
    fn what_is_written_anew_replaces_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new");
        let large = vec![7; 1 << 20];
        let mut other = large.clone();
        *other.last_mut().unwrap() = 8;
        let write = |bytes: &[u8]| {
            let mut output = Output::create(&path).unwrap();
            output.write_all(bytes).unwrap();
            output.finish_anew()
        };
        write(&large).unwrap();
        write(&large).unwrap();
        for bytes in [&other, &large[1..], &[]] {
            let problem = write(bytes).unwrap_err().to_string();
            assert!(problem.contains("exists already"), "{problem}");
        }
        assert!(fs::read(&path).unwrap() == large);
        assert_eq!(names(root.path()), ["new"]);
    }

    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let (file, link) = (root.path().join("file"), root.path().join("link"));
        fs::write(&file, "old").unwrap();
        symlink("file", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn what_is_no_place_for_a_file_is_named_as_the_user_calls_it() {
        let root = tempfile::tempdir().unwrap();
        let dangling = root.path().join("dangling");
        symlink("nothing", &dangling).unwrap();
        let directory = root.path().join("directory");
        fs::create_dir(&directory).unwrap();
        let absent = root.path().join("absent/x.wav");
        for (path, part) in [
            (&dangling, "a link whose target does not exist"),
            (&directory, "found a directory"),
            (&absent, "there is no directory"),
        ] {
            let error = write(path, b"new").unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert!(error.contains(part) && !error.contains(PREFIX), "{error}");
        }
        assert_eq!(names(root.path()), ["dangling", "directory"]);
    }

    #[test]
    fn leftovers_are_swept_and_what_others_write_is_not() {
        let root = tempfile::tempdir().unwrap();
        let living = Part::create(root.path()).unwrap();
        let leftover = root.path().join(".vitstream-killed.part");
        fs::write(&leftover, "half").unwrap();
        fs::write(root.path().join("other.part"), "").unwrap();
        sweep(root.path());
        assert!(!leftover.exists());
        assert_eq!(fs::metadata(&living.path).unwrap().ino(), living.file.metadata().unwrap().ino());
        drop(living);
        assert_eq!(names(root.path()), ["other.part"]);
    }
}
