//! `vitstream inspect`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use vitstream::inspect::{
    CheckpointInspection, GraphInspection, Inspection, PortInspection, Size, TensorInspection, inspect,
};

use super::export::megabytes;

/// Say what a checkpoint or an exported graph holds
///
/// For a checkpoint: hyper-parameters, the network's parts with their sizes, and what an export leaves out. For an ONNX
/// file: inputs, outputs, operators, metadata.
#[derive(Args)]
pub(crate) struct InspectArgs {
    /// A checkpoint or an ONNX file
    file: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let mut found = inspect(&args.file)?;
    let tensors = match &mut found {
        Inspection::Checkpoint(checkpoint) => &mut checkpoint.tensors,
        Inspection::Graph(graph) => &mut graph.tensors,
    };
    if !args.tensors {
        tensors.clear();
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(());
    }
    match &found {
        Inspection::Checkpoint(checkpoint) => describe_checkpoint(checkpoint),
        Inspection::Graph(graph) => describe_graph(graph),
    }
    Ok(())
}

fn describe_checkpoint(checkpoint: &CheckpointInspection) {
    println!("{}: a VITS checkpoint", checkpoint.path.display());
    if let Ok(serde_json::Value::Object(hparams)) = serde_json::to_value(&checkpoint.hparams) {
        for (name, value) in hparams {
            println!("  {name:<26} {value}");
        }
    }
    println!("  {:<26} {} samples", "hop", checkpoint.hop_length);
    if let Some(frames) = checkpoint.receptive_field {
        println!("  {:<26} {frames} frames to each side", "receptive field");
    }
    println!("used by an export");
    describe_sizes(&checkpoint.parts);
    if !checkpoint.unneeded.is_empty() {
        println!("left out");
        describe_sizes(&checkpoint.unneeded);
    }
    describe_tensors(&checkpoint.tensors);
    match &checkpoint.problem {
        None => println!("an export would write encoder.onnx, decoder.onnx and decoder.stream.onnx"),
        Some(problem) => println!("cannot be exported: {problem}"),
    }
}

fn describe_sizes(sizes: &BTreeMap<String, Size>) {
    for (name, size) in sizes {
        let (tensors, parameters) = (size.tensors, size.parameters);
        println!(
            "  {name:<62} {tensors:>5} tensors {parameters:>11} parameters {:>10}",
            megabytes(size.bytes)
        );
    }
}

fn describe_tensors(tensors: &[TensorInspection]) {
    for tensor in tensors {
        println!("  {} {} {:?}", tensor.name, tensor.dtype, tensor.shape);
    }
}

fn describe_graph(graph: &GraphInspection) {
    println!("{}: an ONNX graph, opset {}, {} nodes", graph.path.display(), graph.opset, graph.nodes);
    for (title, ports) in [("inputs", &graph.inputs), ("outputs", &graph.outputs)] {
        println!("{title}");
        for PortInspection { name, dtype, shape } in ports {
            let dtype = dtype.as_deref().unwrap_or("?");
            let shape = shape.as_ref().map_or("?".to_owned(), |shape| shape.join(", "));
            println!("  {name:<44} {dtype} [{shape}]");
        }
    }
    println!(
        "weights\n  {} tensors, {} parameters, {}",
        graph.weights.tensors,
        graph.weights.parameters,
        megabytes(graph.weights.bytes)
    );
    println!("operators");
    for (operator, count) in &graph.operators {
        println!("  {operator:<22} {count}");
    }
    println!("metadata");
    for (key, value) in &graph.metadata {
        println!("  {key:<22} {value}");
    }
    describe_tensors(&graph.tensors);
}
