//! `vitstream inspect`

mod espeak;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value as Json;
use vitstream::HParams;
use vitstream::config::VoiceConfig;
use vitstream::inspect::{
    CheckpointInspection, GraphInspection, Inspection, PortInspection, Size, TensorInspection,
    VoiceInspection, VoicePart,
};

use super::export::megabytes;
use super::{ReadArgs, terminal, voices};
use espeak::Training;

/// Show the contents of a checkpoint or an exported graph
///
/// For a checkpoint: hyper-parameters, the network's parts with their sizes, and the tensors that an export
/// leaves out. For an ONNX file: inputs, outputs, operators, metadata. For a Piper voice also the espeak-ng
/// that it was trained with, if its JSON is next to it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A checkpoint, an ONNX file, or the name of a voice installed by `vitstream voices`
    file: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(mut args: Args, quiet: bool) -> anyhow::Result<()> {
    args.file = voices::resolve(&args.file, quiet)?;
    let mut found = vitstream::inspect(&args.file, &args.read.options())?;
    let tensors = match &mut found {
        Inspection::Checkpoint(checkpoint) => &mut checkpoint.tensors,
        Inspection::Graph(graph) => &mut graph.tensors,
    };
    if !args.tensors {
        tensors.clear();
    }
    let training = training(&args);
    let out = &mut terminal::stdout();
    if args.json {
        let found = Found { found: &found, espeak: training.as_ref() };
        serde_json::to_writer_pretty(&mut *out, &found).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        match &found {
            Inspection::Checkpoint(checkpoint) => describe_checkpoint(out, checkpoint)?,
            Inspection::Graph(graph) => describe_graph(out, graph)?,
        }
        if let Some(training) = training {
            writeln!(out, "trained with espeak-ng\n  {}", training.describe())?;
        }
    }
    out.flush()?;
    Ok(())
}

/// The output of `--json`.
#[derive(Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    found: &'a Inspection,
    #[serde(skip_serializing_if = "Option::is_none")]
    espeak: Option<&'a Training>,
}

/// An unreadable JSON is reported by the inspection itself, if it matters.
fn training(args: &Args) -> Option<Training> {
    let named = args.read.options().config;
    let config = VoiceConfig::named_or_beside(named.as_deref(), &args.file).ok()??;
    Training::of(config.json())
}

fn describe_checkpoint(out: &mut impl Write, checkpoint: &CheckpointInspection) -> io::Result<()> {
    writeln!(out, "{}: {}", checkpoint.path.display(), checkpoint.format)?;
    describe_hparams(out, &checkpoint.hparams)?;
    writeln!(out, "  {:<26} {} samples", "hop", checkpoint.hop_length)?;
    if let Some(frames) = checkpoint.receptive_field {
        writeln!(out, "  {:<26} {frames} frames on each side", "receptive field")?;
    }
    match &checkpoint.config {
        Some(path) => writeln!(out, "  {:<26} {}", "voice JSON", path.display())?,
        None => writeln!(out, "  {:<26} none", "voice JSON")?,
    }
    for note in &checkpoint.notes {
        writeln!(out, "  {:<26} {note}", "note")?;
    }
    for warning in &checkpoint.warnings {
        writeln!(out, "  {:<26} {warning}", "warning")?;
    }
    writeln!(out, "used by an export")?;
    describe_sizes(out, &checkpoint.parts)?;
    if !checkpoint.unneeded.is_empty() {
        writeln!(out, "left out")?;
        describe_sizes(out, &checkpoint.unneeded)?;
    }
    describe_tensors(out, &checkpoint.tensors)?;
    match &checkpoint.problem {
        None => writeln!(out, "an export would write encoder.onnx, decoder.onnx and decoder.stream.onnx")?,
        Some(problem) => writeln!(out, "cannot be exported: {problem}")?,
    }
    Ok(())
}

fn describe_hparams(out: &mut impl Write, hparams: &HParams) -> io::Result<()> {
    // Converted through text, because as a double, 1e-5 would be shown as 9.99...e-6.
    let hparams = serde_json::to_string(hparams).and_then(|text| serde_json::from_str(&text));
    describe_json(out, "", &hparams.map_err(io::Error::from)?)
}

/// Rows of names and values; a nested value is prefixed with the name of the outer one.
fn describe_json(out: &mut impl Write, name: &str, value: &Json) -> io::Result<()> {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        // A kind, and the values that belong to it.
        Json::Object(map) if map.len() == 1 && map.values().all(Json::is_object) && !name.is_empty() => {
            for (kind, value) in map {
                writeln!(out, "  {name:<26} {}", kind.to_lowercase())?;
                describe_json(out, name, value)?;
            }
            Ok(())
        }
        Json::Object(map) => map.iter().try_for_each(|(key, value)| describe_json(out, &inner(key), value)),
        // Not part of the network's shape: other rows state it, if it is known.
        Json::Null => Ok(()),
        value => writeln!(out, "  {name:<26} {}", plain(value)),
    }
}

