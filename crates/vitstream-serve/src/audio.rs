//! Converts samples to bytes of another rate and format while they arrive.

mod flac;
mod mp3;
mod opus;
mod ulaw;

use std::fmt;

use serde::Deserialize;
use utoipa::ToSchema;
use vitstream::wav;

use crate::error::{Error, Result};
use flac::Flac;
use mp3::Mp3;
use opus::Opus;
use vitstream_resample::Resampler;

/// The rate that OpenAI's clients assume for bare samples.
const OPENAI_RATE: u32 = 24_000;

/// The rate of telephones.
const TELEPHONE_RATE: u32 = 8_000;

/// The rates that a client may request: those of telephones, players and sound devices. Other rates have few
/// common factors with a voice's own, so the conversion would need long blocks that delay the audio.
const RATES: [u32; 9] = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

/// An audio format.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// WAV, 16 bits. In a stream, both sizes in its header are the maximum.
    #[default]
    Wav,
    /// Bare signed 16-bit little-endian samples.
    Pcm,
    /// Bare samples of ITU-T G.711, mu-law.
    Ulaw,
    /// FLAC, 16 bits.
    Flac,
    /// MP3 at 64 kbit/s.
    Mp3,
    /// Opus at 32 kbit/s in Ogg.
    Opus,
}

impl Format {
    /// All formats with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("wav", Self::Wav),
        ("pcm", Self::Pcm),
        ("ulaw", Self::Ulaw),
        ("flac", Self::Flac),
        ("mp3", Self::Mp3),
        ("opus", Self::Opus),
    ];

    /// The format with this name.
    ///
    /// # Errors
    /// When there is none; the message lists the available ones.
    pub fn by_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| format).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            let name: String = name.chars().take(40).collect();
            Error::Request(format!("the format {name:?}: expected one of {}", known.join(", ")))
        })
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Pcm => "audio/pcm",
            Self::Ulaw => "audio/basic",
            Self::Flac => "audio/flac",
            Self::Mp3 => "audio/mpeg",
            Self::Opus => "audio/opus",
        }
    }

    /// The rate that clients of the format expect by default, for a voice of `rate`.
    pub fn default_rate(self, rate: u32) -> u32 {
        match self {
            Self::Wav | Self::Flac => rate,
            Self::Pcm | Self::Mp3 | Self::Opus => OPENAI_RATE,
            Self::Ulaw => TELEPHONE_RATE,
        }
    }

    /// Checks that the format supports the rate.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_rate(self, rate: u32) -> Result<()> {
        let known: &[u32] = match self {
            Self::Opus => &opus::RATES,
            Self::Mp3 => &mp3::RATES,
            _ => &RATES,
        };
        if known.contains(&rate) {
            return Ok(());
        }
        let known: Vec<String> = known.iter().map(u32::to_string).collect();
        Err(Error::Request(format!(
            "the sample rate {rate}: expected one that is supported for {self}, {} hertz",
            known.join(", ")
        )))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = Self::ALL.iter().find(|(_, format)| format == self).unwrap_or(&Self::ALL[0]);
        f.write_str(name)
    }
}

/// Converts samples to bytes while they arrive. The result does not depend on how the samples are divided.
pub struct Output {
    resampler: Option<Resampler>,
    coder: Coder,
}

enum Coder {
    Pcm { header: Option<Vec<u8>> },
    Ulaw,
    Flac(Flac),
    Mp3(Box<Mp3>),
    Opus(Box<Opus>),
}

impl Output {
    /// Converts samples at the rate `from` to bytes of `format` at the rate `to`.
    ///
    /// # Errors
    /// When the format does not support this rate.
    pub fn new(format: Format, from: u32, to: u32) -> Result<Self> {
        // A voice's own rate may be outside those that clients can request.
        if from != to || matches!(format, Format::Mp3 | Format::Opus) {
            format.check_rate(to)?;
        }
        let resampler = if from == to { None } else { Some(Resampler::new(from, to)?) };
        let coder = match format {
            Format::Wav => Coder::Pcm { header: Some(wav::header(to, None).to_vec()) },
            Format::Pcm => Coder::Pcm { header: None },
            Format::Ulaw => Coder::Ulaw,
            Format::Flac => Coder::Flac(Flac::new(to)?),
            Format::Mp3 => Coder::Mp3(Box::new(Mp3::new(to))),
            Format::Opus => Coder::Opus(Box::new(Opus::new(to)?)),
        };
        Ok(Self { resampler, coder })
    }

    /// Takes samples and returns the bytes that are ready.
    ///
    /// # Errors
    /// When a library fails.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>> {
        match &mut self.resampler {
            None => self.coder.push(samples),
            Some(resampler) => {
                let samples = resampler.push(samples)?;
                self.coder.push(&samples)
            }
        }
    }

    /// Returns the remaining bytes.
    ///
    /// # Errors
    /// When a library fails.
    pub fn finish(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Some(resampler) = &mut self.resampler {
            let samples = resampler.finish()?;
            bytes = self.coder.push(&samples)?;
        }
        bytes.extend(self.coder.finish()?);
        Ok(bytes)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Coder {
    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>> {
        match self {
            Self::Pcm { header } => {
                let mut bytes = header.take().unwrap_or_default();
                bytes.extend(wav::s16le(samples));
                Ok(bytes)
            }
            Self::Ulaw => Ok(samples.iter().map(|&sample| ulaw::encode(to_i16(sample))).collect()),
            Self::Flac(flac) => flac.push(samples),
            Self::Mp3(mp3) => mp3.push(samples),
            Self::Opus(opus) => opus.push(samples),
        }
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::Pcm { header } => Ok(header.take().unwrap_or_default()),
            Self::Ulaw => Ok(Vec::new()),
            Self::Flac(flac) => flac.finish(),
            Self::Mp3(mp3) => mp3.finish(),
            Self::Opus(opus) => opus.finish(),
        }
    }
}

/// Rounded and clipped as in a WAV file.
fn to_i16(sample: f32) -> i16 {
    (sample * 32_767.0).round() as i16
}

/// A library's failure, which no request can cause.
fn failed(what: &str, error: impl fmt::Debug) -> Error {
    Error::Internal(format!("{what}: {error:?}"))
}

#[cfg(test)]
mod tests;
