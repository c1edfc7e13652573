//! Voices by name: found in the user's data folder, or got from where they are published.
//!
//! A name is one of [Piper's published voices](index) or a repository of the Hugging Face hub. What is got is
//! bounded by what the index says, checked against it, and put in its place as a whole or not at all. Files are data: only
//! the kinds that voices consist of are taken, and none is executed.

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

/// Where the hub is, unless the environment says otherwise.
const HUB: &str = "https://huggingface.co";

/// The repository of Piper's voices.
const PIPER: &str = "rhasspy/piper-voices/resolve/main";

/// How long a server may be silent, as for the hub's own programs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most that may be asked for.
const LONGEST_TIMEOUT: u64 = 3_600;

/// One file that a voice consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    url: String,
    /// Its name in the voice's folder.
    file: String,
    size: u64,
    digest: Option<Digest>,
}

/// What the content must hash to, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Digest {
    Md5(String),
    Sha256(String),
}

/// A voice that can be got.
pub(crate) struct Offer {
    folder: String,
    /// The one of the files that is opened.
    opens: String,
    parts: Vec<Part>,
}

impl Offer {
    /// Bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).fold(0, u64::saturating_add)
    }
}

/// Where voices come from, and where they are kept.
pub(crate) struct Voices {
    store: Store,
    client: Client,
    piper: String,
    hub: String,
}

impl Voices {
    /// As the environment says: `VITSTREAM_VOICES_URL` is where Piper's index is, `HF_ENDPOINT`, `HF_TOKEN`,
    /// `HF_HUB_OFFLINE` and `HF_HUB_DOWNLOAD_TIMEOUT` mean what they mean to the hub's own programs.
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
            .context("this user has no folder for data; name the voice's file or folder instead")?;
        Ok(Self { store: Store::new(data.data_dir().join("voices")), client, piper, hub })
    }

    /// What to open for this voice, if it is on this machine.
    pub(crate) fn find(&self, name: &Name) -> Result<Option<PathBuf>> {
        if let Some(path) = self.store.find(name)? {
            return Ok(Some(path));
        }
        // It may go by a former name, which the list knows as it was last seen.
        let (Name::Piper(alias), Some(kept)) = (name, self.store.read_index()?) else { return Ok(None) };
        match Index::parse(&kept).and_then(|index| index.find(alias).map(|entry| entry.key.clone())) {
            Ok(key) => self.store.find(&Name::Piper(key)),
            Err(_) => Ok(None),
        }
    }

    /// What to open for a voice of the list.
    pub(crate) fn find_published(&self, entry: &Entry) -> Result<Option<PathBuf>> {
        self.store.find(&Name::Piper(entry.key.clone()))
    }

    /// Piper's published voices; as they were last seen when the network is not to be used.
    pub(crate) fn index(&self) -> Result<Index> {
        if self.client.is_offline() {
            let kept = self.store.read_index()?;
            let kept =
                kept.context("HF_HUB_OFFLINE is set, and the list of voices was never got on this machine")?;
            return Index::parse(&kept);
        }
        let bytes = self.client.get_whole(&format!("{}/{}", self.piper, index::FILE), index::LONGEST)?;
        let index = Index::parse(&bytes)?;
        if let Err(error) = self.store.keep_index(&bytes) {
            tracing::warn!("the list of voices could not be kept: {error:#}");
        }
        Ok(index)
    }

    /// What getting `name` would bring.
    pub(crate) fn offer(&self, name: &Name) -> Result<Offer> {
        match name {
            Name::Piper(key) => self.index()?.find(key)?.offer(&self.piper),
            Name::Hub(repository) => hub::offer(&self.client, &self.hub, repository),
        }
    }

    /// Gets a voice unless it is here already; returns what to open. `progress` is told how many bytes are there.
    pub(crate) fn get(&self, offer: &Offer, progress: &mut dyn FnMut(u64)) -> Result<PathBuf> {
        self.store.install(offer, |part, partial, before| {
            download::download(&self.client, part, partial, &mut |bytes| progress(before + bytes))
        })
    }
}

/// What the user may have meant by `path`, which does not exist: the file of an installed voice of this name.
///
/// `get` is asked for a voice that is not installed; it may get it, or say how.
pub(crate) fn resolve(path: &Path, get: impl FnOnce(&Voices, &Name) -> Result<PathBuf>) -> Result<PathBuf> {
    let name = match path.to_str().map(Name::parse) {
        // A published voice's name has no ending, as a file's has that is missing.
        Some(Ok(Name::Piper(_))) if path.extension().is_some() => return Ok(path.to_owned()),
        Some(Ok(name)) if !path.exists() => name,
        // Such as `hf:` of something that is no repository.
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
