use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use vitstream_onnx::{Attr, DType, Graph, Node, Tensor, ValueInfo, decode};
use vitstream_testing::{golden, shared};
use vitstream_vits::{HParams, NoiseSource, SynthesizerTrn};

use super::graphs::exported;
use super::graphs::traced::recover;
use super::{Input, ReadOptions, load};

fn model(path: &Path) -> SynthesizerTrn {
    load(path, &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}")).model
}

/// Every constant of every graph, by name.
fn constants(model: &SynthesizerTrn) -> BTreeMap<String, Tensor> {
    let encoder = model.emit_encoder(15, NoiseSource::Input).unwrap();
    let stream = model.emit_stream_decoder(15).unwrap().graph;
    [("encoder", encoder), ("decoder", model.emit_decoder(15).unwrap()), ("stream", stream)]
        .into_iter()
        .flat_map(|(name, graph)| {
            let initializers = graph.initializers.clone();
            initializers
                .into_iter()
                .map(move |(id, tensor)| (format!("{name} {}", graph.value(id).name), tensor))
        })
        .collect()
}

/// Largest difference of any constant of two networks of the same shape, relative to the tensor's largest element.
fn difference(a: &SynthesizerTrn, b: &SynthesizerTrn) -> f32 {
    let without_rate = |model: &SynthesizerTrn| HParams { sample_rate: None, ..model.hparams.clone() };
    assert_eq!(without_rate(a), without_rate(b));
    let (a, b) = (constants(a), constants(b));
    assert!(a.keys().eq(b.keys()));
    let mut worst = 0.0f32;
    for (name, a) in &a {
        let b = &b[name];
        assert_eq!((&a.dims, a.dtype), (&b.dims, b.dtype), "{name}");
        match (a.to_f32(), b.to_f32()) {
            (Some(a), Some(b)) => {
                let scale = a.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
                worst = a.iter().zip(&b).fold(worst, |m, (a, b)| m.max((a - b).abs() / scale));
            }
            _ => assert_eq!(a, b, "{name}"),
        }
    }
    worst
}

/// Weight norm folded by PyTorch is rounded otherwise than folded here.
const ROUNDING: f32 = 2e-6;

#[test]
fn a_finished_voice_is_its_checkpoint() {
    for name in ["legacy-single", "multi"] {
        let checkpoint = model(&golden(&format!("{name}.ckpt")));
        let voice = load(golden(&format!("families/voices/{name}.onnx")), &ReadOptions::default()).unwrap();
        assert_eq!(voice.format, "Piper voice (ONNX)");
        assert_eq!(voice.config.expect("its JSON is beside it").sample_rate(), Some(22_050));
        let worst = difference(&checkpoint, &voice.model);
        assert!(worst < ROUNDING, "{name}: {worst}");
    }
}

#[test]
fn a_simplified_voice_is_its_checkpoint() {
    let simplified = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/multi.simplified.onnx");
    let worst = difference(&model(&golden("multi.ckpt")), &model(&simplified));
    assert!(worst < ROUNDING, "{worst}");
}

#[test]
fn a_traced_pair_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-synth/tests/data/tiny-multi");
    let pair = load(path, &ReadOptions::default()).unwrap();
    assert_eq!(pair.format, "streaming pair (ONNX)");
    assert_eq!(pair.model.hparams.num_speakers, 3);
    assert_eq!(pair.model.receptive_field(), 43);
    // Norms that were equal when it was traced are stored once.
    assert!(constants(&pair.model).len() > 300);
}

#[test]
fn the_traced_pair_of_a_real_voice_is_its_checkpoint() {
    let (Some(pair), Some(checkpoint)) = (shared("traced/joe"), shared("joe/joe.ckpt")) else { return };
    let worst = difference(&model(&checkpoint), &model(&pair));
    assert!(worst < ROUNDING, "{worst}");
}

fn voice() -> Graph {
    let bytes = std::fs::read(golden("families/voices/multi.onnx")).unwrap();
    decode(bytes.into()).unwrap()
}