/// `8, 8, 4`; nested lists as `(1, 2), (2, 6)`.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(values) => {
            let values = values.iter().map(|value| match value {
                Json::Array(_) => format!("({})", plain(value)),
                value => plain(value),
            });
            values.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn describe_voice(out: &mut impl Write, voice: &VoiceInspection) -> io::Result<()> {
    let part = match voice.part {
        VoicePart::Whole => "a whole voice",
        VoicePart::Encoder => "the encoder of a streaming pair",
        VoicePart::Decoder => "the decoder of a streaming pair",
        VoicePart::StreamDecoder => "the decoder of a streaming pair that carries its state",
        _ => "a part of a voice",
    };
    let stated = |value: Option<String>| value.unwrap_or_else(|| "not stated".to_owned());
    let rows = [
        ("part", part.to_owned()),
        ("family", voice.family.unwrap_or("unknown").to_owned()),
        ("speakers", stated(voice.speakers.map(|n| n.to_string()))),
        ("sample rate", stated(voice.sample_rate.map(|rate| format!("{rate} Hz")))),
        ("streaming", if voice.streaming { "yes" } else { "no: export it to a pair first" }.to_owned()),
    ];
    writeln!(out, "voice")?;
    for (name, value) in rows {
        writeln!(out, "  {name:<26} {value}")?;
    }
    match &voice.hparams {
        Some(hparams) => {
            writeln!(out, "network")?;
            describe_hparams(out, hparams)
        }
        None => Ok(()),
    }
}

fn describe_sizes(out: &mut impl Write, sizes: &BTreeMap<String, Size>) -> io::Result<()> {
    for (name, size) in sizes {
        let (tensors, parameters) = (size.tensors, size.parameters);
        writeln!(
            out,
            "  {name:<62} {tensors:>5} tensors {parameters:>11} parameters {:>10}",
            megabytes(size.bytes)
        )?;
    }
    Ok(())
}

fn describe_tensors(out: &mut impl Write, tensors: &[TensorInspection]) -> io::Result<()> {
    for tensor in tensors {
        writeln!(out, "  {} {} {:?}", tensor.name, tensor.dtype, tensor.shape)?;
    }
    Ok(())
}

fn describe_graph(out: &mut impl Write, graph: &GraphInspection) -> io::Result<()> {
    writeln!(out, "{}: an ONNX graph, opset {}, {} nodes", graph.path.display(), graph.opset, graph.nodes)?;
    if let Some(voice) = &graph.voice {
        describe_voice(out, voice)?;
    }
    for (title, ports) in [("inputs", &graph.inputs), ("outputs", &graph.outputs)] {
        writeln!(out, "{title}")?;
        for PortInspection { name, dtype, shape } in ports {
            let dtype = dtype.as_deref().unwrap_or("?");
            let shape = shape.as_ref().map_or("?".to_owned(), |shape| shape.join(", "));
            writeln!(out, "  {name:<44} {dtype} [{shape}]")?;
        }
    }
    writeln!(
        out,
        "weights\n  {} tensors, {} parameters, {}",
        graph.weights.tensors,
        graph.weights.parameters,
        megabytes(graph.weights.bytes)
    )?;
    for file in &graph.external {
        writeln!(out, "  in {file}")?;
    }
    writeln!(out, "operators")?;
    for (operator, count) in &graph.operators {
        writeln!(out, "  {operator:<22} {count}")?;
    }
    writeln!(out, "metadata")?;
    for (key, value) in &graph.metadata {
        writeln!(out, "  {key:<22} {value}")?;
    }
    describe_tensors(out, &graph.tensors)?;
    match &graph.voice {
        Some(VoiceInspection { exportable: true, part: VoicePart::Whole, .. }) => {
            writeln!(out, "an export would write encoder.onnx, decoder.onnx and decoder.stream.onnx")
        }
        Some(VoiceInspection { exportable: true, .. }) => {
            writeln!(out, "its folder can be exported again")
        }
        // This problem names the file, and says more than the problem of the graph alone.
        Some(VoiceInspection { problem: Some(problem), .. }) => {
            writeln!(out, "cannot be exported: {problem}")
        }
        _ => match &graph.problem {
            Some(problem) => writeln!(out, "cannot be read: {problem}"),
            None => writeln!(out, "its inputs and outputs are not those of a voice"),
        },
    }
}
