//! One line of standard input: an utterance as JSON.

use std::io::{self, BufRead, Read as _};
use std::path::PathBuf;
use std::sync::Once;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;
use vitstream::{SpeakOptions, Speaker};

/// A line of more bytes is no utterance.
const LONGEST_LINE: u64 = 1 << 20;

/// What a line says; what it does not say is as on the command line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cmd) struct Line {
    pub(super) phoneme_ids: Option<Vec<i64>>,
    /// What is spoken where no ids are given.
    pub(super) text: Option<String>,
    speaker: Option<Named>,
    speaker_id: Option<i64>,
    length_scale: Option<f32>,
    noise_scale: Option<f32>,
    noise_w: Option<f32>,
    seed: Option<u64>,
    /// A WAV file for this utterance alone.
    pub(in crate::cmd) output_file: Option<PathBuf>,
    // Fields of Piper's data sets, which make no difference.
    phonemes: Option<IgnoredAny>,
    audio_path: Option<IgnoredAny>,
    audio_norm_path: Option<IgnoredAny>,
    audio_spec_path: Option<IgnoredAny>,
}

/// A speaker as a line may call it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "`speaker`: expected a speaker's number or name")]
enum Named {
    Id(i64),
    Name(String),
}

impl Line {
    /// Reads a line; `None` for an empty one.
    pub(super) fn parse(line: &[u8]) -> Result<Option<Self>> {
        static WARNED: Once = Once::new();
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let line: Self = serde_json::from_slice(line)
            .context("expected JSON such as {\"text\": \"Hello.\"} or {\"phoneme_ids\": [1, 0, 20, 2]}")?;
        ensure!(
            line.phoneme_ids.is_some() || line.text.is_some(),
            "missing field `phoneme_ids` or `text`: one of them says what is spoken"
        );
        let idle = line.idle();
        if !idle.is_empty() {
            WARNED.call_once(|| {
                tracing::warn!(
                    "{} in a line makes no difference: {} is what is spoken",
                    idle.join(", "),
                    if line.phoneme_ids.is_some() { "`phoneme_ids`" } else { "`text`" }
                );
            });
        }
        Ok(Some(line))
    }

    /// The fields that make no difference.
    fn idle(&self) -> Vec<&'static str> {
        [
            ("`text`", self.text.is_some() && self.phoneme_ids.is_some()),
            ("`phonemes`", self.phonemes.is_some()),
            ("`audio_path`", self.audio_path.is_some()),
            ("`audio_norm_path`", self.audio_norm_path.is_some()),
            ("`audio_spec_path`", self.audio_spec_path.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect()
    }

    /// Who is to speak, if the line says.
    pub(super) fn speaker(&self) -> Result<Option<Speaker>> {
        ensure!(
            self.speaker.is_none() || self.speaker_id.is_none(),
            "`speaker` and `speaker_id` both say who speaks: expected one of them"
        );
        let named = self.speaker.clone().map(|speaker| match speaker {
            Named::Id(id) => Speaker::Id(id),
            Named::Name(name) => Speaker::Name(name),
        });
        Ok(named.or(self.speaker_id.map(Speaker::Id)))
    }

    /// How this utterance is spoken, where the others are spoken with `options`.
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
        if let Some(speaker) = self.speaker()? {
            options.speaker = Some(speaker);
        }
        Ok(options)
    }
}

/// The next line without its end, `None` after the last; the inner error is for a line that is too long, whose rest is
/// skipped.
pub(crate) fn read_line(input: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>>>> {
    let mut line = Vec::new();
    if input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') || (line.len() as u64) < LONGEST_LINE {
        return Ok(Some(Ok(line)));
    }
    input.skip_until(b'\n')?;
    Ok(Some(Err(anyhow::anyhow!("more than {LONGEST_LINE} bytes are no utterance"))))
}

#[cfg(test)]
mod tests {
    use vitstream::Scales;

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
