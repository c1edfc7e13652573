//! Names, order, types and axes of a pair, on which existing clients depend.

mod support;

use support::Fixture;
use vitstream_onnx::{DType, Graph, ValueId, decode, encode, passes, validate};
use vitstream_vits::{EncoderForm, NoiseSource, SynthesizerTrn};

const INTERNAL: NoiseSource = NoiseSource::Internal { seed: None };

/// The graph as read back from its file.
fn written(graph: Graph) -> Graph {
    decode(bytes(graph).into()).unwrap()
}

fn bytes(graph: Graph) -> Vec<u8> {
    encode::to_bytes(&validate(passes::run_default(graph)).unwrap())
}

/// `name: type [axes]` of each.
fn ports(graph: &Graph, ids: &[ValueId]) -> Vec<String> {
    let port = |&id: &ValueId| {
        let value = graph.value(id);
        let axes: Vec<String> = value.shape.as_ref().unwrap().iter().map(ToString::to_string).collect();
        format!("{}: {} [{}]", value.name, value.dtype.unwrap(), axes.join(", "))
    };
    ids.iter().map(port).collect()
}

fn inputs(graph: &Graph) -> Vec<String> {
    ports(graph, &graph.inputs)
}

fn outputs(graph: &Graph) -> Vec<String> {
    ports(graph, &graph.outputs)
}

fn model(name: &str) -> SynthesizerTrn {
    Fixture::committed(name).model()
}

#[test]
fn one_speaker() {
    let model = model("legacy-single");
    let encoder = written(model.emit_encoder(15, INTERNAL).unwrap());
    let common =
        ["input: int64 [batch_size, phonemes]", "input_lengths: int64 [batch_size]", "scales: float32 [3]"];
    assert_eq!(inputs(&encoder), common);
    let z = ["z: float32 [batch_size, 16, time]", "y_mask: float32 [batch_size, 1, time]"];
    assert_eq!(outputs(&encoder), z);

    let encoder = written(model.emit_encoder(15, NoiseSource::Input).unwrap());
    let noise =
        ["noise_dp: float32 [batch_size, 2, phonemes]", "noise_p: float32 [batch_size, 16, noise_frames]"];
    assert_eq!(inputs(&encoder), [&common[..], &noise].concat());
    assert_eq!(outputs(&encoder), z);

    let decoder = written(model.emit_decoder(15).unwrap());
    assert_eq!(inputs(&decoder), z);
    assert_eq!(outputs(&decoder), ["output: float32 [batch_size, 1, samples]"]);
}

#[test]
fn several_speakers() {
    let model = model("multi-nosdp");
    let encoder = written(model.emit_encoder(15, NoiseSource::Input).unwrap());
    let expected = [
        "input: int64 [batch_size, phonemes]",
        "input_lengths: int64 [batch_size]",
        "scales: float32 [3]",
        "sid: int64 [batch_size]",
        "noise_p: float32 [batch_size, 16, noise_frames]",
    ];
    assert_eq!(inputs(&encoder), expected);
    let z = [
        "z: float32 [batch_size, 16, time]",
        "y_mask: float32 [batch_size, 1, time]",
        "g: float32 [batch_size, 8, 1]",
    ];
    assert_eq!(outputs(&encoder), z);
    let encoder = written(model.emit_encoder(15, INTERNAL).unwrap());
    assert_eq!(inputs(&encoder), expected[..4]);
    assert_eq!(outputs(&encoder), z);

    let decoder = written(model.emit_decoder(15).unwrap());
    assert_eq!(inputs(&decoder), z);
    assert_eq!(outputs(&decoder), ["output: float32 [batch_size, 1, samples]"]);
}

#[test]
fn the_stream_decoder_says_how_to_drive_it() {
    for fixture in support::committed() {
        let model = fixture.model();
        let stream = model.emit_stream_decoder(15).unwrap();
        let graph = written(stream.graph.clone());
        let hp = &model.hparams;
        let names =
            |ids: &[ValueId]| -> Vec<String> { ids.iter().map(|&id| graph.value(id).name.clone()).collect() };
        let mut fed = vec!["z".to_owned()];
        fed.extend(hp.multi_speaker().then(|| "g".to_owned()));
        fed.push("last".to_owned());
        assert_eq!(inputs(&graph)[0], format!("z: float32 [1, {}, frames]", hp.inter_channels));
        assert!(inputs(&graph).contains(&"last: int64 [1]".to_owned()));
        assert_eq!(outputs(&graph)[0], "output: float32 [1, 1, samples]");

        let given: Vec<String> = stream.states.iter().map(|state| state.output.clone()).collect();
        fed.extend(stream.states.iter().map(|state| state.input.clone()));
        assert_eq!(names(&graph.inputs), fed, "{}", fixture.name);
        assert_eq!(names(&graph.outputs)[1..], given, "{}", fixture.name);
        assert_eq!(stream.lag / hp.hop_length() + 1, stream.look_ahead, "{}", fixture.name);
        for state in &stream.states {
            let info = graph.value(graph.find(&state.input).unwrap());
            assert_eq!((info.dtype, info.shape.as_ref().unwrap().len()), (Some(DType::F32), 4));
            assert_eq!(state.shape[0], 1, "{}", state.input);
            assert_eq!(info.shape.as_ref().unwrap()[1].as_const(), Some(state.shape[1] as i64));
        }
        // The look-ahead covers the model's reach, and not a frame more.
        assert!(stream.look_ahead >= model.receptive_field(), "{}", fixture.name);
        assert!(stream.look_ahead <= model.receptive_field() + 2, "{}", fixture.name);
    }
}

