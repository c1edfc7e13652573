//! Files beside a graph that hold its elements: what PyTorch's exporter writes by default.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vitstream_checkpoint::MappedFile;

/// The folder of a graph, and what was mapped of it.
pub(crate) struct Beside {
    folder: PathBuf,
    pub(crate) files: Vec<MappedFile>,
}

impl Beside {
    /// Of the graph in the file `graph`.
    pub(crate) fn of(graph: &Path) -> Self {
        Self { folder: graph.parent().map(Path::to_owned).unwrap_or_default(), files: Vec::new() }
    }

    /// Maps the file `name`, a plain name. The error says why it cannot be read, for a message that names the file.
    pub(crate) fn open(&mut self, name: &str) -> Result<Bytes, String> {
        let path = self.folder.join(name);
        let metadata = fs::symlink_metadata(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such file beside the graph: put both into one folder".to_owned()
            }
            _ => error.to_string(),
        })?;
        if metadata.is_symlink() {
            // A graph tells by itself what is read, so a link that someone laid there leads nowhere else.
            let [folder, target] = [self.folder_or_here(), path.as_path()].map(fs::canonicalize);
            let inside =
                matches!((&folder, &target), (Ok(folder), Ok(target)) if target.parent() == Some(folder));
            if !inside {
                return Err(
                    "a link that leads out of the graph's folder: put the file itself there".to_owned()
                );
            }
        }
        if !fs::metadata(&path).map_err(|error| error.to_string())?.is_file() {
            return Err("expected a file, found something else".to_owned());
        }
        let file = MappedFile::open(&path).map_err(|error| error.to_string())?;
        let bytes = file.bytes();
        self.files.push(file);
        Ok(bytes)
    }

    fn folder_or_here(&self) -> &Path {
        if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder }
    }
}
