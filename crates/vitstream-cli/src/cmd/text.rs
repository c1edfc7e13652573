//! Options for reading text, and the conversion of text into ids.

use std::collections::BTreeSet;
use std::mem;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use vitstream::{MAX_IDS, read_file};
use vitstream_text::config::FRONTEND_KEY;
use vitstream_text::phonemizer::About;
use vitstream_text::{Frontend, Lexicon, Sentence, Sentences};

use super::lines::Phonemes;
use super::phonemizer::PhonemizerArgs;

/// Limit on the bytes of a lexicon: far more words than a language has.
const MAX_LEXICON: u64 = 64 << 20;

/// Keys of the JSON from which a front end is created.
const READING: [&str; 5] = ["phoneme_type", "phoneme_id_map", "espeak", "vowel_clusters", FRONTEND_KEY];

/// Limit on the phonemes listed in a message.
const MAX_LISTED: usize = 20;

#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Reading text")]
pub(crate) struct TextArgs {
    #[command(flatten)]
    phonemizer: PhonemizerArgs,

    /// A file of pronunciations, one per line: `Nguyen = win`, or IPA between slashes: `vits = /vɪts/`. An
    /// entry without capital letters applies to the word in any case
    #[arg(long, value_name = "FILE")]
    lexicon: Option<PathBuf>,

    /// Remove Markdown from the text: its words are read, but not its marks, code and addresses
    #[arg(long, conflicts_with = "ssml")]
    markdown: bool,

    /// The text is SSML; the elements break, phoneme, sub, prosody rate, say-as characters, p, s and mark are
    /// supported
    #[arg(long)]
    ssml: bool,
}

impl TextArgs {
    /// The files that these options read.
    pub(crate) fn inputs(&self) -> [Option<&PathBuf>; 1] {
        [self.lexicon.as_ref()]
    }

    /// Options for SSML.
    pub(crate) fn of_ssml(phonemizer: PhonemizerArgs, lexicon: Option<PathBuf>) -> Self {
        Self { phonemizer, lexicon, markdown: false, ssml: true }
    }

    pub(crate) fn is_ssml(&self) -> bool {
        self.ssml
    }

    /// An option that applies only to text, if one was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        [
            ("--espeak", self.phonemizer.espeak.is_some()),
            ("--phonemizer", self.phonemizer.phonemizer.is_some()),
            ("--lexicon", self.lexicon.is_some()),
            ("--markdown", self.markdown),
            ("--ssml", self.ssml),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }

    pub(crate) fn words(&self) -> Result<Words> {
        let Some(path) = &self.lexicon else { return Ok(Words::default()) };
        let bytes = read_file(path, MAX_LEXICON)?;
        let lexicon = Lexicon::from_bytes(&bytes).with_context(|| path.display().to_string())?;
        Ok(Words { lexicon, hash: format!("{:x}", Sha256::digest(&bytes)) })
    }
}

/// The user's pronunciations.
#[derive(Default)]
pub(crate) struct Words {
    lexicon: Lexicon,
    /// SHA-256 of the file.
    hash: String,
}

/// Reads text for a voice, and reports problems.
#[cfg_attr(
    not(feature = "batch"),
    expect(dead_code, reason = "`batch` alone asks what decides how a text is read")
)]
pub(crate) struct Reader {
    reader: vitstream_text::Reader,
    args: TextArgs,
    /// SHA-256 of the lexicon.
    words: String,
    /// The part of the voice's JSON that defines how it reads text.
    json: Value,
    /// Phonemes already reported as missing.
    reported: BTreeSet<String>,
    introduced: bool,
}

impl Reader {
    /// Creates a reader; `json` is the voice's.
    pub(crate) fn new(args: &TextArgs, words: Words, json: &Map<String, Value>) -> Result<Self> {
        let phonemizer = args.phonemizer.clone();
        let reader =
            vitstream_text::Reader::new(Frontend::from_json(json)?, MAX_IDS, move || phonemizer.open());
        Ok(Self {
            reader: reader.lexicon(words.lexicon).markdown(args.markdown),
            args: args.clone(),
            words: words.hash,
            json: READING.iter().map(|&key| json.get(key).cloned().unwrap_or_default()).collect(),
            reported: BTreeSet::new(),
            introduced: false,
        })
    }

