//! `vitstream phonemize`: shows how a voice would read a text.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Map, Value};
use vitstream::config::VoiceConfig;
use vitstream::source;
use vitstream_text::config::FRONTEND_KEY;
use vitstream_text::{Sentence, SpokenClause};

use super::text::{Reader, TextArgs, read_text};
use super::{ReadArgs, terminal, voices};

/// Limit on the bytes of the text.
const MAX_TEXT: u64 = 16 << 20;

/// Show how a voice reads a text: clauses, phonemes and ids
///
/// Nothing is spoken, and the voice's JSON alone is sufficient. `speak --ids` speaks the ids.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The voice: its JSON, its folder, any file that `export` reads, or the name of a voice installed by
    /// `vitstream voices`
    voice: PathBuf,

    /// The text; `-` for standard input
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,

    /// Read the text from a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reading: TextArgs,

    #[command(flatten)]
    read: ReadArgs,
}

/// The output of `--json`.
#[derive(Serialize)]
struct Reading<'a> {
    /// The phonemizer; absent for a voice that reads characters.
    library: Option<&'a str>,
    version: Option<&'a str>,
    sentences: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    text: &'a str,
    phonemes: &'a [String],
    ids: &'a [i64],
    missing: Vec<&'a str>,
    clauses: &'a [SpokenClause],
}

impl<'a> From<&'a Sentence> for Entry<'a> {
    fn from(sentence: &'a Sentence) -> Self {
        let Sentence { text, phonemes, ids, missing, clauses, .. } = sentence;
        Self { text, phonemes, ids, missing: missing.iter().map(String::as_str).collect(), clauses }
    }
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<()> {
    let json = voice_json(&voices::resolve(&args.voice, quiet)?, &args.read)?;
    let reader = Reader::new(&args.reading, args.reading.words()?, &json);
    let mut reader = reader.with_context(|| format!("{} cannot read text", args.voice.display()))?;
    let text = match (&args.text, &args.file) {
        (Some(text), _) if text != "-" => text.clone(),
        (_, file) => read_text(file.as_deref(), MAX_TEXT)?,
    };
    let sentences = reader.whole(&text)?;
    let about = reader.about();
    let out = &mut terminal::stdout();
    if args.json {
        let reading = Reading {
            library: about.as_ref().map(|about| &*about.library),
            version: about.as_ref().map(|about| &*about.version),
            sentences: sentences.iter().map(Entry::from).collect(),
        };
        serde_json::to_writer_pretty(&mut *out, &reading).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(out.flush()?);
    }
    if let Some(about) = about {
        writeln!(out, "phonemes by {about}")?;
    }
    for sentence in &sentences {
        let ids: Vec<String> = sentence.ids.iter().map(i64::to_string).collect();
        writeln!(out, "{}", sentence.text)?;
        for clause in &sentence.clauses {
            writeln!(out, "  clause    {:?} {}{}", clause.text, clause.ipa, clause.mark)?;
        }
        writeln!(out, "  phonemes  {}", sentence.phonemes.concat())?;
        writeln!(out, "  ids       {}", ids.join(","))?;
        if !sentence.missing.is_empty() {
            let missing: Vec<&str> = sentence.missing.iter().map(String::as_str).collect();
            writeln!(out, "  missing   {}", missing.join(" "))?;
        }
    }
    Ok(out.flush()?)
}

/// The voice's JSON; the network is read only if no JSON next to it describes how text is read.
fn voice_json(voice: &Path, read: &ReadArgs) -> Result<Map<String, Value>> {
    let says = |config: &VoiceConfig| {
        ["phoneme_id_map", FRONTEND_KEY].iter().any(|&key| config.json().contains_key(key))
    };
    let options = read.options();
    let is_json = voice.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json && voice.is_file() {
        let config = VoiceConfig::read(voice)?;
        ensure!(
            says(&config),
            "{}: expected a voice's JSON, with `phoneme_id_map`; if other files contain it, give the voice itself",
            voice.display()
        );
        return Ok(config.json().clone());
    }
    let beside = match &options.config {
        Some(named) => VoiceConfig::read(named).map(Some),
        None if voice.is_dir() => VoiceConfig::find_in(voice),
        None => VoiceConfig::find(voice),
    };
    if voice.exists()
        && let Ok(Some(config)) = beside
        && says(&config)
    {
        return Ok(config.json().clone());
    }
    let parts = source::read(voice, &options)?;
    Ok(parts.config.map(|config| config.json().clone()).unwrap_or_default())
}
