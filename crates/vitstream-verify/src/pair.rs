//! Checks of the pair alone: its files, their speech, and chunks compared with the whole.

use std::path::Path;

use vitstream_onnx::ValueId;

use crate::Error;
use crate::compare::{Difference, peak};
use crate::onnx_file::OnnxFile;
use crate::report::{Check, Part, Sound, Tally, Verdict, not_checked};
use crate::session::{Array, Sessions};
use crate::streaming::{self, Chunked, Stateful, Windowed};
use crate::utterance::Utterance;
use crate::voice::{DecoderGraph, EncoderGraph, Request, Stages};
use crate::{limits, stages, weights};
use vitstream_contract::files;

/// The reason why a stage could not be checked in a pair whose files do not load.
const BROKEN: &str = "a required file does not load";

/// The files of a pair, as far as they are usable.
pub(super) struct Pair {
    pub(super) encoder: Option<(OnnxFile, Option<EncoderGraph>)>,
    pub(super) decoder: Option<(OnnxFile, Option<DecoderGraph>)>,
    pub(super) stream: Option<(OnnxFile, Option<Stateful>)>,
    /// Set if there is a stream decoder that cannot be read.
    stream_broken: bool,
}

/// The results for an utterance.
pub(super) struct Spoken {
    pub(super) utterance: Utterance,
    /// The stages up to the one that failed.
    pub(super) stages: Stages,
}

impl Pair {
    /// Opens the files that can be opened, and reports for each file whether it could.
    ///
    /// # Errors
    /// When the folder holds no pair at all.
    pub(super) fn open(dir: &Path, sessions: &Sessions, checks: &mut Vec<Check>) -> Result<Self, Error> {
        let path = |name: &str| dir.join(name);
        if ![files::ENCODER, files::DECODER].iter().any(|name| path(name).exists()) {
            return Err(Error::Unrecoverable {
                path: dir.to_owned(),
                place: "directory".to_owned(),
                problem: format!(
                    "expected a pair ({} and {}), found neither; make one with `vitstream export`",
                    files::ENCODER,
                    files::DECODER
                ),
            });
        }
        let mut pair = Self { encoder: None, decoder: None, stream: None, stream_broken: false };
        pair.encoder =
            open_file(&path(files::ENCODER), checks, |file| EncoderGraph::open(sessions, file, false));
        pair.decoder = open_file(&path(files::DECODER), checks, |file| DecoderGraph::open(sessions, file));
        if path(files::STREAM_DECODER).exists() {
            pair.stream =
                open_file(&path(files::STREAM_DECODER), checks, |file| Stateful::open(sessions, file));
            pair.stream_broken = pair.stream.is_none();
        }
        checks.push(pair.belong_together());
        Ok(pair)
    }

    /// The files that could be read.
    pub(super) fn files(&self) -> impl Iterator<Item = &OnnxFile> {
        let encoder = self.encoder.iter().map(|(file, _)| file);
        encoder
            .chain(self.decoder.iter().map(|(file, _)| file))
            .chain(self.stream.iter().map(|(file, _)| file))
    }

    /// Returns true if the files that a player requires could be loaded.
    pub(super) fn loads(&self) -> bool {
        let encoder = matches!(&self.encoder, Some((_, Some(_))));
        let stream = !matches!(&self.stream, Some((_, None))) && !self.stream_broken;
        encoder && matches!(&self.decoder, Some((_, Some(_)))) && stream
    }

