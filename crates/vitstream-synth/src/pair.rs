//! An exported pair behind the [engine's seam](crate::backend): `encoder.onnx`, and `decoder.stream.onnx` or
//! `decoder.onnx`.

mod bound;
mod encoder;
mod stateful;
mod windowed;

use std::path::Path;
use std::sync::Arc;

pub(crate) use encoder::OnnxEncoder;
pub(crate) use stateful::StatefulDecoder;
pub(crate) use windowed::WindowedDecoder;

use crate::backend::DecodeBackend;
use crate::error::{Error, Result};
use crate::graph_file::{GraphFile, fixed};
use crate::options::DecoderChoice;
use crate::runtime::RuntimeOptions;
use crate::schedule::Cost;

/// A pair's two halves, and what its files say about the voice.
pub(crate) struct Pair {
    pub(crate) encoder: OnnxEncoder,
    pub(crate) decoder: Arc<dyn DecodeBackend>,
    /// Which decoder it is, as it stands in a profile's key.
    pub(crate) decoder_kind: &'static str,
    /// The cost of a push where none was measured.
    pub(crate) cost: Cost,
    /// What tells this voice from others.
    pub(crate) identity: String,
    pub(crate) sample_rate: Option<u32>,
    /// Rows of the embedding table.
    pub(crate) symbols: Option<usize>,
    /// Rows of the speaker table; `None` for a voice of one speaker.
    pub(crate) speakers: Option<Option<usize>>,
}

impl Pair {
    pub(crate) fn open(dir: &Path, choice: DecoderChoice, options: &RuntimeOptions) -> Result<Self> {
        let encoder = GraphFile::read(&dir.join("encoder.onnx"))?;
        encoder.expect(&["input", "input_lengths", "scales"], &["z", "y_mask"])?;

        let stream_path = dir.join("decoder.stream.onnx");
        let stateful = match choice {
            DecoderChoice::Stateful => true,
            DecoderChoice::Windowed => false,
            DecoderChoice::Auto => stream_path.exists(),
        };
        let decoder = GraphFile::read(&if stateful { stream_path } else { dir.join("decoder.onnx") })?;
        decoder.expect(&["z"], &["output"])?;

        let multi = encoder.input("sid").is_some();
        check_together(&encoder, &decoder, multi)?;
        let speakers = match encoder.number::<usize>("n_speakers")? {
            _ if !multi => None,
            Some(n) => Some(Some(n)),
            None => Some(encoder.table_rows("sid")),
        };
        let sample_rate = match decoder.number("sample_rate")? {
            Some(rate) => Some(rate),
            None => encoder.number("sample_rate")?,
        };
        let size = decoder.bytes.len();
        let identity = decoder.metadata("pair_id").map_or_else(|| format!("size-{size}"), str::to_owned);
        let symbols = encoder.table_rows("input");

        let (decoder, decoder_kind, cost): (Arc<dyn DecodeBackend>, _, _) = if stateful {
            (Arc::new(StatefulDecoder::open(decoder, options)?), "stateful", Cost::STATEFUL)
        } else {
            let decoder = WindowedDecoder::open(decoder, options)?;
            let cost = Cost::windowed(decoder.overlap());
            (Arc::new(decoder), "windowed", cost)
        };
        let encoder = OnnxEncoder::open(encoder, options)?;
        Ok(Self { encoder, decoder, decoder_kind, cost, identity, sample_rate, symbols, speakers })
    }
}

/// Detects an encoder of one voice beside a decoder of another, as far as the files can tell.
fn check_together(encoder: &GraphFile, decoder: &GraphFile, multi: bool) -> Result<()> {
    let name = |file: &GraphFile| file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mismatch = |what: String| {
        let (encoder, decoder) = (name(encoder), name(decoder));
        Err(Error::Mismatch(format!("{what} ({encoder} and {decoder}); take both from the same export")))
    };
    if let (Some(a), Some(b)) = (encoder.metadata("pair_id"), decoder.metadata("pair_id"))
        && a != b
    {
        return mismatch(format!("their pair_id is {a:?} in one and {b:?} in the other"));
    }
    let width = |info: Option<&_>| info.and_then(|info| fixed(info, 1));
    if let (Some(a), Some(b)) = (width(encoder.output("z")), width(decoder.input("z")))
        && a != b
    {
        return mismatch(format!("one gives {a} channels of z, the other takes {b}"));
    }
    if let (Some(a), Some(b)) = (width(encoder.output("g")), width(decoder.input("g")))
        && a != b
    {
        return mismatch(format!("one gives {a} channels of g, the other takes {b}"));
    }
    match (multi, decoder.input("g").is_some()) {
        (true, false) => mismatch("one has several speakers, the other a single one".to_owned()),
        (false, true) => mismatch("one has a single speaker, the other several".to_owned()),
        (true, true) if encoder.output("g").is_none() => {
            Err(encoder.error("expected an output `g` beside the input `sid`, found none"))
        }
        _ => Ok(()),
    }
}
