//! Compares a pair with its source, stage by stage.
//!
//! The decoder is checked twice: alone, with the source's own `z_p` as input, so that a damaged encoder is
//! not blamed on it; and after the pair's encoder, which is the audible result.

use crate::Error;
use crate::compare::Difference;
use crate::limits;
use crate::pair::{NO_Z, Pair, Spoken};
use crate::report::{Check, Part, Sound, Tally};
use crate::session::Array;
use crate::spectrum::log_spectral_distance;
use crate::voice::{EncoderGraph, Stages};

/// Compares the pair's stages with the source's, utterance by utterance.
pub(super) struct Comparison {
    sample_rate: u32,
    w: Tally,
    w_ceil: Tally,
    z_p: Tally,
    g: Tally,
    z: Tally,
    decoder: Tally,
    audio: Tally,
    spectrum: Tally,
    /// Set if either side had speakers.
    speakers: bool,
    /// Set if a different length is not an error.
    durations_vary: bool,
    pub(super) sounds: Vec<Sound>,
}

/// The difference relative to the largest expected value, if that is larger than 1.
fn relative(found: &Array<f32>, expected: &Array<f32>) -> Difference {
    let scale = expected.data.iter().fold(1.0f32, |largest, v| largest.max(v.abs()));
    let scaled = |values: &[f32]| values.iter().map(|v| v / scale).collect::<Vec<_>>();
    Difference::of(&scaled(&found.data), &scaled(&expected.data))
}

impl Comparison {
    /// `limits` is [`EXACT`](limits::EXACT), or [`ROUNDED`](limits::ROUNDED) for weights in half precision.
    pub(super) fn new(sample_rate: u32, limits: limits::Stages) -> Self {
        let tally = |name: &str, limit, unit| Tally::new(Part::Source, name, Some(limit), unit);
        Self {
            sample_rate,
            w: tally("durations w, unrounded", limits.durations, "rel"),
            w_ceil: tally("durations w_ceil", limits.frames, "frames"),
            z_p: tally("latent z_p", limits.latent, "rel"),
            g: tally("speaker g", limits.latent, "rel"),
            z: tally("latent z, decoder alone", limits.latent, "rel"),
            decoder: tally("audio, decoder alone", limits.decoder, ""),
            audio: tally("audio, both", limits.audio, ""),
            spectrum: tally("audio, both: spectral distance", limits.spectrum, "dB"),
            speakers: false,
            durations_vary: limits.frames > 0.0,
            sounds: Vec::new(),
        }
    }

    /// Records that the source could not speak this, which is not the pair's fault.
    pub(super) fn source_failed(&mut self, what: &str, error: &str) {
        let why = format!("{what}: the source itself failed: {error}");
        self.encoder_missing(&why);
        self.decoder_missing(&why);
    }

    /// Records that the pair's encoder could not speak this, or was not run.
    pub(super) fn encoder_missing(&mut self, why: &str) {
        for tally in
            [&mut self.w, &mut self.w_ceil, &mut self.z_p, &mut self.g, &mut self.audio, &mut self.spectrum]
        {
            tally.missing(why);
        }
    }

    /// Records that the pair's encoder failed.
    pub(super) fn encoder_failed(&mut self, what: &str, error: &Error) {
        self.z_p.fail(format!("{what}: {error}"));
        self.encoder_missing("the pair's encoder failed");
    }