fn node<'a>(graph: &'a mut Graph, name: &str) -> &'a mut Node {
    graph.nodes.iter_mut().find(|node| node.name == name).unwrap_or_else(|| panic!("no node {name}"))
}

fn constant(graph: &mut Graph, name: &str, tensor: Tensor) -> vitstream_onnx::ValueId {
    let id = graph.add_value(ValueInfo { name: name.to_owned(), dtype: Some(tensor.dtype), shape: None });
    graph.initializers.insert(id, tensor);
    id
}

/// Input `at` of the node `name`, which is a constant.
fn operand(graph: &mut Graph, name: &str, at: usize) -> Tensor {
    let id = node(graph, name).inputs[at].unwrap();
    graph.constant(id).unwrap_or_else(|| panic!("input {at} of {name} is no constant")).clone()
}

/// Puts another constant, called `new`, in the place of input `at` of the node `name`.
fn replace(graph: &mut Graph, name: &str, at: usize, new: &str, tensor: Tensor) {
    let old = node(graph, name).inputs[at].unwrap();
    let id = constant(graph, new, tensor);
    node(graph, name).inputs[at] = Some(id);
    graph.initializers.remove(&old);
}

fn scaled(tensor: &Tensor, factor: f32) -> Tensor {
    let values: Vec<f32> = tensor.to_f32().unwrap().iter().map(|v| v * factor).collect();
    Tensor::f32(&tensor.dims, &values)
}

fn network(graph: Graph) -> SynthesizerTrn {
    let (weights, hparams) =
        recover("voice.onnx".as_ref(), &[graph]).unwrap_or_else(|error| panic!("{error}"));
    SynthesizerTrn::load_weights(&weights, hparams).unwrap_or_else(|error| panic!("{error}")).0
}

fn assert_is_multi(graph: Graph, what: &str) {
    let worst = difference(&model(&golden("multi.ckpt")), &network(graph));
    assert!(worst < ROUNDING, "{what}: {worst}");
}

#[test]
fn names_of_nodes_or_names_of_constants_are_enough() {
    // PyTorch before 1.13 numbers the nodes.
    let mut graph = voice();
    for (i, node) in graph.nodes.iter_mut().enumerate() {
        node.name = format!("{}_{i}", node.op);
    }
    assert_is_multi(graph, "no scopes in the names of nodes");

    // An optimiser that shares equal tensors keeps one of their names.
    let mut graph = voice();
    for name in ["/enc_p/encoder/norm_layers_1.0/Mul", "/dp/convs/norms_2.1/Mul"] {
        let gamma = operand(&mut graph, name, 1);
        replace(&mut graph, name, 1, "shared", gamma);
    }
    assert_is_multi(graph, "norms without names");

    // A wrapper around the network; constants as nodes.
    let mut graph = voice();
    for node in &mut graph.nodes {
        node.name = format!("/model/gen{}", node.name);
    }
    let (&id, tensor) = graph.initializers.first_key_value().unwrap();
    let attrs = BTreeMap::from([("value".to_owned(), Attr::Tensor(tensor.clone()))]);
    let (name, op) = ("Constant_0".to_owned(), "Constant".to_owned());
    graph.nodes.insert(0, Node { name, op, inputs: Vec::new(), outputs: vec![Some(id)], attrs });
    graph.initializers.pop_first();
    assert_is_multi(graph, "a wrapped network");
}