    /// A metadata entry of any of the files.
    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        self.files().find_map(|file| file.graph.metadata.get(key)).map(String::as_str)
    }

    pub(super) fn number(&self, key: &str) -> Option<usize> {
        self.metadata(key)?.parse().ok()
    }

    /// Returns true if vitstream wrote the pair.
    pub(super) fn is_ours(&self) -> bool {
        self.metadata("vitstream_version").is_some()
    }

    fn belong_together(&self) -> Check {
        const NAME: &str = "belong together";
        let (Some((encoder, _)), Some((decoder, _))) = (&self.encoder, &self.decoder) else {
            return not_checked(Part::Files, NAME, BROKEN);
        };
        let mut problems = Vec::new();
        let ids: Vec<(String, &str)> = self
            .files()
            .filter_map(|file| Some((file_name(file), file.graph.metadata.get("pair_id")?.as_str())))
            .collect();
        if let Some(((first, a), (other, b))) =
            ids.first().and_then(|first| Some((first, ids.iter().find(|other| other.1 != first.1)?)))
        {
            problems.push(format!(
                "pair_id is {a} in {first} and {b} in {other}: the files come from different exports"
            ));
        }
        let width =
            |file: &OnnxFile, id: Option<ValueId>| file.graph.value(id?).shape.as_ref()?.get(1)?.as_const();
        for (decoder, _) in self.stream.iter().map(|(file, _)| (file, ())).chain([(decoder, ())]) {
            for name in ["z", "g"] {
                let (a, b) = (width(encoder, encoder.output(name)), width(decoder, decoder.input(name)));
                if let (Some(a), Some(b)) = (a, b)
                    && a != b
                {
                    let decoder = file_name(decoder);
                    problems.push(format!(
                        "{} gives {a} channels of {name}, {decoder} takes {b}",
                        files::ENCODER
                    ));
                }
            }
            if encoder.input("sid").is_some() != decoder.input("g").is_some() {
                let decoder = file_name(decoder);
                problems.push(format!("only one of {} and {decoder} has speakers", files::ENCODER));
            }
        }
        match (problems.is_empty(), ids.first()) {
            (false, _) => Check::new(Part::Files, NAME, Verdict::Failed, problems.join("; ")),
            (true, Some((_, id))) => Check::new(Part::Files, NAME, Verdict::Ok, format!("pair_id {id}")),
            (true, None) => {
                Check::new(Part::Files, NAME, Verdict::Ok, "channels and speakers agree; there is no pair_id")
            }
        }
    }

    /// The number of speakers, for a voice with several.
    pub(super) fn speakers(&self, stated: Option<usize>) -> Option<usize> {
        let (encoder, _) = self.encoder.as_ref()?;
        encoder.input("sid")?;
        // The graph takes precedence over statements about it.
        Some(stages::speakers(encoder).or_else(|| self.number("n_speakers")).or(stated).unwrap_or(1))
    }

    /// The number of phoneme ids.
    pub(super) fn symbols(&self) -> Option<usize> {
        let shown = self.encoder.as_ref().and_then(|(encoder, _)| stages::symbols(encoder));
        shown.or_else(|| self.number("num_symbols"))
    }

    /// Speaks every utterance at once.
    pub(super) fn speak(&self, utterances: &[Utterance], checks: &mut Vec<Check>) -> Vec<Spoken> {
        let tally = |name: &str, limit, unit| Tally::new(Part::Speaking, name, limit, unit);
        let mut w = tally("durations w_ceil", None, "frames");
        let mut z_p = tally("latent z_p", None, "");
        let mut z = tally("latent z, after the flow", None, "");
        let mut audio = tally("audio, loudest sample", Some(limits::FULL_SCALE), "");
        let mut loudness = Loudness::default();
        let mut spoken = Vec::new();
        for utterance in utterances {
            let place = || utterance.to_string();
            let mut stages = Stages::default();
            match &self.encoder {
                Some((_, Some(encoder))) => match encoder.encode(&Request::quiet(utterance)) {
                    Ok(encoded) => stages = encoded,
                    Err(error) => w.fail(format!("{utterance}: {error}")),
                },
                _ => w.missing(BROKEN),
            }
            let frames = stages.z_p.as_ref().and_then(|z_p| z_p.dims.get(2).copied());
            match (&stages.w_ceil, frames) {
                (Some(w_ceil), Some(frames)) => {
                    w.value(peak(&w_ceil.data), place);
                    let sum = w_ceil.data.iter().map(|&w| f64::from(w)).sum::<f64>().max(1.0);
                    if sum != frames as f64 {
                        w.fail(format!("{utterance}: they sum up to {sum}, but `z` has {frames} frames"));
                    }
                }
                (None, Some(_)) => w.missing("the graph rounds up nothing, or more than durations"),
                _ => {}
            }
            if let Some(values) = stages.z_p.take() {
                if values.dims.len() == 3 && values.dims[0] == 1 && !values.data.is_empty() {
                    finite(&mut z_p, &values.data, utterance);
                    stages.z_p = Some(values);
                } else {
                    z_p.fail(format!("{utterance}: expected [1, channels, time], found {:?}", values.dims));
                }
            }
            let decoder = self.decoder.as_ref().and_then(|(_, decoder)| decoder.as_ref());
            match (decoder, &stages.z_p) {
                (Some(decoder), Some(latent)) => {
                    let (y_mask, g) = (stages.y_mask.as_ref(), stages.g.as_ref());
                    match decoder.latent(latent, y_mask, g) {
                        Ok(Some(values)) => {
                            finite(&mut z, &values.data, utterance);
                            stages.z = Some(values);
                        }
                        Ok(None) => z.missing(NO_Z),
                        Err(error) => z.fail(format!("{utterance}: {error}")),
                    }
                    match decoder.audio(latent, y_mask, g) {
                        Ok(samples) => {
                            finite(&mut audio, &samples.data, utterance);
                            loudness.add(&samples.data);
                            stages.audio = Some(samples);
                        }
                        Err(error) => audio.fail(format!("{utterance}: {error}")),
                    }
                }
                _ => {
                    for tally in [&mut z, &mut audio] {
                        tally.missing(BROKEN);
                    }
                    z_p.missing(BROKEN);
                }
            }
            spoken.push(Spoken { utterance: utterance.clone(), stages });
        }
        if let Some(problem) = loudness.problem() {
            audio.fail(problem);
        }
        checks.extend([w, z_p, z, audio].map(Tally::finish));
        spoken
    }

    /// Streams every utterance, and returns audio for display.
    pub(super) fn stream(
        &self,
        spoken: &[Spoken],
        known: Known,
        sample_rate: u32,
        checks: &mut Vec<Check>,
    ) -> Vec<Sound> {
        let mut sounds: Vec<Sound> = Vec::new();
        let decoder = self.decoder.as_ref().and_then(|(_, decoder)| decoder.as_ref());
        let windowed = match (decoder, known) {
            (Some(decoder), Known { receptive_field: Some(overlap), hop: Some(hop) }) => {
                Ok(Windowed { decoder, overlap, hop })
            }
            (None, _) => Err(BROKEN),
            _ => Err(
                "the overlap of windows and the samples per frame are not stated, or not valid: export the voice with vitstream",
            ),
        };
        let stateful = match &self.stream {
            Some((_, Some(stateful))) => Ok(stateful),
            Some((_, None)) => Err(BROKEN),
            None => Err("there is no decoder.stream.onnx"),
        };
        let mut show = |one: &Spoken, streamed: &[f32], how: String| {
            let title = one.utterance.to_string();
            if sounds.iter().all(|sound| sound.title != title) {
                sounds.push(Sound {
                    title,
                    sample_rate,
                    found: streamed.to_vec(),
                    found_is: how,
                    expected: one.stages.audio.as_ref().map(|audio| audio.data.clone()).unwrap_or_default(),
                    expected_is: "decoded at once".to_owned(),
                });
            }
        };
        let mut run = |kind: &str, way: Result<&dyn Chunked, &str>, checks: &mut Vec<Check>| match way {
            Err(why) => checks.push(not_checked(Part::Streaming, kind, why)),
            Ok(way) => checks.extend(way.schedules().iter().map(|&schedule| {
                let name = format!("{kind}, {}", streaming::describe(schedule));
                let stream = |z: &_, g: Option<&_>| way.stream(z, g, schedule);
                let show = |one: &_, streamed: &[f32]| show(one, streamed, name.clone());
                compare_streamed(name.clone(), spoken, decoder, stream, show)
            })),
        };
        run("stateful", stateful.map(|stateful| stateful as _), checks);
        if let (Ok(stateful), Some(decoder)) = (stateful, decoder) {
            checks.push(one_frame(spoken, stateful, decoder));
        }
        run("windowed", windowed.as_ref().map(|windowed| windowed as _).map_err(|why| *why), checks);
        sounds
    }
}

