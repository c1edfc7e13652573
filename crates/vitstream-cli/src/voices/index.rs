//! Piper's index of published voices, `voices.json`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::name::{is_inside, is_plain};
use super::{Digest, Offer, Part, http};

/// Its file name where the voices are published.
pub(super) const FILE: &str = "voices.json";

/// The maximum size of the index; the published one has a third of a megabyte.
pub(super) const LONGEST: u64 = 16 << 20;

/// The maximum size of a voice's file; the largest published one has 0.1 GB.
pub(super) const LARGEST_FILE: u64 = 4 << 30;

/// One published voice; only the fields used here.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) language: Language,
    pub(crate) quality: String,
    pub(crate) num_speakers: u32,
    #[serde(default, skip_serializing)]
    files: BTreeMap<String, File>,
    #[serde(default)]
    aliases: Vec<String>,
}

/// The language of a voice.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Language {
    pub(crate) code: String,
    pub(crate) family: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    name_native: String,
    #[serde(default)]
    pub(crate) name_english: String,
    #[serde(default)]
    country_english: String,
}

#[derive(Clone, Debug, Deserialize)]
struct File {
    size_bytes: u64,
    md5_digest: String,
}

/// All published voices by key.
#[derive(Debug)]
pub(crate) struct Index {
    entries: BTreeMap<String, Entry>,
}

impl Index {
    /// Skips entries that cannot be used, so that a damaged one does not hide all others.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let all: BTreeMap<String, Json> = serde_json::from_slice(bytes)
            .context("the list of voices is not in the format that Piper publishes")?;
        let published = all.len();
        let mut entries = BTreeMap::new();
        for (key, json) in all {
            match Entry::parse(&key, json) {
                Ok(entry) => drop(entries.insert(key, entry)),
                Err(error) => tracing::info!("skipping {key:?} of the list of voices: {error:#}"),
            }
        }
        if entries.len() < published {
            tracing::warn!("{} of {published} voices of the list cannot be used", published - entries.len());
        }
        Ok(Self { entries })
    }

    /// Returns the voices for `language`: a family (`de`), a code (`de_DE`), or the language's name in
    /// English or in itself.
    pub(crate) fn of_language<'a>(&'a self, language: Option<&'a str>) -> impl Iterator<Item = &'a Entry> {
        self.entries.values().filter(move |entry| language.is_none_or(|language| entry.language.is(language)))
    }

    /// Finds the voice with this key or this former name.
    pub(super) fn find(&self, key: &str) -> Result<&Entry> {
        let alias = || self.entries.values().find(|entry| entry.aliases.iter().any(|alias| alias == key));
        self.entries.get(key).or_else(alias).ok_or_else(|| {
            let near = self.entries.keys().map(|known| (strsim::jaro_winkler(key, known), known));
            // Names less similar than this are unrelated.
            let near = near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = near.map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"));
            anyhow!("no published voice is called {key}{hint}")
        })
    }
}

impl Language {
    fn is(&self, asked: &str) -> bool {
        // `de-DE` is the more common form.
        let asked = asked.replace('-', "_").to_lowercase();
        [&self.family, &self.code, &self.name_english, &self.name_native]
            .iter()
            .any(|known| known.to_lowercase() == asked)
    }
}

impl Entry {
    fn parse(key: &str, json: Json) -> Result<Self> {
        let entry: Self = serde_json::from_value(json)?;
        ensure!(entry.key == key, "its key is {:?}", entry.key);
        ensure!(is_plain(key), "its name is not a valid file name");
        // These are shown on terminals, which interpret control characters.
        let shown = [&entry.name, &entry.quality, &entry.language.code, &entry.language.name_english];
        ensure!(!shown.iter().any(|text| text.chars().any(char::is_control)), "control characters in a name");
        entry.offer("")?;
        Ok(entry)
    }