#[test]
fn what_optimisers_fold_is_undone() {
    // Upstream multiplies the embedding by the root of its width: 16 here.
    let mut graph = voice();
    let table = operand(&mut graph, "/enc_p/emb/Gather", 0);
    replace(&mut graph, "/enc_p/emb/Gather", 0, "table", scaled(&table, 4.0));
    let looked_up = node(&mut graph, "/enc_p/emb/Gather").outputs[0];
    let product = node(&mut graph, "/enc_p/Mul").outputs[0];
    for node in &mut graph.nodes {
        for input in node.inputs.iter_mut().filter(|input| **input == product) {
            *input = looked_up;
        }
    }
    graph.nodes.retain(|node| node.name != "/enc_p/Mul");
    assert_is_multi(graph, "a scaled embedding");

    let mut graph = voice();
    let negative = operand(&mut graph, "/dp/flows.0/Exp", 0);
    let values: Vec<f32> = negative.to_f32().unwrap().iter().map(|v| v.exp()).collect();
    let inverse = constant(&mut graph, "/dp/flows.0/Exp_folded", Tensor::f32(&negative.dims, &values));
    let exp = node(&mut graph, "/dp/flows.0/Exp").outputs[0];
    let scale = node(&mut graph, "/dp/flows.0/Mul");
    let at = scale.inputs.iter().position(|&input| input == exp).unwrap();
    scale.inputs[at] = Some(inverse);
    assert_is_multi(graph, "a folded exponential");
}

#[test]
fn what_was_not_folded_is_taken_in_parts() {
    // Weight norm as it was trained, and exp(-logs) spelt out.
    let mut graph = voice();
    let (name, module) = ("/flow/flows.0/enc/in_layers.0/Conv", "flow.flows.0.enc.in_layers.0");
    let weight = operand(&mut graph, name, 1);
    let rows = weight.dims[0];
    let values = weight.to_f32().unwrap();
    let row = values.len() / rows;
    let norms: Vec<f32> =
        values.chunks_exact(row).map(|row| row.iter().map(|v| v * v).sum::<f32>().sqrt()).collect();
    constant(&mut graph, &format!("{module}.weight_g"), Tensor::f32(&[rows, 1, 1], &norms));
    constant(&mut graph, &format!("{module}.weight_v"), scaled(&weight, 3.0));
    let info = ValueInfo { name: "computed".to_owned(), dtype: None, shape: None };
    let computed = graph.add_value(info);
    node(&mut graph, name).inputs[1] = Some(computed);

    let negative = operand(&mut graph, "/dp/flows.0/Exp", 0);
    let logs = constant(&mut graph, "dp.flows.0.logs", scaled(&negative, -1.0));
    let exp = graph.nodes.iter().position(|node| node.name == "/dp/flows.0/Exp").unwrap();
    let info = ValueInfo { name: "negative".to_owned(), dtype: None, shape: None };
    let output = graph.add_value(info);
    graph.nodes[exp].inputs[0] = Some(output);
    let (name, op) = ("/dp/flows.0/Neg".to_owned(), "Neg".to_owned());
    let (inputs, outputs) = (vec![Some(logs)], vec![Some(output)]);
    graph.nodes.insert(exp, Node { name, op, inputs, outputs, attrs: BTreeMap::new() });
    assert_is_multi(graph, "nothing folded");
}

