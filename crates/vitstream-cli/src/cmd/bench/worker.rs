//! Measures one configuration in this process.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use vitstream::{Chunking, Cost, Scales, SpeakOptions, Voice};

use super::super::read_json;
use super::{Job, Workload};

/// Limit on the bytes of a file of utterances: a million ids.
const MAX_UTTERANCES: u64 = 8 << 20;

/// No noise, so that every round and every pair of the same voice has the same durations.
const QUIET: Scales = Scales { noise: 0.0, length: 1.0, noise_w: 0.0 };

/// The measurements of one process, in seconds.
#[derive(Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) load: f64,
    pub(super) peak_memory: Option<u64>,
    pub(super) utterances: Vec<Spoken>,
}

/// One utterance, streamed once. Times in seconds since the request.
#[derive(Serialize, Deserialize)]
pub(super) struct Spoken {
    pub(super) name: String,
    pub(super) ids: usize,
    pub(super) sample_rate: u32,
    pub(super) encoder: f64,
    pub(super) chunks: Vec<SpokenChunk>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SpokenChunk {
    pub(super) frames: usize,
    pub(super) samples: usize,
    pub(super) ready: f64,
}

impl Spoken {
    pub(super) fn audio(&self) -> f64 {
        self.chunks.iter().map(|chunk| chunk.samples).sum::<usize>() as f64 / f64::from(self.sample_rate)
    }

    pub(super) fn first_audio(&self) -> f64 {
        self.chunks.first().map_or(f64::NAN, |chunk| chunk.ready)
    }

    pub(super) fn total(&self) -> f64 {
        self.chunks.last().map_or(f64::NAN, |chunk| chunk.ready)
    }

    /// Each chunk's position in the audio and the time when it was ready, both in seconds.
    pub(super) fn timeline(&self) -> Vec<(f64, f64)> {
        let mut start = 0.0;
        let mut points = Vec::with_capacity(self.chunks.len());
        for chunk in &self.chunks {
            points.push((start, chunk.ready));
            start += chunk.samples as f64 / f64::from(self.sample_rate);
        }
        points
    }

    /// Number of chunks that were not ready when a player that began with the first would have needed them.
    pub(super) fn starving(&self) -> usize {
        let first = self.first_audio();
        self.timeline().iter().filter(|(start, ready)| *ready > first + start).count()
    }

    /// Frames and seconds of the pushes between the first and the last; only these return as many frames as
    /// they take.
    pub(super) fn steady_pushes(&self) -> Vec<(usize, f64)> {
        let inner = self.chunks.len().saturating_sub(1);
        self.chunks[..inner].windows(2).map(|pair| (pair[1].frames, pair[1].ready - pair[0].ready)).collect()
    }
}

pub(super) fn measure(job: &Job) -> Result<Measured> {
    let begun = Instant::now();
    // This process is itself a wall, and its memory is measured.
    let voice = job.configuration.open(&job.voice, None)?;
    let load = begun.elapsed().as_secs_f64();
    let chunking = match (job.workload.first_chunk, job.workload.chunk) {
        (Some(first), Some(rest)) => Chunking::List(vec![first, rest]),
        (None, Some(frames)) => Chunking::Fixed(frames),
        (_, None) => Chunking::Scheduled,
    };
    let utterances = utterances(&job.workload, &voice)?;
    // The first run of a session is slower than the others, and users never wait for it.
    speak(&voice, "warm-up", &utterances[0].1, chunking.clone())?;
    let utterances = utterances
        .iter()
        .map(|(name, ids)| speak(&voice, name, ids, chunking.clone()))
        .collect::<Result<_>>()?;
    Ok(Measured { load, peak_memory: peak_memory(), utterances })
}

fn speak(voice: &Voice, name: &str, ids: &[i64], chunking: Chunking) -> Result<Spoken> {
    let options = SpeakOptions::new().scales(QUIET).chunking(chunking);
    let mut stream = voice.stream(ids, &options)?;
    let mut chunks = Vec::new();
    for chunk in stream.by_ref() {
        let chunk = chunk?;
        let (frames, samples, ready) = (chunk.frames, chunk.samples.len(), chunk.ready.as_secs_f64());
        chunks.push(SpokenChunk { frames, samples, ready });
    }
    Ok(Spoken {
        name: name.to_owned(),
        ids: ids.len(),
        sample_rate: voice.info().sample_rate,
        encoder: stream.encoded().unwrap_or_default().as_secs_f64(),
        chunks,
    })
}

fn utterances(workload: &Workload, voice: &Voice) -> Result<Vec<(String, Vec<i64>)>> {
    let Some(path) = &workload.ids_file else {
        if workload.lengths.is_empty() || workload.lengths.contains(&0) {
            bail!("--lengths: expected at least one length, each of 1 id or more");
        }
        return Ok(workload
            .lengths
            .iter()
            .map(|&length| (format!("{length} ids"), made_up(length, voice)))
            .collect());
    };
    let map: serde_json::Map<String, serde_json::Value> = read_json(path, MAX_UTTERANCES)
        .with_context(|| format!("{}: expected {{\"name\": [id, ...]}}", path.display()))?;
    let utterances = map
        .into_iter()
        .map(|(name, ids)| {
            let ids = serde_json::from_value(ids).with_context(|| format!("{}: {name}", path.display()))?;
            Ok((name, ids))
        })
        .collect::<Result<Vec<_>>>()?;
    if utterances.is_empty() {
        bail!("{}: no utterances", path.display());
    }
    Ok(utterances)
}

/// Ids that sound like speech with a Piper voice: begin, letters with pauses in between, an occasional space,
/// end.
fn made_up(length: usize, voice: &Voice) -> Vec<i64> {
    let symbols = voice.info().symbols.unwrap_or(usize::MAX) as i64;
    let id = |i: usize| match i {
        0 => 1,
        _ if i + 1 == length => 2,
        _ if i % 2 == 1 => 0,
        _ if i.is_multiple_of(12) => 3,
        // Piper's letters are 14 to 38.
        _ => 14 + (i as i64 * 7) % 25,
    };
    (0..length).map(|i| id(i) % symbols).collect()
}

/// The cost of a push of this voice on this device: chunks of several sizes, in turns.
pub(super) fn cost(voice: &Voice) -> Result<Cost> {
    const SIZES: [usize; 4] = [4, 16, 48, 96];
    const ROUNDS: usize = 3;
    let ids = made_up(601, voice);
    let mut pushes: Vec<Vec<f64>> = SIZES.map(|_| Vec::new()).into();
    for _ in 0..ROUNDS {
        for (size, pushes) in SIZES.iter().zip(&mut pushes) {
            let spoken = speak(voice, "calibration", &ids, Chunking::Fixed(*size))?;
            pushes.extend(spoken.steady_pushes().into_iter().map(|(_, seconds)| seconds));
        }
    }
    let medians: Vec<(usize, f64)> = SIZES
        .into_iter()
        .zip(pushes)
        .filter(|(_, pushes)| !pushes.is_empty())
        .map(|(size, pushes)| (size, super::Spread::of(pushes).median))
        .collect();
    Cost::fit(&medians).context("the voice speaks too briefly to be calibrated")
}

/// The peak memory of this process in bytes.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
