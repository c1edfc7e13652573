//! Voices by name: finds them in the user's data folder, or downloads them from where they are published.
//!
//! A name is one of [Piper's published voices](index) or a repository of the Hugging Face hub. A download is
//! limited to the size in the index, checked against the index, and put in its place completely or not at
//! all. Files are only data: only the kinds of files that voices consist of are downloaded, and none is
//! executed.

mod download;
mod http;
mod hub;
mod index;
mod name;
mod store;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use directories::ProjectDirs;

pub(crate) use index::{Entry, Index};
pub(crate) use name::Name;

use http::Client;
use store::Store;

/// The hub's address, unless the environment sets another.
const HUB: &str = "https://huggingface.co";

/// The repository of Piper's voices.
const PIPER: &str = "rhasspy/piper-voices/resolve/main";

/// The maximum time without data, the same as in the hub's own programs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum for `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds.
const LONGEST_TIMEOUT: u64 = 3_600;

/// One file of a voice.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    url: String,
    /// Its name in the voice's folder.
    file: String,
    size: u64,
    digest: Option<Digest>,
}

/// The expected hash of the content, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Digest {
    Md5(String),
    Sha256(String),
}

/// A voice that can be downloaded.
pub(crate) struct Offer {
    folder: String,
    /// The name of the file to open.
    opens: String,
    parts: Vec<Part>,
}

impl Offer {
    /// Total size of all files, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).fold(0, u64::saturating_add)
    }
}

/// The sources of voices, and the folder in which they are kept.
pub(crate) struct Voices {
    store: Store,
    client: Client,
    piper: String,
    hub: String,
}

impl Voices {
    /// Reads the environment: `VITSTREAM_VOICES_URL` is the address of Piper's index; `HF_ENDPOINT`,
    /// `HF_TOKEN`, `HF_HUB_OFFLINE` and `HF_HUB_DOWNLOAD_TIMEOUT` have the same meaning as for the hub's own
    /// programs.
    pub(crate) fn from_env() -> Result<Self> {
        let hub = address("HF_ENDPOINT")?.unwrap_or_else(|| HUB.to_owned());
        let piper = address("VITSTREAM_VOICES_URL")?.unwrap_or_else(|| format!("{hub}/{PIPER}"));
        let offline = text("HF_HUB_OFFLINE")?
            .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str()));
        let timeout = match text("HF_HUB_DOWNLOAD_TIMEOUT")? {
            None => TIMEOUT,
            Some(value) => match value.parse() {
                Ok(seconds @ 1..=LONGEST_TIMEOUT) => Duration::from_secs(seconds),
                _ => {
                    bail!("HF_HUB_DOWNLOAD_TIMEOUT: expected 1 to {LONGEST_TIMEOUT} seconds, found {value:?}")
                }
            },
        };
        let client = Client::new(&hub, text("HF_TOKEN")?, offline, timeout)?;
        let data = ProjectDirs::from("", "", "vitstream")
            .context("this user has no data folder; give the voice's file or folder instead of its name")?;
        Ok(Self { store: Store::new(data.data_dir().join("voices")), client, piper, hub })
    }

    /// Returns the path to open for this voice, if it is on this machine.
    pub(crate) fn find(&self, name: &Name) -> Result<Option<PathBuf>> {
        if let Some(path) = self.store.find(name)? {
            return Ok(Some(path));
        }
        // It may be a former name, which the last downloaded list contains.
        let (Name::Piper(alias), Some(kept)) = (name, self.store.read_index()?) else { return Ok(None) };
        match Index::parse(&kept).and_then(|index| index.find(alias).map(|entry| entry.key.clone())) {
            Ok(key) => self.store.find(&Name::Piper(key)),
            Err(_) => Ok(None),
        }
    }

    /// Returns the path to open for a voice of the list, if it is on this machine.
    pub(crate) fn find_published(&self, entry: &Entry) -> Result<Option<PathBuf>> {
        self.store.find(&Name::Piper(entry.key.clone()))
    }

    /// Returns Piper's published voices; the last downloaded list if the network must not be used.
    pub(crate) fn index(&self) -> Result<Index> {
        if self.client.is_offline() {
            let kept = self.store.read_index()?;
            let kept = kept.context(
                "HF_HUB_OFFLINE is set, and the list of voices was never downloaded on this machine",
            )?;
            return Index::parse(&kept);
        }
        let bytes = self.client.get_whole(&format!("{}/{}", self.piper, index::FILE), index::LONGEST)?;
        let index = Index::parse(&bytes)?;
        if let Err(error) = self.store.keep_index(&bytes) {
            tracing::warn!("the list of voices could not be saved: {error:#}");
        }
        Ok(index)
    }

    /// Describes the download of `name`.
    pub(crate) fn offer(&self, name: &Name) -> Result<Offer> {
        match name {
            Name::Piper(key) => self.index()?.find(key)?.offer(&self.piper),
            Name::Hub(repository) => hub::offer(&self.client, &self.hub, repository),
        }
    }

    /// Downloads a voice unless it is on this machine already, and returns the path to open. `progress`
    /// receives the number of bytes present.
    pub(crate) fn get(&self, offer: &Offer, progress: &mut dyn FnMut(u64)) -> Result<PathBuf> {
        self.store.install(offer, |part, partial, before| {
            download::download(&self.client, part, partial, &mut |bytes| progress(before + bytes))
        })
    }
}

/// Interprets `path`, which does not exist, as a voice's name, and returns the path of that voice's file.
///
/// `get` is called for a voice that is not installed; it may download it, or return an error that explains
/// how to.
pub(crate) fn resolve(path: &Path, get: impl FnOnce(&Voices, &Name) -> Result<PathBuf>) -> Result<PathBuf> {
    let name = match path.to_str().map(Name::parse) {
        // The name of a published voice has no file extension; a path with one is a file that is missing.
        Some(Ok(Name::Piper(_))) if path.extension().is_some() => return Ok(path.to_owned()),
        Some(Ok(name)) if !path.exists() => name,
        // For example `hf:` with something that is not a repository.
        Some(Err(error)) if name::is_remote(path) => return Err(error),
        _ => return Ok(path.to_owned()),
    };
    let voices = Voices::from_env()?;
    match voices.find(&name)? {
        Some(installed) => Ok(installed),
        None => get(&voices, &name),
    }
}

fn text(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) if value.trim().is_empty() => Ok(None),
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => bail!("{name}: not UTF-8"),
    }
}

fn address(name: &str) -> Result<Option<String>> {
    let Some(value) = text(name)? else { return Ok(None) };
    ensure!(
        http::origin(&value).is_some(),
        "{name}: expected an address such as https://example.org/voices, found {value:?}"
    );
    Ok(Some(value.trim_end_matches('/').to_owned()))
}