    /// Searches for the phonemizer, if the voice needs one.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        Ok(self.reader.prepare()?)
    }

    /// Description of the phonemizer, if the voice needs one and it was found.
    pub(crate) fn about(&self) -> Option<About> {
        self.reader.about()
    }

    /// Identifies everything besides the text that determines how a text is read.
    #[cfg(feature = "batch")]
    pub(crate) fn identity(&mut self) -> Result<String> {
        self.prepare()?;
        let version = self.about().map(|about| about.version);
        let TextArgs { phonemizer, markdown, ssml, .. } = &self.args;
        // The library's path makes no difference; the program used as phonemizer may.
        let phonemizer = phonemizer.phonemizer.as_deref();
        Ok(serde_json::json!([self.json, self.words, phonemizer, version, markdown, ssml]).to_string())
    }

    /// Begins a text that is divided into [`sentences`](Self::sentence).
    pub(crate) fn begin(&mut self) -> Sentences {
        self.reader.begin()
    }

    /// Reads one of the sentences of a divided text. It may contain nothing to speak.
    pub(crate) fn sentence(&mut self, text: &str) -> Result<Vec<Sentence>> {
        let sentences = self.reader.sentence(text)?;
        self.introduce();
        self.report(&sentences);
        Ok(sentences)
    }

    /// Reads a whole text.
    pub(crate) fn whole(&mut self, text: &str) -> Result<Vec<Sentence>> {
        if self.args.ssml {
            let found = self.reader.ssml(text)?;
            self.introduce();
            self.report(&found);
            return Ok(found);
        }
        let mut found = Vec::new();
        let mut stream = self.begin().whole_sentences();
        for sentence in stream.push(text).into_iter().chain(stream.finish()) {
            found.append(&mut self.sentence(&sentence)?);
        }
        Ok(found)
    }

    /// Reads text given as phonemes.
    pub(crate) fn phonemes(&mut self, phonemes: &Phonemes) -> Result<Sentence> {
        let sentence = match phonemes {
            Phonemes::Text(text) => self.reader.phonemes(text),
            Phonemes::List(list) => self.reader.tokens(list.clone()),
        }?;
        self.report(std::slice::from_ref(&sentence));
        Ok(sentence)
    }

    /// Reports phonemes that are left out, each once.
    fn report(&mut self, sentences: &[Sentence]) {
        let reported = &mut self.reported;
        let missing = sentences.iter().flat_map(|sentence| &sentence.missing);
        let new: Vec<String> = missing
            .filter(|phoneme| reported.insert((*phoneme).clone()))
            .map(|phoneme| shown(phoneme))
            .collect();
        if !new.is_empty() {
            let more = new.len().saturating_sub(MAX_LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let listed = new[..new.len().min(MAX_LISTED)].join(", ");
            tracing::warn!("the voice has no id for {listed}{more}, which is left out");
        }
        for (phoneme, spelling) in sentences.iter().flat_map(|sentence| &sentence.replaced) {
            if reported.insert(phoneme.clone()) {
                tracing::info!("the voice has no id for {}: spoken as {spelling}", shown(phoneme));
            }
        }
    }

    /// Reports the phonemizer, once.
    fn introduce(&mut self) {
        if mem::replace(&mut self.introduced, true) {
            return;
        }
        match self.about() {
            Some(about) => tracing::info!("phonemes: {about}"),
            None => tracing::info!("this voice reads characters: no phonemizer is used"),
        }
    }
}

/// A phoneme as shown in messages, because many are combining marks that are invisible alone.
fn shown(phoneme: &str) -> String {
    let codes: Vec<String> = phoneme.chars().map(|c| format!("U+{:04X}", u32::from(c))).collect();
    format!("\"{phoneme}\" ({})", codes.join(" "))
}