    /// Total size of all files to download, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.offer("").map_or(0, |offer| offer.size())
    }

    /// Lists the graph, its JSON, and the card that states the voice's author and licence.
    pub(super) fn offer(&self, base: &str) -> Result<Offer> {
        let mut parts = Vec::new();
        for (path, file) in &self.files {
            ensure!(is_inside(path), "{path:?} is outside the voice's folder");
            let name = path.rsplit('/').next().unwrap_or(path);
            if !(name.ends_with(".onnx") || name.ends_with(".onnx.json") || name == "MODEL_CARD") {
                continue;
            }
            ensure!(
                file.size_bytes <= LARGEST_FILE,
                "{path}: {} bytes are too many for a voice, the maximum is {LARGEST_FILE}",
                file.size_bytes
            );
            let md5 = file.md5_digest.to_ascii_lowercase();
            ensure!(
                md5.len() == 32 && md5.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{path}: {:?} is not an MD5",
                file.md5_digest
            );
            parts.push(Part {
                url: format!("{base}/{}", http::escape(path)),
                file: name.to_owned(),
                size: file.size_bytes,
                digest: Some(Digest::Md5(md5)),
            });
        }
        let mut graphs = parts.iter().map(|part| part.file.as_str()).filter(|file| file.ends_with(".onnx"));
        let (Some(graph), None) = (graphs.next(), graphs.next()) else {
            bail!("expected one file *.onnx");
        };
        let count = |file: &str| parts.iter().filter(|part| part.file == file).count();
        ensure!(count(&format!("{graph}.json")) == 1, "expected one file {graph}.json");
        ensure!(count("MODEL_CARD") <= 1, "there is more than one file MODEL_CARD");
        let opens = graph.to_owned();
        Ok(Offer { folder: self.key.clone(), opens, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(key: &str, files: &Json) -> Json {
        json!({
            "key": key, "name": "some", "quality": "low", "num_speakers": 1, "speaker_id_map": {}, "files": files,
            "language": {"code": "de_DE", "family": "de", "region": "DE", "name_native": "Deutsch",
                         "name_english": "German", "country_english": "Germany"},
            "aliases": ["de-some-low"],
        })
    }

    fn file(size: u64) -> Json {
        json!({"size_bytes": size, "md5_digest": "0123456789abcdef0123456789ABCDEF"})
    }

    fn files() -> Json {
        json!({"de/x/v.onnx": file(70), "de/x/v.onnx.json": file(7), "de/x/MODEL_CARD": file(1), "de/x/run.py": file(9)})
    }

    fn index(all: &Json) -> Index {
        Index::parse(&serde_json::to_vec(all).unwrap()).unwrap()
    }

    #[test]
    fn a_voice_is_found_by_key_alias_and_language() {
        let index = index(&json!({"de_DE-some-low": entry("de_DE-some-low", &files())}));
        assert_eq!(
            index.find("de_DE-some-low").unwrap().size(),
            78,
            "files that are not part of a voice are ignored"
        );
        assert_eq!(index.find("de-some-low").unwrap().key, "de_DE-some-low");
        let error = index.find("de_DE-somme-low").unwrap_err().to_string();
        assert!(error.contains("did you mean de_DE-some-low?"), "{error}");
        let error = index.find("zzz").unwrap_err().to_string();
        assert!(!error.contains("mean"), "{error}");
        for (language, count) in [("de", 1), ("de-DE", 1), ("german", 1), ("Deutsch", 1), ("en", 0), ("d", 0)]
        {
            assert_eq!(index.of_language(Some(language)).count(), count, "{language}");
        }
        let offer = index.find("de-some-low").unwrap().offer("http://x").unwrap();
        assert_eq!(offer.opens, "v.onnx");
        assert_eq!(offer.parts[1].url, "http://x/de/x/v.onnx");
    }

    #[test]
    fn hostile_entries_are_passed_over_and_the_others_stay() {
        let with = |path: &str, file: &Json| {
            let mut files = files();
            files[path] = file.clone();
            files
        };
        let md5 = |md5: &str| json!({"size_bytes": 1, "md5_digest": md5});
        let mut all = json!({
            "good": entry("good", &files()),
            "other": entry("good", &files()),
            "../up": entry("../up", &files()),
            "up": entry("up", &with("../../.bashrc", &file(1))),
            "root": entry("root", &with("/etc/v.onnx", &file(1))),
            "back": entry("back", &with("a\\..\\v.onnx", &file(1))),
            "two": entry("two", &with("de/y/w.onnx", &file(1))),
            "none": entry("none", &json!({})),
            "lone": entry("lone", &json!({"v.onnx": file(1)})),
            "huge": entry("huge", &with("de/x/v.onnx", &file(u64::MAX))),
            "twice": entry("twice", &with("de/z/v.onnx.json", &file(1))),
            "short": entry("short", &with("de/x/v.onnx", &md5("12"))),
            "words": entry("words", &with("de/x/v.onnx", &md5(&"g".repeat(32)))),
            "number": 7,
        });
        all["bell"] = entry("bell", &files());
        all["bell"]["name"] = json!("\u{1b}]0;x\u{7}");
        let index = index(&all);
        assert_eq!(index.entries.keys().collect::<Vec<_>>(), ["good"]);
        for bad in [&b""[..], b"[]", b"\xff", b"{\"a\""] {
            assert!(Index::parse(bad).is_err());
        }
    }
}