/// Durations, if requested, are the last output, of type float32; nothing else changes.
#[test]
fn durations_come_last() {
    for name in ["legacy-single", "multi"] {
        let model = model(name);
        let form = EncoderForm { noise: INTERNAL, durations: true };
        let usual = [model.emit_encoder(15, INTERNAL).unwrap(), model.emit_single(15, INTERNAL).unwrap()];
        let more = [model.emit_encoder(15, form).unwrap(), model.emit_single(15, form).unwrap()];
        for (usual, more) in usual.map(written).into_iter().zip(more.map(written)) {
            let mut expected = outputs(&usual);
            expected.push("durations: float32 [batch_size, phonemes]".to_owned());
            assert_eq!(outputs(&more), expected);
            assert_eq!(inputs(&more), inputs(&usual));
            assert_eq!(more.nodes.len(), usual.nodes.len());
        }
    }
}

fn graphs(model: &SynthesizerTrn, opset: i64) -> Vec<Graph> {
    vec![
        model.emit_encoder(opset, INTERNAL).unwrap(),
        model.emit_encoder(opset, NoiseSource::Internal { seed: Some(3) }).unwrap(),
        model.emit_encoder(opset, NoiseSource::Input).unwrap(),
        model.emit_decoder(opset).unwrap(),
        model.emit_stream_decoder(opset).unwrap().graph,
    ]
}

#[test]
fn no_constant_is_called_like_something_fed() {
    for fixture in support::committed() {
        let model = fixture.model();
        for graph in graphs(&model, 15).into_iter().map(written) {
            let fed = [
                "input",
                "input_lengths",
                "scales",
                "sid",
                "noise_dp",
                "noise_p",
                "z",
                "y_mask",
                "g",
                "last",
            ];
            for &id in graph.initializers.keys() {
                let name = &graph.value(id).name;
                assert!(!fed.contains(&name.as_str()), "{}: the constant {name}", fixture.name);
            }
            if !model.hparams.multi_speaker() {
                assert!(graph.find("sid").is_none() && graph.find("g").is_none(), "{}", fixture.name);
            }
        }
    }
}

#[test]
fn randomness_is_where_it_was_asked_for() {
    for fixture in support::committed() {
        let model = fixture.model();
        let count = |graph: Graph| {
            let graph = written(graph);
            graph.nodes.iter().filter(|node| node.op.starts_with("Random")).count()
        };
        let draws = if model.hparams.use_sdp() { 2 } else { 1 };
        assert_eq!(count(model.emit_encoder(15, INTERNAL).unwrap()), draws);
        assert_eq!(count(model.emit_encoder(15, NoiseSource::Input).unwrap()), 0);
        assert_eq!(count(model.emit_decoder(15).unwrap()), 0);
        assert_eq!(count(model.emit_stream_decoder(15).unwrap().graph), 0);
    }
}

/// Data-dependent shapes and remains of a tracer are excluded, because other readers (TensorRT) refuse them.
#[test]
fn no_shape_depends_on_what_is_computed() {
    for fixture in support::committed() {
        let model = fixture.model();
        for graph in graphs(&model, 15).into_iter().map(written) {
            for node in &graph.nodes {
                let debris =
                    ["NonZero", "ScatterND", "GatherND", "If", "Constant", "ConstantOfShape", "Identity"];
                // Zeros of a run-time length are the only use of ConstantOfShape. The encoder's loops are
                // over blocks of the text: their number follows from its length.
                let excused = node.op == "ConstantOfShape" && graph.name != "decoder";
                assert!(!debris.contains(&node.op.as_str()) || excused, "{}: {}", fixture.name, node.name);
                assert!(node.op != "Loop" || graph.name == "encoder", "{}: {}", fixture.name, node.name);
            }
        }
    }
}

/// Names lead back to the checkpoint: a constant named like one of its tensors has that tensor's elements, or
/// more.
#[test]
fn weights_keep_their_names() {
    let fixture = Fixture::committed("multi");
    let (weights, _) = fixture.parts();
    let model = fixture.model();
    let encoder = written(model.emit_encoder(15, INTERNAL).unwrap());
    let decoder = written(model.emit_decoder(15).unwrap());
    let constant = |graph: &Graph, name: &str| {
        let id = graph.find(name).unwrap_or_else(|| panic!("there is no {name}"));
        graph.constant(id).unwrap().to_f32().unwrap()
    };
    let original = |name: &str| {
        let (_, tensor) = weights.iter().find(|(key, _)| *key == name).unwrap();
        tensor.to_f32().unwrap().to_vec()
    };
    for name in ["emb_g.weight", "enc_p.proj.bias", "enc_p.encoder.norm_layers_1.0.gamma"] {
        assert_eq!(constant(&encoder, name), original(name), "{name}");
    }
    for name in ["dec.conv_pre.weight", "dec.conv_pre.bias", "dec.cond.bias"] {
        assert_eq!(constant(&decoder, name), original(name), "{name}");
    }
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    for name in ["multi", "textual"] {
        for opset in [15, 21] {
            let files = || -> Vec<Vec<u8>> { graphs(&model(name), opset).into_iter().map(bytes).collect() };
            assert!(files() == files(), "{name}, opset {opset}");
        }
    }
}

#[test]
fn every_opset_that_is_offered_is_written() {
    for name in ["multi", "multi-nosdp", "high"] {
        let model = model(name);
        for opset in 15..=21 {
            for graph in graphs(&model, opset) {
                assert_eq!(written(graph).opset, opset);
            }
        }
    }
}
