//! Files next to a graph that hold its elements, as PyTorch's exporter writes them by default.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vitstream_checkpoint::MappedFile;

/// The folder of a graph, and the files mapped from it.
pub(crate) struct Beside {
    folder: PathBuf,
    pub(crate) files: Vec<MappedFile>,
}

impl Beside {
    /// The folder of the graph in the file `graph`.
    pub(crate) fn of(graph: &Path) -> Self {
        Self { folder: graph.parent().map(Path::to_owned).unwrap_or_default(), files: Vec::new() }
    }

    /// Maps the file with the plain name `name`. The error is a reason for a message that names the file.
    pub(crate) fn open(&mut self, name: &str) -> Result<Bytes, String> {
        let path = self.folder.join(name);
        let metadata = fs::symlink_metadata(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such file next to the graph: put both into one folder".to_owned()
            }
            _ => error.to_string(),
        })?;
        if metadata.is_symlink() {
            // The graph determines what is read, so a link put there must not lead out of the folder.
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
