//! A line of standard input: an utterance as JSON.

use std::path::PathBuf;
use std::sync::Once;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;
use vitstream::SpeakOptions;

use crate::cmd::lines::{self, Named, Phonemes};

/// The example shown in errors.
const EXAMPLE: &str = "{\"text\": \"Hello.\"} or {\"phoneme_ids\": [1, 0, 20, 2]}";

/// The fields of a line; for absent fields, the command line applies.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cmd) struct Line {
    pub(super) phoneme_ids: Option<Vec<i64>>,
    /// Spoken if there are no ids.
    pub(super) phonemes: Option<Phonemes>,
    /// Spoken if there are neither ids nor phonemes.
    pub(super) text: Option<String>,
    speaker: Option<Named>,
    speaker_id: Option<i64>,
    length_scale: Option<f32>,
    noise_scale: Option<f32>,
    noise_w: Option<f32>,
    seed: Option<u64>,
    /// A WAV file for this utterance only.
    pub(in crate::cmd) output_file: Option<PathBuf>,
    /// Set if the file is named by the line's number, not by the user.
    #[serde(skip)]
    pub(super) is_numbered: bool,
    // Fields of Piper's data sets, which have no effect.
    audio_path: Option<IgnoredAny>,
    audio_norm_path: Option<IgnoredAny>,
    audio_spec_path: Option<IgnoredAny>,
}

impl Line {
    /// Reads a line; `None` for an empty one.
    pub(super) fn parse(line: &[u8]) -> Result<Option<Self>> {
        static WARNED: Once = Once::new();
        let Some(line) = lines::parse::<Self>(line, EXAMPLE)? else { return Ok(None) };
        ensure!(
            line.phoneme_ids.is_some() || line.phonemes.is_some() || line.text.is_some(),
            "missing field `phoneme_ids` or `text`, or `phonemes`: one of them must be given"
        );
        let idle = line.idle();
        if !idle.is_empty() {
            WARNED.call_once(|| {
                tracing::warn!(
                    "{} in a line has no effect: {} is spoken",
                    idle.join(", "),
                    match (&line.phoneme_ids, &line.phonemes) {
                        (Some(_), _) => "`phoneme_ids`",
                        (None, Some(_)) => "`phonemes`",
                        (None, None) => "`text`",
                    }
                );
            });
        }
        Ok(Some(line))
    }

    /// Gives a line without a file the numbered one, if lines are numbered.
    pub(super) fn numbered(mut self, file: Option<PathBuf>) -> Self {
        if self.output_file.is_none() {
            self.is_numbered = file.is_some();
            self.output_file = file;
        }
        self
    }

    /// A line of text; `None` for an empty one.
    pub(super) fn of_text(line: &[u8]) -> Result<Option<Self>> {
        let text = lines::text_of(line)?;
        Ok((!text.is_empty()).then(|| Self { text: Some(text.to_owned()), ..Self::default() }))
    }

    /// The fields that have no effect.
    fn idle(&self) -> Vec<&'static str> {
        let (ids, phonemes) = (self.phoneme_ids.is_some(), self.phonemes.is_some());
        [
            ("`text`", self.text.is_some() && (ids || phonemes)),
            ("`phonemes`", ids && phonemes),
            ("`audio_path`", self.audio_path.is_some()),
            ("`audio_norm_path`", self.audio_norm_path.is_some()),
            ("`audio_spec_path`", self.audio_spec_path.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect()
    }

    /// The options for this utterance, derived from `options` for all.
    pub(super) fn options(&self, options: &SpeakOptions) -> Result<SpeakOptions> {
        let mut options = options.clone();
        if let Some(scales) = &mut options.scales {
            for (scale, given) in [
                (&mut scales.length, self.length_scale),
                (&mut scales.noise, self.noise_scale),
                (&mut scales.noise_w, self.noise_w),
            ] {
                *scale = given.unwrap_or(*scale);
            }
        }
        options.seed = self.seed.or(options.seed);
        if let Some(speaker) = lines::speaker(self.speaker.as_ref(), self.speaker_id)? {
            options.speaker = Some(speaker);
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use vitstream::{Scales, Speaker};

    use super::*;

    #[test]
    fn a_line_wins_over_the_command_line() {
        let given = SpeakOptions::new()
            .speaker(Speaker::Id(1))
            .scales(Scales { noise: 0.1, length: 0.2, noise_w: 0.3 })
            .seed(4);
        let with = |line: &str| Line::parse(line.as_bytes()).unwrap().unwrap().options(&given);
        assert_eq!(with(r#"{"phoneme_ids": [1], "text": "a"}"#).unwrap(), given);
        let all = with(
            r#"{"phoneme_ids": [1], "speaker": "Ada", "length_scale": 2, "noise_scale": 0, "noise_w": 0.5, "seed": 7}"#,
        );
        let scales = Some(Scales { noise: 0.0, length: 2.0, noise_w: 0.5 });
        let expected = given.clone().speaker(Speaker::Name("Ada".to_owned())).scales(scales).seed(7);
        assert_eq!(all.unwrap(), expected);
        for line in [r#"{"phoneme_ids": [1], "speaker": 2}"#, r#"{"phoneme_ids": [1], "speaker_id": 2}"#] {
            assert_eq!(with(line).unwrap().speaker, Some(Speaker::Id(2)));
        }
        assert!(with(r#"{"phoneme_ids": [1], "speaker": 2, "speaker_id": 2}"#).is_err());
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (line, part) in [
            (r#"{"phoneme_ids": [1], "more": 1}"#, "unknown field `more`"),
            (r#"{"phoneme_ids": [1], "speaker": []}"#, "a speaker's number or name"),
            (r#"{"ids": [1]}"#, "unknown field `ids`"),
            (r#"{"speaker": 1}"#, "missing field `phoneme_ids`"),
            ("hello", "expected JSON such as"),
        ] {
            let error = format!("{:#}", Line::parse(line.as_bytes()).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        assert!(Line::parse(b" \r\n").unwrap().is_none());
    }
}
