//! Voices in any repository of the Hugging Face hub.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::http::{self, Client};
use super::index::LARGEST_FILE;
use super::name::{Name, Repository, is_plain};
use super::{Digest, Offer, Part};

/// The maximum size of a folder's list: the hub lists a thousand files at once, in a few hundred bytes each.
const LONGEST_LIST: u64 = 4 << 20;

/// The maximum size of a file other than the weights. The largest are vocabularies of some hundred kilobytes.
const LARGEST_JSON: u64 = 16 << 20;

/// File names of weights, the preferred format first: many repositories have the same voice in several.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// Endings of the names of other files with weights or voices.
const ENDINGS: [&str; 6] = [".onnx", ".safetensors", ".ckpt", ".pth", ".pt", ".bin"];

/// One entry of the hub's list of a folder.
#[derive(Deserialize)]
struct Listed {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

/// Properties of a file that is too large for Git.
#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// Lists the weights and the JSON files next to them.
pub(super) fn offer(client: &Client, hub: &str, repository: &Repository) -> Result<Offer> {
    let Repository { owner, name, revision, path } = repository;
    let folder = path.as_deref().and_then(|path| path.rsplit_once('/')).map_or("", |(folder, _)| folder);
    // A revision is a single segment of this address, even if it contains slashes.
    let escaped = http::escape(revision).replace('/', "%2F");
    let list = format!("{hub}/api/models/{owner}/{name}/tree/{escaped}/{}", http::escape(folder));
    let bytes = client.get_whole(list.trim_end_matches('/'), LONGEST_LIST)?;
    let listed: Vec<Listed> = serde_json::from_slice(&bytes)
        .with_context(|| format!("{list}: not a list of a folder as the hub sends it"))?;

    let mut files = Vec::new();
    for listed in listed.into_iter().filter(|listed| listed.r#type == "file") {
        let file = match folder {
            "" => Some(listed.path.as_str()),
            folder => listed.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')),
        };
        // Hidden files are not part of a voice, and files of other folders were not requested.
        let Some(file) = file.filter(|file| is_plain(file)) else { continue };
        let (size, digest) = match listed.lfs {
            Some(lfs) => {
                ensure!(
                    lfs.oid.len() == 64 && lfs.oid.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{list}: {file}: {:?} is not a SHA-256",
                    lfs.oid
                );
                (lfs.size, Some(Digest::Sha256(lfs.oid.to_ascii_lowercase())))
            }
            None => (listed.size, None),
        };
        let url = format!("{hub}/{owner}/{name}/resolve/{escaped}/{}", http::escape(&listed.path));
        files.push(Part { url, file: file.to_owned(), size, digest });
    }

    let weights = choose(&files, path.as_deref()).with_context(|| format!("hf:{owner}/{name}"))?.file.clone();
    let json = format!("{weights}.json");
    // A graph of Piper has its own JSON next to it; every other format has several files with fixed names.
    let own = files.iter().any(|part| part.file == json);
    files.retain(|part| {
        part.file == weights || if own { part.file == json } else { part.file.ends_with(".json") }
    });
    for part in &files {
        let largest = if part.file == weights { LARGEST_FILE } else { LARGEST_JSON };
        ensure!(
            part.size <= largest,
            "{}: {} bytes are too many for a voice, the maximum is {largest}",
            part.url,
            part.size
        );
    }
    Ok(Offer { folder: Name::Hub(repository.clone()).folder(), opens: weights, parts: files })
}

/// Finds the file that holds the voice.
fn choose<'a>(files: &'a [Part], path: Option<&str>) -> Result<&'a Part> {
    if let Some(path) = path {
        let file = path.rsplit('/').next().unwrap_or(path);
        return files
            .iter()
            .find(|part| part.file == file)
            .with_context(|| format!("there is no file {path}"));
    }
    let named = |name: &&str| files.iter().find(|part| part.file == *name);
    if let Some(part) = WEIGHTS.iter().find_map(named) {
        return Ok(part);
    }
    let candidates: Vec<&Part> =
        files.iter().filter(|part| ENDINGS.iter().any(|ending| part.file.ends_with(ending))).collect();
    match candidates[..] {
        [part] => Ok(part),
        [] => {
            bail!("there is no voice in its top folder; name the file, as in hf:OWNER/REPO:FOLDER/FILE.onnx")
        }
        _ => {
            let names: Vec<&str> = candidates.iter().take(8).map(|part| part.file.as_str()).collect();
            let more = if candidates.len() > names.len() { ", ..." } else { "" };
            bail!("there are several voices; name one, as in hf:OWNER/REPO:FILE: {}{more}", names.join(", "))
        }
    }
}
