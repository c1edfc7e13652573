//! Voices in any repository of the Hugging Face hub.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::http::{self, Client};
use super::index::LARGEST_FILE;
use super::name::{Name, Repository, is_plain};
use super::{Digest, Offer, Part};

/// The most bytes of the list of a folder: the hub lists a thousand files at once, in a few hundred bytes each.
const LONGEST_LIST: u64 = 4 << 20;

/// The most bytes of a file beside the weights. The largest of a voice are vocabularies of some hundred kilobytes.
const LARGEST_JSON: u64 = 16 << 20;

/// Weights by file name, the preferred form first: the same voice is often there in several.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// What weights and voices of other names end in.
const ENDINGS: [&str; 6] = [".onnx", ".safetensors", ".ckpt", ".pth", ".pt", ".bin"];

/// One line of the hub's list of a folder.
#[derive(Deserialize)]
struct Listed {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

/// Of files that are too large for Git.
#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// The weights, and the JSON files beside them.
pub(super) fn offer(client: &Client, hub: &str, repository: &Repository) -> Result<Offer> {
    let Repository { owner, name, revision, path } = repository;
    let folder = path.as_deref().and_then(|path| path.rsplit_once('/')).map_or("", |(folder, _)| folder);
    // A revision is one part of this address, slashes or not.
    let escaped = http::escape(revision).replace('/', "%2F");
    let list = format!("{hub}/api/models/{owner}/{name}/tree/{escaped}/{}", http::escape(folder));
    let bytes = client.get_whole(list.trim_end_matches('/'), LONGEST_LIST)?;
    let listed: Vec<Listed> =
        serde_json::from_slice(&bytes).with_context(|| format!("{list}: not the hub's list of a folder"))?;

    let mut files = Vec::new();
    for listed in listed.into_iter().filter(|listed| listed.r#type == "file") {
        let file = match folder {
            "" => Some(listed.path.as_str()),
            folder => listed.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')),
        };
        // Hidden files are no part of a voice, those of other folders were not asked for.
        let Some(file) = file.filter(|file| is_plain(file)) else { continue };
        let (size, digest) = match listed.lfs {
            Some(lfs) => {
                ensure!(
                    lfs.oid.len() == 64 && lfs.oid.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{list}: {file}: {:?} is no SHA-256",
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
    // A graph of Piper's has its JSON beside it, every other form has several files of fixed names.
    let own = files.iter().any(|part| part.file == json);
    files.retain(|part| {
        part.file == weights || if own { part.file == json } else { part.file.ends_with(".json") }
    });
    for part in &files {
        let largest = if part.file == weights { LARGEST_FILE } else { LARGEST_JSON };
        ensure!(
            part.size <= largest,
            "{}: {} bytes are no voice's, the most is {largest}",
            part.url,
            part.size
        );
    }
    Ok(Offer { folder: Name::Hub(repository.clone()).folder(), opens: weights, parts: files })
}

/// The file that is the voice.
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
        [] => bail!("there is no voice at its top; name the file, as in hf:OWNER/REPO:FOLDER/FILE.onnx"),
        _ => {
            let names: Vec<&str> = candidates.iter().take(8).map(|part| part.file.as_str()).collect();
            let more = if candidates.len() > names.len() { ", ..." } else { "" };
            bail!("there are several voices; name one, as in hf:OWNER/REPO:FILE: {}{more}", names.join(", "))
        }
    }
}
