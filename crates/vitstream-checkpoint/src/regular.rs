//! Opens files for reading. A path given by a user or by a file can lead to anything: a pipe that waits for
//! its writer, an endless device, a folder. Only regular files are ever opened.

use std::fs::{self, File, FileType, Metadata};
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, ErrorKind};

/// Opens a regular file for reading, following links.
///
/// # Errors
/// When the file does not exist, cannot be opened, or is a directory, pipe, socket or device.
pub fn regular_file(path: &Path) -> Result<File, Error> {
    let open = || {
        // Checked before opening, because opening a pipe would wait for its writer, and opening a device can
        // start it.
        check(&fs::metadata(path).map_err(Error::io)?)?;
        let file = File::open(path).map_err(Error::io)?;
        // Checked again on the opened file, because the path may lead to something else by now.
        check(&file.metadata().map_err(Error::io)?)?;
        Ok(file)
    };
    open().map_err(|e: Error| e.in_file(path))
}

/// The contents of a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`regular_file`], and when the file is longer or cannot be read.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = regular_file(path)?;
    let read = || {
        let length = file.metadata().map_err(Error::io)?.len();
        if length > limit {
            return Err(Error::limit("bytes", limit).found(format!("{length} bytes")));
        }
        // Files whose length the system does not report, such as those below /proc, may also be endless.
        let mut contents = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        (&file).take(limit + 1).read_to_end(&mut contents).map_err(Error::io)?;
        if contents.len() as u64 > limit {
            return Err(Error::limit("bytes", limit));
        }
        Ok(contents)
    };
    read().map_err(|e: Error| e.in_file(path))
}

fn check(metadata: &Metadata) -> Result<(), Error> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotAFile(describe(metadata.file_type()))))
}

fn describe(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a directory" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str, expected: &str) {
        let path = Path::new(path);
        for error in [regular_file(path).err(), read_file(path, 100).err()] {
            let error = error.expect("refused").to_string();
            assert!(error.contains(expected) && error.contains(&*path.to_string_lossy()), "{error}");
        }
    }

    #[test]
    fn only_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let name = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        refused(&name(""), "expected a file, found a directory");
        refused(&name("none"), "none");
        #[cfg(unix)]
        {
            refused("/dev/null", "found a device");
            let socket = name("socket");
            let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            refused(&socket, "found a socket");
            let pipe = name("pipe");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            if made.is_ok_and(|made| made.success()) {
                refused(&pipe, "found a named pipe");
                std::os::unix::fs::symlink(&pipe, name("link")).unwrap();
                refused(&name("link"), "found a named pipe");
            } else {
                eprintln!("skipped: there is no mkfifo to make a pipe with");
            }
        }
        fs::write(name("file"), b"contents").unwrap();
        assert_eq!(read_file(name("file").as_ref(), 8).unwrap(), b"contents");
        let error = read_file(name("file").as_ref(), 7).unwrap_err().to_string();
        assert!(error.contains("more than 7 bytes"), "{error}");
    }

    /// The system reports a length of 0 for such a file.
    #[test]
    fn files_without_a_length_are_bounded() {
        let path = Path::new("/proc/self/maps");
        if !path.exists() {
            eprintln!("skipped: there is no /proc");
            return;
        }
        let error = read_file(path, 16).unwrap_err().to_string();
        assert!(error.contains("more than 16 bytes"), "{error}");
    }
}
