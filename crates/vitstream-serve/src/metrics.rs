//! Metrics for Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::scheduler::Now;

/// Buckets in seconds: from the time on an idle machine to more than anyone waits.
const FIRST_AUDIO: [f64; 13] = [0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0];

/// The metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    first_audio: Family<Protocol, Histogram, fn() -> Histogram>,
    requests: Family<Outcome, Counter>,
    audio: Counter<f64, AtomicU64>,
    computing: Counter<f64, AtomicU64>,
    sent: Counter,
    streams: Family<State, Gauge>,
    load: Gauge<f64, AtomicU64>,
    underruns: Gauge,
    voices: Family<VoiceName, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Protocol {
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    protocol: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VoiceName {
    voice: String,
}

fn first_audio() -> Histogram {
    Histogram::new(FIRST_AUDIO)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("vitstream"),
            first_audio: Family::new_with_constructor(first_audio),
            requests: Family::default(),
            audio: Counter::default(),
            computing: Counter::default(),
            sent: Counter::default(),
            streams: Family::default(),
            load: Gauge::default(),
            underruns: Gauge::default(),
            voices: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register_with_unit(
            "first_audio",
            "From the request to its first audio",
            Unit::Seconds,
            metrics.first_audio.clone(),
        );
        registry.register("requests", "Requests for speech, by how they ended", metrics.requests.clone());
        registry.register_with_unit("audio", "Audio that was spoken", Unit::Seconds, metrics.audio.clone());
        registry.register_with_unit(
            "computing",
            "Time that workers took for it; divided by the audio it is the real-time factor",
            Unit::Seconds,
            metrics.computing.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Bytes of audio that were sent",
            Unit::Bytes,
            metrics.sent.clone(),
        );
        registry.register("streams", "Streams by what they do now", metrics.streams.clone());
        registry.register("load", "Share of the workers that is spoken for", metrics.load.clone());
        registry.register(
            "underruns",
            "Chunks that were ready after a listener that plays at once had run dry",
            metrics.underruns.clone(),
        );
        registry.register_with_unit(
            "voice",
            "Bytes that the weights of each voice in memory take",
            Unit::Bytes,
            metrics.voices.clone(),
        );
        metrics
    }
}

impl Metrics {
    pub(crate) fn first_audio(&self, protocol: &'static str, after: Duration) {
        self.first_audio.get_or_create(&Protocol { protocol }).observe(after.as_secs_f64());
    }

    pub(crate) fn ended(&self, protocol: &'static str, outcome: &'static str) {
        self.requests.get_or_create(&Outcome { protocol, outcome }).inc();
    }

    pub(crate) fn computed(&self, took: Duration, plays: Duration) {
        self.computing.inc_by(took.as_secs_f64());
        self.audio.inc_by(plays.as_secs_f64());
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    /// All metrics as text, including the current state.
    pub(crate) fn text(&self, now: &Now, voices: &[(String, u64)]) -> String {
        let states = [
            ("active", now.active),
            ("runnable", now.runnable),
            ("parked", now.parked),
            ("waiting", now.waiting),
            ("queued", now.held),
        ];
        for (state, count) in states {
            self.streams.get_or_create(&State { state }).set(count as i64);
        }
        self.load.set(now.load);
        self.underruns.set(i64::try_from(now.counts.underruns).unwrap_or(i64::MAX));
        self.voices.clear();
        for (voice, bytes) in voices {
            let label = VoiceName { voice: voice.clone() };
            self.voices.get_or_create(&label).set(i64::try_from(*bytes).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// The media type of [`Metrics::text`].
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