/// The message for a latent that cannot be found.
pub(super) const NO_Z: &str = "no convolution of the graph is the generator's first (dec.conv_pre)";

/// Facts that are required for streaming a pair in windows.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// Frames on each side.
    pub(super) receptive_field: Option<usize>,
    /// Samples per frame.
    pub(super) hop: Option<usize>,
}

/// Streams every utterance, or as much of its start as can be streamed in reasonable time.
fn compare_streamed(
    name: String,
    spoken: &[Spoken],
    decoder: Option<&DecoderGraph>,
    mut stream: impl FnMut(&Array<f32>, Option<&Array<f32>>) -> Result<Option<Vec<f32>>, Error>,
    mut show: impl FnMut(&Spoken, &[f32]),
) -> Check {
    let mut tally = Tally::new(Part::Streaming, name, Some(limits::AUDIO), "");
    for one in spoken {
        let (Some(z_p), Some(whole), Some(decoder)) = (&one.stages.z_p, &one.stages.audio, decoder) else {
            tally.missing(BROKEN);
            continue;
        };
        let g = one.stages.g.as_ref();
        let mut beginning = None;
        let (streamed, whole) = loop {
            let z = beginning.as_ref().unwrap_or(z_p);
            match stream(z, g) {
                Ok(None) => beginning = Some(streaming::first_frames(z, z.dims[2].div_ceil(2))),
                Ok(Some(streamed)) if beginning.is_none() => break (Ok(streamed), Ok(whole.clone())),
                Ok(Some(streamed)) => break (Ok(streamed), decoder.audio(z, None, g)),
                Err(error) => break (Err(error), Ok(whole.clone())),
            }
        };
        match (streamed, whole) {
            (Ok(streamed), Ok(whole)) if streamed.len() == whole.data.len() => {
                if beginning.is_none() {
                    show(one, &streamed);
                }
                let part =
                    beginning.as_ref().map_or(String::new(), |z| format!(", first {} frames", z.dims[2]));
                tally.add(Difference::of(&streamed, &whole.data), |difference| {
                    format!("{}{part}, sample {}", one.utterance, difference.at)
                });
            }
            (Ok(streamed), Ok(whole)) => {
                let (found, expected) = (streamed.len(), whole.data.len());
                tally.fail(format!("{}: {found} samples streamed, {expected} at once", one.utterance));
            }
            (Err(error), _) | (_, Err(error)) => tally.fail(format!("{}: {error}", one.utterance)),
        }
    }
    tally.finish()
}