/// Decodes text from bytes that arrive in pieces.
#[derive(Default)]
pub(crate) struct TextDecoder {
    /// The start of a character whose rest has not arrived.
    rest: Vec<u8>,
    /// Number of bytes before it.
    offset: u64,
    lines: u64,
}

impl TextDecoder {
    /// Adds bytes and returns their text. An invalid byte becomes a NUL, which every front end refuses, and
    /// its description is appended to `problems`.
    pub(crate) fn push(&mut self, bytes: &[u8], problems: &mut Vec<String>) -> String {
        let mut all = mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut left = &all[..];
        if self.offset == 0 && left.len() >= 3 {
            left = left.strip_prefix("\u{feff}".as_bytes()).unwrap_or(left);
            self.offset += (all.len() - left.len()) as u64;
        }
        loop {
            let (valid, bad) = match str::from_utf8(left) {
                Ok(valid) => (valid, None),
                Err(error) => {
                    let (valid, _) = left.split_at(error.valid_up_to());
                    (str::from_utf8(valid).unwrap_or_default(), Some(error.error_len()))
                }
            };
            text.push_str(valid);
            self.offset += valid.len() as u64;
            self.lines += valid.bytes().filter(|&byte| byte == b'\n').count() as u64;
            left = &left[valid.len()..];
            match bad {
                None => return text,
                Some(None) => {
                    self.rest = left.to_vec();
                    return text;
                }
                Some(Some(length)) => {
                    problems.push(self.problem(left[0]));
                    text.push('\0');
                    self.offset += length as u64;
                    left = &left[length..];
                }
            }
        }
    }

    /// Ends the input.
    pub(crate) fn finish(&mut self, problems: &mut Vec<String>) -> String {
        let Some(&first) = self.rest.first() else { return String::new() };
        self.rest.clear();
        problems.push(self.problem(first));
        "\0".to_owned()
    }

    fn problem(&self, byte: u8) -> String {
        let (offset, line) = (self.offset, self.lines + 1);
        format!("expected UTF-8, found the byte 0x{byte:02x} at offset {offset} (line {line})")
    }
}

/// Reads a whole text of at most `limit` bytes from a file or from standard input.
pub(crate) fn read_text(path: Option<&Path>, limit: u64) -> Result<String> {
    use std::io::Read as _;
    let bytes = match path {
        Some(path) => read_file(path, limit)?,
        None => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).context("standard input")?;
            anyhow::ensure!(
                bytes.len() as u64 <= limit,
                "standard input: expected at most {limit} bytes of text"
            );
            bytes
        }
    };
    let name = || path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let text = vitstream_text::utf8(&bytes).with_context(name)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_same_however_it_arrives() {
        let bytes = "\u{feff}é\nħe\u{1f600}llo".as_bytes();
        for size in 1..=bytes.len() {
            let (mut decoder, mut problems) = (TextDecoder::default(), Vec::new());
            let mut text: String =
                bytes.chunks(size).map(|chunk| decoder.push(chunk, &mut problems)).collect();
            text.push_str(&decoder.finish(&mut problems));
            assert_eq!(text, "é\nħe\u{1f600}llo");
            assert!(problems.is_empty());
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_located() {
        for size in 1..6 {
            let (mut decoder, mut problems) = (TextDecoder::default(), Vec::new());
            let bytes = b"a\nb\xffc\xc3";
            let mut text: String =
                bytes.chunks(size).map(|chunk| decoder.push(chunk, &mut problems)).collect();
            text.push_str(&decoder.finish(&mut problems));
            assert_eq!(text, "a\nb\0c\0");
            assert_eq!(
                problems,
                [
                    "expected UTF-8, found the byte 0xff at offset 3 (line 2)",
                    "expected UTF-8, found the byte 0xc3 at offset 5 (line 2)"
                ]
            );
        }
    }
}