    /// Compares durations, latent and audio of the pair, each computed from the one before.
    pub(super) fn add_spoken(&mut self, what: &str, found: &Stages, expected: &Stages, expected_is: &str) {
        let id = |at: usize| format!("{what}, id number {at}");
        match (&found.w, &expected.w) {
            (Some(a), Some(b)) => self.w.add(relative(a, b), |d| id(d.at)),
            (None, _) => {
                self.w.missing("not found in the pair's encoder: it rounds up nothing, or several values");
            }
            (_, None) => self.w.missing("unknown for the source"),
        }
        match (&found.w_ceil, &expected.w_ceil) {
            (Some(a), Some(b)) => {
                self.w_ceil.add(Difference::of(&a.data, &b.data), |d| id(d.at));
                if a.data.len() != b.data.len() {
                    self.w_ceil.fail(format!(
                        "{what}: {} durations, expected {}",
                        a.data.len(),
                        b.data.len()
                    ));
                }
            }
            (None, _) => self.w_ceil.missing("not found in the pair's encoder"),
            (_, None) => self.w_ceil.missing("unknown for the source"),
        }
        match (&found.g, &expected.g) {
            (Some(a), Some(b)) => {
                self.speakers = true;
                self.g.add(relative(a, b), |d| format!("{what}, channel {}", d.at));
            }
            (Some(_), None) => {
                self.speakers = true;
                self.g.missing("unknown for the source");
            }
            _ => {}
        }
        let other_length = |a: &Option<Array<f32>>, b: &Option<Array<f32>>| {
            a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a.dims.last() != b.dims.last())
        };
        if self.durations_vary && other_length(&found.z_p, &expected.z_p) {
            for tally in [&mut self.z_p, &mut self.audio, &mut self.spectrum] {
                tally.missing("rounded weights changed the durations");
            }
            return;
        }
        match (&found.z_p, &expected.z_p) {
            (Some(a), Some(b)) if a.dims == b.dims => self.z_p.add(relative(a, b), |d| place(what, b, d.at)),
            (Some(a), Some(b)) => self.z_p.fail(format!("{what}: is {:?}, expected {:?}", a.dims, b.dims)),
            (None, _) => self.z_p.missing("the pair returned none"),
            (_, None) => self.z_p.missing(
                "not found in the source's graph: it has no sum of a mean and noise of the same shape",
            ),
        }
        let (Some(a), Some(b)) = (&found.audio, &expected.audio) else {
            for tally in [&mut self.audio, &mut self.spectrum] {
                tally.missing(if found.audio.is_none() {
                    "the pair returned none"
                } else {
                    "unknown for the source"
                });
            }
            return;
        };
        self.audio.add(Difference::of(&a.data, &b.data), |d| format!("{what}, sample {}", d.at));
        if a.data.len() != b.data.len() {
            self.audio.fail(format!("{what}: {} samples, expected {}", a.data.len(), b.data.len()));
        }
        let distance = log_spectral_distance(&a.data, &b.data);
        self.spectrum.value(distance, || what.to_owned());
        let first = |array: &Array<f32>| {
            let batch = array.dims.first().copied().unwrap_or(1).max(1);
            array.data[..array.data.len() / batch].to_vec()
        };
        self.sounds.push(Sound {
            title: what.to_owned(),
            sample_rate: self.sample_rate,
            found: first(a),
            found_is: "encoder and decoder".to_owned(),
            expected: first(b),
            expected_is: expected_is.to_owned(),
        });
    }

    /// Compares the decoder, run on the input of the source's decoder.
    pub(super) fn add_decoder(
        &mut self,
        what: &str,
        pair: &Pair,
        expected: &Stages,
        own_g: Option<&Array<f32>>,
    ) {
        let Some(decoder) = pair.decoder.as_ref().and_then(|(_, decoder)| decoder.as_ref()) else {
            return self.decoder_missing("the pair's decoder does not load");
        };
        let Some(z_p) = &expected.z_p else {
            return self.decoder_missing("the source's z_p, the decoder's input, was not found");
        };
        let g = expected.g.as_ref().or(own_g);
        let y_mask = expected.y_mask.as_ref();
        match (decoder.latent(z_p, y_mask, g), &expected.z) {
            (Ok(Some(a)), Some(b)) if a.dims == b.dims => {
                self.z.add(relative(&a, b), |d| place(what, b, d.at));
            }
            (Ok(Some(a)), Some(b)) => self.z.fail(format!("{what}: is {:?}, expected {:?}", a.dims, b.dims)),
            (Ok(None), _) => self.z.missing(format!("not found in the pair's decoder: {NO_Z}")),
            (Ok(_), None) => self.z.missing(format!("not found in the source's graph: {NO_Z}")),
            (Err(error), _) => self.z.fail(format!("{what}: {error}")),
        }
        match (decoder.audio(z_p, y_mask, g), &expected.audio) {
            (Ok(a), Some(b)) => {
                self.decoder.add(Difference::of(&a.data, &b.data), |d| format!("{what}, sample {}", d.at));
                if a.data.len() != b.data.len() {
                    self.decoder.fail(format!("{what}: {} samples, expected {}", a.data.len(), b.data.len()));
                }
            }
            (Ok(_), None) => self.decoder.missing("the source's audio is unknown"),
            (Err(error), _) => self.decoder.fail(format!("{what}: {error}")),
        }
    }

    fn decoder_missing(&mut self, why: &str) {
        for tally in [&mut self.z, &mut self.decoder] {
            tally.missing(why);
        }
    }

    /// Compares an utterance that the pair spoke before.
    pub(super) fn add(&mut self, spoken: &Spoken, pair: &Pair, expected: &Stages, expected_is: &str) {
        let what = spoken.utterance.to_string();
        self.add_spoken(&what, &spoken.stages, expected, expected_is);
        self.add_decoder(&what, pair, expected, spoken.stages.g.as_ref());
    }

    pub(super) fn finish(self) -> Vec<Check> {
        let Self { w, w_ceil, z_p, g, z, decoder, audio, spectrum, speakers, .. } = self;
        let g = speakers.then_some(g);
        [w, w_ceil, z_p]
            .into_iter()
            .chain(g)
            .chain([z, decoder, audio, spectrum])
            .map(Tally::finish)
            .collect()
    }
}

/// The position of value number `at` in `[b, channels, time]`.
fn place(what: &str, array: &Array<f32>, at: usize) -> String {
    match array.dims.as_slice() {
        &[batch, channels @ (1..), frames @ (1..)] => {
            let item = if batch > 1 { format!(", item {}", at / (channels * frames)) } else { String::new() };
            format!("{what}{item}, channel {}, frame {}", at / frames % channels, at % frames)
        }
        _ => format!("{what}, value {at}"),
    }
}

/// Compares with reference values: one batch with its own noise. `encoder` takes the draws, if there are any.
pub(super) fn add_reference(
    comparison: &mut Comparison,
    pair: &Pair,
    encoder: Result<&EncoderGraph, &str>,
    reference: &super::reference::Reference,
) {
    let what = "the reference";
    let expected = &reference.stages;
    let mut own_g = None;
    match encoder {
        Err(why) => comparison.encoder_missing(why),
        Ok(encoder) => match encoder.encode(&reference.request) {
            Err(error) => comparison.encoder_failed(what, &error),
            Ok(mut found) => {
                if let (Some(z_p), Some((_, Some(decoder)))) = (&found.z_p, &pair.decoder) {
                    match decoder.audio(z_p, found.y_mask.as_ref(), found.g.as_ref()) {
                        Ok(audio) => found.audio = Some(audio),
                        Err(error) => comparison.audio.fail(format!("{what}: {error}")),
                    }
                }
                comparison.add_spoken(what, &found, expected, "the reference");
                own_g = found.g;
            }
        },
    }
    comparison.add_decoder(what, pair, expected, own_g.as_ref());
}