/// Checks an utterance of a single frame.
fn one_frame(spoken: &[Spoken], stateful: &Stateful, decoder: &DecoderGraph) -> Check {
    let mut tally = Tally::new(Part::Streaming, "stateful, an utterance of 1 frame", Some(limits::AUDIO), "");
    for one in spoken {
        let Some(z_p) = &one.stages.z_p else {
            tally.missing(BROKEN);
            continue;
        };
        let (frame, g) = (streaming::first_frames(z_p, 1), one.stages.g.as_ref());
        let both =
            decoder.audio(&frame, None, g).and_then(|whole| Ok((whole, stateful.stream(&frame, g, &[1])?)));
        match both {
            Ok((whole, Some(streamed))) if whole.data.len() == streamed.len() => {
                tally.add(Difference::of(&streamed, &whole.data), |difference| {
                    format!("{}, its first frame, sample {}", one.utterance, difference.at)
                });
            }
            Ok((whole, streamed)) => {
                let found = streamed.map_or(0, |streamed| streamed.len());
                tally.fail(format!("{found} samples streamed, {} at once", whole.data.len()));
            }
            Err(error) => tally.fail(format!("{}: {error}", one.utterance)),
        }
    }
    tally.finish()
}

/// The loudness of all spoken utterances.
#[derive(Default)]
struct Loudness {
    samples: usize,
    /// Number of samples at full scale.
    clipped: usize,
    range: Option<(f32, f32)>,
}

impl Loudness {
    fn add(&mut self, samples: &[f32]) {
        self.samples += samples.len();
        self.clipped += samples.iter().filter(|sample| sample.abs() >= limits::CLIPPED).count();
        for &sample in samples.iter().filter(|sample| sample.is_finite()) {
            let (low, high) = self.range.unwrap_or((sample, sample));
            self.range = Some((low.min(sample), high.max(sample)));
        }
    }

    /// The reason why this is not speech.
    fn problem(&self) -> Option<String> {
        let (low, high) = self.range?;
        if f64::from(high - low) < limits::SILENCE {
            return Some(format!("is silent: all samples are between {low} and {high}"));
        }
        let share = self.clipped as f64 / self.samples as f64;
        (share > limits::MOST_CLIPPED).then(|| {
            format!(
                "is noise: {:.0} % of the samples are at full scale; the decoder's weights are damaged",
                100.0 * share
            )
        })
    }
}

/// Adds the largest value, and fails if a value is not finite.
fn finite(tally: &mut Tally, values: &[f32], utterance: &Utterance) {
    let largest = peak(values);
    tally.value(largest, || utterance.to_string());
    if !largest.is_finite() {
        let at = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
        tally.fail(format!("{utterance}: value number {at} of {} is not a finite number", values.len()));
    }
}

/// Reads a file, checks its weights, and loads it.
fn open_file<T>(
    path: &Path,
    checks: &mut Vec<Check>,
    open: impl FnOnce(&OnnxFile) -> Result<T, Error>,
) -> Option<(OnnxFile, Option<T>)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |problem: String| Check::new(Part::Files, name.clone(), Verdict::Failed, problem);
    let file = match OnnxFile::read(path) {
        Ok(file) => file,
        Err(error) => {
            checks.push(failed(error.to_string()));
            return None;
        }
    };
    let spoilt = weights::not_finite(&file);
    let opened = open(&file);
    checks.push(match (&opened, spoilt.first()) {
        (Err(error), _) => failed(error.to_string()),
        (Ok(_), Some(first)) => {
            let more =
                if spoilt.len() > 1 { format!(" and {} more", spoilt.len() - 1) } else { String::new() };
            failed(format!("weights that are not finite: {first}{more}"))
        }
        (Ok(_), None) => {
            let (nodes, size) = (file.graph.nodes.len(), file.bytes.len() as f64 / 1e6);
            let detail = format!("loads: {nodes} nodes, {size:.2} MB");
            Check::new(Part::Files, name, Verdict::Ok, detail)
        }
    });
    Some((file, opened.ok()))
}

fn file_name(file: &OnnxFile) -> String {
    file.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