fn refused(graph: Graph) -> String {
    match recover("voice.onnx".as_ref(), &[graph]) {
        Ok((weights, hparams)) => {
            SynthesizerTrn::load_weights(&weights, hparams).err().expect("the damage is found").to_string()
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_cannot_be_recovered_is_refused_by_name() {
    let says = |damage: &dyn Fn(&mut Graph), expected: &[&str]| {
        let mut graph = voice();
        damage(&mut graph);
        let error = refused(graph);
        assert!(expected.iter().all(|part| error.contains(part)), "{error:?} should say {expected:?}");
    };
    says(
        &|graph| {
            let name = "/enc_p/encoder/attn_layers.0/conv_q/Conv";
            let weight = operand(graph, name, 1);
            replace(graph, name, 1, "_v_12", scaled(&weight, 0.3));
        },
        &["voice.onnx: enc_p.encoder.attn_layers.0.conv_q.weight: ", "`_v_12`"],
    );
    says(
        &|graph| {
            let weight = operand(graph, "/dec/conv_pre/Conv", 1);
            let (dims, data) = (weight.dims.clone(), Bytes::from(vec![0; weight.data.len() / 2]));
            replace(
                graph,
                "/dec/conv_pre/Conv",
                1,
                "dec.conv_pre.half",
                Tensor { dtype: DType::F16, dims, data },
            );
        },
        &["dec.conv_pre", "expected float32, found float16"],
    );
    says(
        &|graph| {
            let attrs = &mut node(graph, "/dec/resblocks.4/convs.0/Conv").attrs;
            attrs.insert("dilations".to_owned(), Attr::Ints(vec![3]));
        },
        &["dec.resblocks.4.convs.0", "dilation: 2", "dilation: 3"],
    );
    says(
        &|graph| {
            node(graph, "/dec/ups.1/ConvTranspose").attrs.insert("strides".to_owned(), Attr::Ints(vec![0]));
        },
        &["upsample_kernel_sizes", "0 times"],
    );
    says(
        &|graph| {
            node(graph, "/dec/ups.1/ConvTranspose").attrs.insert("pads".to_owned(), Attr::Ints(vec![-1, 4]));
        },
        &["/dec/ups.1/ConvTranspose", "[-1, 4]"],
    );
    says(
        &|graph| {
            node(graph, "/dec/LeakyRelu").attrs.insert("alpha".to_owned(), Attr::Float(0.2));
        },
        &["node /dec/LeakyRelu", "0.1", "0.2"],
    );
    says(
        &|graph| {
            let name = "/dec/resblocks.0/convs.0/Conv";
            let bias = node(graph, name).inputs[2].take().unwrap();
            graph.initializers.remove(&bias);
        },
        &["dec.resblocks.0.convs.0.bias", "missing"],
    );
    says(
        &|graph| {
            constant(graph, "enc_p.language_emb.weight", Tensor::f32(&[1, 1], &[0.0]));
        },
        &["MeloTTS or Bert-VITS2"],
    );
    says(
        &|graph| {
            constant(graph, "dec.extra.weight", Tensor::f32(&[1], &[0.0]));
        },
        &["dec.extra.weight: unexpected"],
    );
    says(
        &|graph| {
            constant(graph, "emb_g.weight", Tensor::f32(&[1], &[0.0]));
            let name = "/emb_g/Gather";
            let table = operand(graph, name, 0);
            replace(
                graph,
                name,
                0,
                "speakers",
                Tensor { dims: vec![table.dims[0] * table.dims[1]], ..table },
            );
        },
        &["emb_g.weight", "expected a table, found the shape [1]"],
    );
    says(&|graph| node(graph, "/dec/conv_post/Conv").op = "QLinearConv".to_owned(), &["quantised"]);
    says(&|graph| graph.nodes.clear(), &["enc_p.emb.weight"]);
    says(
        &|graph| {
            graph.nodes.clear();
            graph.initializers.clear();
        },
        &["none of its keys are known"],
    );
}

#[test]
fn other_files_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let refused =
        |path: &Path| load(path, &ReadOptions::default()).err().expect("it is no voice").to_string();
    let error = refused(directory.path());
    assert!(error.contains("directory with a pair") && error.contains("encoder.onnx"), "{error}");

    let pair = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-synth/tests/data/tiny-multi");
    for (half, what) in [("encoder.onnx", "this is an encoder"), ("decoder.onnx", "this is a decoder")] {
        let error = refused(&Path::new(pair).join(half));
        assert!(error.contains(what) && error.contains("give the directory"), "{error}");
    }

    let whole = std::fs::read(golden("families/voices/multi.onnx")).unwrap();
    for length in [2, 1000, whole.len() / 2, whole.len() - 1] {
        let cut = Bytes::copy_from_slice(&whole[..length]);
        let error = load(Input::bytes("cut.onnx", cut), &ReadOptions::default())
            .err()
            .expect("it is cut off")
            .to_string();
        assert!(error.starts_with("cut.onnx: "), "{error}");
    }
}

/// Bytes of a real voice changed at random places: refused or read, and never a panic.
#[test]
fn damaged_voices_are_refused_or_read() {
    assert_damage_is_survived(&std::fs::read(golden("families/voices/multi.onnx")).unwrap());
}

fn assert_damage_is_survived(whole: &[u8]) {
    // xorshift
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..200 {
        let mut damaged = whole.to_vec();
        for _ in 0..=random() % 4 {
            let at = usize::try_from(random()).unwrap() % damaged.len();
            damaged[at] = random().to_le_bytes()[0];
        }
        if let Ok(source) = load(Input::bytes("damaged.onnx", damaged), &ReadOptions::default()) {
            source.model.emit_single(15, NoiseSource::Internal { seed: None }).unwrap();
        }
    }
}

/// The graphs of a pair of our own.
fn own_pair(name: &str) -> [Graph; 2] {
    let folder = tempfile::tempdir().unwrap();
    let pair = folder.path().join("pair");
    vitstream_export::export::export(
        golden(name),
        &pair,
        &vitstream_export::export::ExportOptions::default(),
    )
    .unwrap();
    ["encoder.onnx", "decoder.onnx"]
        .map(|file| decode(std::fs::read(pair.join(file)).unwrap().into()).unwrap())
}

#[test]
fn a_damaged_pair_of_our_own_is_refused_by_name() {
    const MULTI: &str = "multi.ckpt";
    type Damage<'a> = &'a dyn Fn(&mut Graph, &mut Graph);
    let says = |name: &str, damage: Damage<'_>, expected: &[&str]| {
        let [mut encoder, mut decoder] = own_pair(name);
        damage(&mut encoder, &mut decoder);
        let path = Path::new("pair");
        let error = match exported::recover(path, &encoder, &decoder) {
            Ok((weights, hparams)) => SynthesizerTrn::load_weights(&weights, hparams)
                .err()
                .expect("the damage is found")
                .to_string(),
            Err(error) => error.to_string(),
        };
        assert!(expected.iter().all(|part| error.contains(part)), "{error:?} should say {expected:?}");
    };
    let lose = |graph: &mut Graph, name: &str| {
        let id = graph.find(name).unwrap_or_else(|| panic!("no {name}"));
        graph.initializers.remove(&id).unwrap();
    };
    let reshape = |graph: &mut Graph, name: &str, dims: &[usize]| {
        let id = graph.find(name).unwrap_or_else(|| panic!("no {name}"));
        let values = vec![0.5; dims.iter().product()];
        graph.initializers.insert(id, Tensor::f32(dims, &values)).unwrap();
    };
    for name in [
        "enc_p.emb.weight",
        "enc_p.encoder.attn_layers.1.conv_qkv.bias",
        "dp.flows.5.proj.weight",
        "emb_g.weight",
    ] {
        says(MULTI, &|encoder, _| lose(encoder, name), &["pair: ", name, "not among the initializers"]);
    }
    for name in [
        "flow.flows.4.enc.mean.2.weight",
        "dec.ups.1.phases.0.weight",
        "dec.conv_post.weight",
        "dec.cond.bias",
    ] {
        says(MULTI, &|_, decoder| lose(decoder, name), &["pair: ", name, "not among the initializers"]);
    }
    let shapes: [(&str, &[usize], &str); 8] = [
        ("enc_p.emb.weight", &[48], "expected 2 axes"),
        ("enc_p.encoder.attn_layers.0.conv_qkv.weight", &[16, 47], "conv_qkv.bias: expected [47]"),
        ("enc_p.encoder.attn_layers.0.emb_rel_k", &[8, 9, 1], "emb_rel_k: expected 2 axes"),
        ("enc_p.encoder.attn_layers.1.emb_rel_v", &[7, 8], "emb_rel_v: expected [1, 9, 8], found [1, 7, 8]"),
        ("enc_p.encoder.norm_layers_1.0.gamma", &[15], "gamma: expected [16], found [15]"),
        ("dp.convs.convs_1x1.1.weight", &[16, 15], "convs_1x1.1.bias"),
        ("dp.flows.7.proj.weight", &[0, 29], "dp.flows.7.proj"),
        ("enc_p.proj.bias", &[1, 32], "enc_p.proj.bias"),
    ];
    for (name, dims, expected) in shapes {
        says(MULTI, &|encoder, _| reshape(encoder, name, dims), &[expected]);
    }
    let shapes: [(&str, &[usize], &str); 10] = [
        ("flow.flows.6.pre.weight", &[16, 8, 1, 3], "flows.6.pre.weight: expected one tap"),
        ("flow.flows.6.pre.weight", &[16, 20, 1, 1], "mean.0.weight: expected a bias and [20, 16, 1]"),
        ("flow.flows.6.enc.mean.0.weight", &[8, 15, 1, 1], "expected a bias and [8, 16, 1]"),
        ("flow.flows.6.enc.in_layers.1.tanh.weight", &[16, 15, 1, 5], "in_layers.1.sigmoid.weight"),
        ("flow.flows.6.enc.res_skip_layers.1.weight", &[16, 16, 2, 1], "expected [out, in, 1, taps]"),
        ("dec.ups.0.phases.1.weight", &[64, 31, 1, 2], "dec.ups.0.phases"),
        ("dec.ups.0.phases.1.weight", &[64, 32, 1, 3], "dec.ups.0.phases.0.weight: expected"),
        ("dec.conv_pre.weight", &[3, 16, 1, 7], "dec.conv_pre.bias"),
        ("dec.conv_post.weight", &[16, 4, 1, 9], "at least 16 taps"),
        ("dec.resblocks.1.convs.0.weight", &[16, 16, 5], "dec.resblocks.1.convs.0.weight: expected 4 axes"),
    ];
    for (name, dims, expected) in shapes {
        says(MULTI, &|_, decoder| reshape(decoder, name, dims), &[expected]);
    }
    // A hidden size that nothing else has would cost memory before it was noticed.
    says(
        MULTI,
        &|_, decoder| {
            reshape(decoder, "flow.flows.6.pre.weight", &[1 << 20, 1, 1, 1]);
            reshape(decoder, "flow.flows.6.pre.bias", &[1 << 20]);
        },
        &["in_layers.0.tanh.weight: expected [1048576, 1048576, 1, 5]"],
    );
    says(
        MULTI,
        &|_, decoder| {
            let attrs = &mut node(decoder, "/dec/resblocks.0/convs.1/Conv_1").attrs;
            attrs.insert("dilations".to_owned(), Attr::Ints(vec![1, -2]));
        },
        &["/dec/resblocks.0/convs.1/Conv_1", "[1, -2]"],
    );
    says(
        MULTI,
        &|encoder, _| encoder.nodes.retain(|node| node.name != "/dp/flows.5/Clip"),
        &["node /dp/flows.5/Clip: is missing"],
    );
    says(
        MULTI,
        &|_, decoder| drop(decoder.metadata.insert("pair_id".to_owned(), "0".to_owned())),
        &["metadata `pair_id`", "the same export"],
    );
    says("multi-nosdp.ckpt", &|encoder, _| lose(encoder, "dp.norm_2.beta"), &["dp.norm_2"]);
    says(
        MULTI,
        &|encoder, decoder| {
            encoder.nodes.clear();
            decoder.nodes.clear();
        },
        &["node /enc_p/Gather: is missing"],
    );
}

/// An encoder of ours with a decoder of somebody else.
#[test]
fn half_a_pair_of_our_own_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pair = folder.path().join("pair");
    vitstream_export::export::export(
        golden("multi.ckpt"),
        &pair,
        &vitstream_export::export::ExportOptions::default(),
    )
    .unwrap();
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-synth/tests/data/tiny-multi/decoder.onnx");
    std::fs::copy(other, pair.join("decoder.onnx")).unwrap();
    let error = load(&pair, &ReadOptions::default()).err().expect("two voices").to_string();
    assert!(error.contains("pair_id") && error.contains("the decoder none"), "{error}");
}

/// Bytes of a pair of our own changed at random places: refused or read, and never a panic.
#[test]
fn damaged_pairs_of_our_own_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        vitstream_export::export::ExportOptions::new().layout(vitstream_export::export::Layout::Single);
    vitstream_export::export::export(golden("multi.ckpt"), folder.path(), &options).unwrap();
    assert_damage_is_survived(&std::fs::read(folder.path().join("voice.onnx")).unwrap());
}
