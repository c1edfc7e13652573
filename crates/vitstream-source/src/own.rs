//! A graph that vitstream wrote, taken back to upstream's weights.
//!
//! Every folding that an export does is undone here; what each is, and the algebra that allows it, stands where the
//! graph is emitted (`vitstream-vits`). Nodes keep the scope paths of their modules, so a weight is found by the node
//! that uses it: equal small constants are stored once, under the name of one of them. Everything that makes the network
//! is told by shapes and attributes, so no further record is needed, and a folding that is not known here shows as a node
//! that is missing.
//!
//! A product with a constant is undone so that the same product gives the same bits again: exporting what was read back
//! gives the constants that were read.

mod elements;
mod form;
mod product;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use vitstream_checkpoint::{DType as WeightType, Tensor as Weight};
use vitstream_onnx::{Attr, DType, Graph, Node, ValueId};
use vitstream_vits::hparams::DurationHParams;
use vitstream_vits::{HParams, Untold, Weights};

use self::elements::{
    bytes, interleaved, negative_logarithm, quotient, reversed_chunks, transposed, unscaled,
};
use self::product::Product;
use crate::Error;
use crate::recover::Norm;
use crate::traced::Traced;

/// Whether vitstream wrote `graph`.
pub(crate) fn is_own(graph: &Graph) -> bool {
    graph.metadata.contains_key("vitstream_version")
}

/// Weights and hyper-parameters of the network in a pair, or in one graph that is given twice. `path` stands for it in
/// messages.
pub(crate) fn recover(path: &Path, encoder: &Graph, decoder: &Graph) -> Result<(Weights, HParams), Error> {
    let mut reading = Reading {
        path: path.into(),
        encoder: Half::new(encoder),
        decoder: Half::new(decoder),
        tensors: BTreeMap::new(),
        norm_eps: BTreeMap::new(),
        tail_bound: None,
        flow_dilation: 1,
        untold: Untold::default(),
    };
    reading.check_together()?;
    reading.text_encoder()?;
    reading.speakers()?;
    reading.duration_predictor()?;
    reading.flow()?;
    reading.generator()?;
    let hparams = reading.hparams()?;
    let weights = Weights::new(reading.tensors);
    form::check(&reading.path, (encoder, decoder), &weights, &hparams)?;
    Ok((weights, hparams))
}

/// One graph, its nodes by name.
struct Half<'a> {
    traced: Traced<'a>,
    nodes: HashMap<&'a str, &'a Node>,
}

impl<'a> Half<'a> {
    fn new(graph: &'a Graph) -> Self {
        let nodes = graph.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
        Self { traced: Traced::new(graph), nodes }
    }

    fn has(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }
}

/// Where a block stands.
#[derive(Clone, Copy)]
enum Side {
    Encoder,
    Decoder,
}

/// A float32 tensor out of a graph.
struct Array {
    dims: Vec<usize>,
    data: Bytes,
}

impl Array {
    fn floats(&self) -> Vec<f32> {
        self.data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    /// The elements of `rows`, of those along the first axis.
    fn rows(&self, rows: std::ops::Range<usize>) -> Bytes {
        let row = self.data.len().checked_div(self.dims[0]).unwrap_or(0);
        self.data.slice(rows.start * row..rows.end * row)
    }
}

/// A convolution as it stands in a graph.
struct Conv {
    /// `[c_out, c_in, kernel]`
    weight: Array,
    bias: Option<Array>,
    dilation: usize,
}

struct Reading<'a> {
    path: Arc<Path>,
    encoder: Half<'a>,
    decoder: Half<'a>,
    /// By upstream's key.
    tensors: BTreeMap<String, Weight>,
    /// Of the layer norms, by upstream's part.
    norm_eps: BTreeMap<&'static str, f32>,
    tail_bound: Option<f32>,
    flow_dilation: usize,
    untold: Untold,
}

impl<'a> Reading<'a> {
    fn error(&self, place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Unrecoverable { path: self.path.to_path_buf(), place: place.into(), problem: problem.into() }
    }

    fn half(&self, side: Side) -> &Half<'a> {
        match side {
            Side::Encoder => &self.encoder,
            Side::Decoder => &self.decoder,
        }
    }

    fn check_together(&self) -> Result<(), Error> {
        let id = |side| self.half(side).traced.graph.metadata.get("pair_id");
        match (id(Side::Encoder), id(Side::Decoder)) {
            (Some(a), Some(b)) if a == b => Ok(()),
            (a, b) => {
                let name = |id: Option<&String>| id.map_or("none", String::as_str).to_owned();
                let problem = format!(
                    "the encoder has {}, the decoder {}: take both from the same export",
                    name(a),
                    name(b)
                );
                Err(self.error("metadata `pair_id`", problem))
            }
        }
    }

    fn node(&self, side: Side, name: &str) -> Result<&'a Node, Error> {
        self.half(side).nodes.get(name).copied().ok_or_else(|| {
            let problem =
                "is missing: the file was changed, or this version does not know the form that it is in";
            self.error(format!("node {name}"), problem)
        })
    }

    /// The constant that `value` is, float32.
    fn constant(&self, side: Side, value: ValueId) -> Result<Array, Error> {
        let traced = &self.half(side).traced;
        let Some(tensor) = traced.constant(value) else {
            let problem = "is not among the initializers: the file was changed";
            return Err(self.error(traced.name(value), problem));
        };
        if tensor.dtype != DType::F32 {
            let problem = format!("expected float32, found {}", tensor.dtype);
            return Err(self.error(traced.name(value), problem));
        }
        Ok(Array { dims: tensor.dims.clone(), data: tensor.data.clone() })
    }

    fn operand(&self, side: Side, node: &Node, at: usize) -> Result<Array, Error> {
        let value = self.half(side).traced.input(node, at);
        let value =
            value.ok_or_else(|| self.error(format!("node {}", node.name), format!("has no input {at}")))?;
        self.constant(side, value)
    }

    fn scalar(&self, side: Side, node: &str, at: usize) -> Result<f32, Error> {
        let array = self.operand(side, self.node(side, node)?, at)?;
        match array.floats()[..] {
            [value] => Ok(value),
            _ => {
                Err(self
                    .error(format!("node {node}"), format!("expected one number, found {:?}", array.dims)))
            }
        }
    }

    fn expect<const N: usize>(&self, place: &str, array: &Array) -> Result<[usize; N], Error> {
        <[usize; N]>::try_from(&array.dims[..])
            .map_err(|_| self.error(place, format!("expected {N} axes, found the shape {:?}", array.dims)))
    }

    /// The convolution of the module at `path`; one that only copies may stand before it.
    fn conv(&self, side: Side, path: &str) -> Result<Conv, Error> {
        let second = format!("/{path}/Conv_1");
        let name = if self.half(side).has(&second) { second } else { format!("/{path}/Conv") };
        let node = self.node(side, &name)?;
        let place = format!("{}.weight", path.replace('/', "."));
        let mut weight = self.operand(side, node, 1)?;
        let [c_out, c_in, height, kernel] = self.expect(&place, &weight)?;
        if height != 1 || weight.dims.contains(&0) {
            return Err(self.error(place, format!("expected [out, in, 1, taps], found {:?}", weight.dims)));
        }
        weight.dims = vec![c_out, c_in, kernel];
        let bias = node.inputs.get(2).copied().flatten().map(|bias| self.constant(side, bias)).transpose()?;
        if let Some(found) = bias.as_ref().map(|bias| &bias.dims).filter(|dims| dims[..] != [c_out]) {
            let place = place.replace(".weight", ".bias");
            return Err(self.error(place, format!("expected {:?}, found {found:?}", [c_out])));
        }
        let dilation = match node.attrs.get("dilations") {
            None => 1,
            Some(Attr::Ints(values)) => match values[..] {
                [_, dilation @ 1..=0xffff] => dilation as usize,
                _ => {
                    return Err(
                        self.error(format!("node {name}"), format!("dilations {values:?} make no sense"))
                    );
                }
            },
            Some(other) => return Err(self.error(format!("node {name}"), format!("dilations {other:?}"))),
        };
        Ok(Conv { weight, bias, dilation })
    }

    /// The pointwise convolution that the module at `path` computes as a matrix product.
    fn linear(&self, side: Side, path: &str) -> Result<Conv, Error> {
        let place = format!("{}.weight", path.replace('/', "."));
        let matrix = self.operand(side, self.node(side, &format!("/{path}/MatMul"))?, 1)?;
        let [c_in, c_out] = self.expect(&place, &matrix)?;
        let bias = self.operand(side, self.node(side, &format!("/{path}/Add"))?, 1)?;
        if bias.dims != [c_out] || matrix.dims.contains(&0) {
            let place = place.replace(".weight", ".bias");
            return Err(self.error(place, format!("expected {:?}, found {:?}", [c_out], bias.dims)));
        }
        let weight = Array { dims: vec![c_out, c_in, 1], data: transposed(&matrix.data, c_in, c_out) };
        Ok(Conv { weight, bias: Some(bias), dilation: 1 })
    }

    /// The constant from around a loop that the body's node called `name` after the loop reads.
    fn operand_in_loop(&self, side: Side, path: &str, name: &str, at: usize) -> Result<Array, Error> {
        let node = self.node(side, path)?;
        let lost = || self.error(format!("node {path}/{name}"), "is missing: the file was changed");
        let Some(Attr::Graph(body)) = node.attrs.get("body") else { return Err(lost()) };
        let inner =
            body.nodes.iter().find(|inner| inner.name.strip_prefix(path) == Some(name)).ok_or_else(lost)?;
        let value = inner.inputs.get(at).copied().flatten().ok_or_else(lost)?;
        let place = body.inputs.iter().position(|&input| input == value).ok_or_else(lost)?;
        self.operand(side, node, place)
    }

    /// The convolution of three taps that the module at `path` computes by pairs of rows. Its taps, the most of an
    /// encoder, lie in three matrices, and are put side by side only when they are asked for.
    fn take_pairs(&mut self, side: Side, path: &str) -> Result<(), Error> {
        let key = path.replace('/', ".");
        let operand = |name: &str, at| self.operand(side, self.node(side, &format!("/{path}/{name}"))?, at);
        let taps = [operand("weight/Add", 0)?, operand("weight/Mul_1", 0)?, operand("weight/Add", 1)?];
        let [c_in, c_out] = self.expect(&format!("{key}.weight"), &taps[0])?;
        let bias = operand("Add_1", 1)?;
        if bias.dims != [c_out] || taps.iter().any(|tap| tap.dims != [c_in, c_out] || tap.data.is_empty()) {
            let found: Vec<_> = taps.iter().chain([&bias]).map(|array| &array.dims).collect();
            let problem = format!("expected three times [in, out] and [out], found {found:?}");
            return Err(self.error(format!("{key}.weight"), problem));
        }
        self.put(format!("{key}.bias"), &bias.dims, bias.data)?;
        let key = format!("{key}.weight");
        let taps = taps.map(|tap| tap.data);
        let nbytes = taps.iter().map(Bytes::len).sum();
        let make = move || interleaved(&taps.each_ref().map(|tap| transposed(tap, c_in, c_out)));
        let weight = Weight::computed(&self.path, &key, WeightType::F32, vec![c_out, c_in, 3], nbytes, make)?;
        self.tensors.insert(key, weight);
        Ok(())
    }

    fn put(&mut self, key: impl Into<String>, dims: &[usize], data: Bytes) -> Result<(), Error> {
        let key = key.into();
        let weight = Weight::from_bytes(&self.path, &key, WeightType::F32, dims.to_vec(), data)?;
        self.tensors.insert(key, weight);
        Ok(())
    }

    /// Notes a convolution under upstream's `key`.
    fn put_conv(&mut self, key: &str, conv: Conv) -> Result<(), Error> {
        if let Some(bias) = conv.bias {
            self.put(format!("{key}.bias"), &bias.dims, bias.data)?;
        }
        self.put(format!("{key}.weight"), &conv.weight.dims, conv.weight.data)
    }

    /// A convolution that stands in the graph as upstream has it.
    fn take_conv(&mut self, side: Side, path: &str) -> Result<(), Error> {
        let conv = self.conv(side, path)?;
        self.put_conv(&path.replace('/', "."), conv)
    }

    fn take_linear(&mut self, side: Side, path: &str) -> Result<(), Error> {
        let conv = self.linear(side, path)?;
        self.put_conv(&path.replace('/', "."), conv)
    }

    fn take_norm(&mut self, part: &'static str, path: &str) -> Result<(), Error> {
        let traced = &self.encoder.traced;
        let name = [format!("/{path}/LayerNormalization"), format!("/{path}/Mul")];
        let node = name.iter().find_map(|name| self.encoder.nodes.get(name.as_str()));
        let norm = node.and_then(|node| Norm::of(traced, node));
        let Some((norm, beta)) = norm.and_then(|norm| norm.beta.map(|beta| (norm, beta))) else {
            let problem = "expected a layer norm in the form in which vitstream writes it, found none";
            return Err(self.error(path.replace('/', "."), problem));
        };
        let (gamma, beta) = (self.constant(Side::Encoder, norm.gamma)?, self.constant(Side::Encoder, beta)?);
        let epsilon = *self.norm_eps.entry(part).or_insert(norm.epsilon);
        if epsilon != norm.epsilon {
            let problem = format!("its epsilon is {}, that of the norms before it {epsilon}", norm.epsilon);
            return Err(self.error(path.replace('/', "."), problem));
        }
        let key = path.replace('/', ".");
        self.put(format!("{key}.gamma"), &gamma.dims, gamma.data)?;
        self.put(format!("{key}.beta"), &beta.dims, beta.data)
    }

    fn speakers(&mut self) -> Result<(), Error> {
        let graph = self.encoder.traced.graph;
        if !graph.inputs.iter().any(|&input| graph.value(input).name == "sid") {
            return Ok(());
        }
        // The graph's first node outside any module looks the speaker up.
        let key = "emb_g.weight";
        let table = self.operand(Side::Encoder, self.node(Side::Encoder, "/Gather")?, 0)?;
        self.put(key, &table.dims, table.data)
    }

    fn text_encoder(&mut self) -> Result<(), Error> {
        let side = Side::Encoder;
        let key = "enc_p.emb.weight";
        let table = self.operand(side, self.node(side, "/enc_p/Gather")?, 0)?;
        let [symbols, hidden] = self.expect(key, &table)?;
        let scale = (hidden as f32).sqrt();
        self.put(key, &[symbols, hidden], unscaled(&table.data, scale))?;
        for layer in 0.. {
            let scope = "enc_p/encoder";
            if !self.encoder.has(&format!("/{scope}/attn_layers.{layer}/conv_qkv/MatMul")) {
                break;
            }
            self.attention(&format!("{scope}/attn_layers.{layer}"), hidden)?;
            for name in ["conv_1", "conv_2"] {
                let path = format!("{scope}/ffn_layers.{layer}/{name}");
                if self.encoder.has(&format!("/{path}/Conv")) {
                    self.take_conv(side, &path)?;
                } else {
                    self.take_pairs(side, &path)?;
                }
            }
            self.take_norm("enc_p", &format!("{scope}/norm_layers_1.{layer}"))?;
            self.take_norm("enc_p", &format!("{scope}/norm_layers_2.{layer}"))?;
        }
        self.take_linear(side, "enc_p/proj")
    }

    fn attention(&mut self, path: &str, hidden: usize) -> Result<(), Error> {
        let side = Side::Encoder;
        let key = path.replace('/', ".");
        let near = self.operand(side, self.node(side, &format!("/{path}/MatMul"))?, 1)?;
        let [d_k, places] = self.expect(&format!("{key}.emb_rel_k"), &near)?;
        self.put(format!("{key}.emb_rel_k"), &[1, places, d_k], transposed(&near.data, d_k, places))?;
        let near = self.operand_in_loop(side, &format!("/{path}/Loop"), "/MatMul_2", 1)?;
        let [places, d_k] = self.expect(&format!("{key}.emb_rel_v"), &near)?;
        self.put(format!("{key}.emb_rel_v"), &[1, places, d_k], near.data)?;

        let merged = self.linear(side, &format!("{path}/conv_qkv"))?;
        if merged.weight.dims != [3 * hidden, hidden, 1] {
            let expected = [hidden, 3 * hidden];
            let found = [merged.weight.dims[1], merged.weight.dims[0]];
            let place = format!("{key}.conv_qkv.weight");
            return Err(self.error(place, format!("expected {expected:?}, found {found:?}")));
        }
        let scale = 1.0 / (d_k as f32).sqrt();
        for (at, name) in ["conv_q", "conv_k", "conv_v"].into_iter().enumerate() {
            let rows = at * hidden..(at + 1) * hidden;
            // Copied, so that no part holds the others' memory.
            let part = |array: &Array| match name {
                "conv_q" => unscaled(&array.rows(rows.clone()), scale),
                _ => Bytes::copy_from_slice(&array.rows(rows.clone())),
            };
            self.put(format!("{key}.{name}.weight"), &[hidden, hidden, 1], part(&merged.weight))?;
            if let Some(bias) = &merged.bias {
                self.put(format!("{key}.{name}.bias"), &[hidden], part(bias))?;
            }
        }
        self.take_linear(side, &format!("{path}/conv_o"))
    }

    fn duration_predictor(&mut self) -> Result<(), Error> {
        let side = Side::Encoder;
        if self.encoder.has("/dp/cond/MatMul") {
            self.take_linear(side, "dp/cond")?;
        }
        if self.encoder.has("/dp/conv_1/Conv") {
            for (conv, norm) in [("dp/conv_1", "dp/norm_1"), ("dp/conv_2", "dp/norm_2")] {
                self.take_conv(side, conv)?;
                self.take_norm("dp", norm)?;
            }
            return self.take_linear(side, "dp/proj");
        }
        self.take_linear(side, "dp/pre")?;
        self.dds_conv("dp/convs")?;
        self.take_linear(side, "dp/proj")?;
        for index in (3..).step_by(2) {
            let path = format!("dp/flows.{index}");
            if !self.encoder.has(&format!("/{path}/proj/MatMul")) {
                break;
            }
            self.conv_flow(&path)?;
        }
        // Of the two channels inference uses the first.
        let m = -self.scalar(side, "/dp/flows.0/Add", 1)?;
        let logs = negative_logarithm(self.scalar(side, "/dp/flows.0/Mul", 1)?);
        self.put("dp.flows.0.m", &[2, 1], bytes([m, 0.0]))?;
        self.put("dp.flows.0.logs", &[2, 1], bytes([logs, 0.0]))
    }

    fn dds_conv(&mut self, path: &str) -> Result<(), Error> {
        for layer in 0.. {
            if !self.encoder.has(&format!("/{path}/convs_sep.{layer}/Conv")) {
                break;
            }
            self.take_conv(Side::Encoder, &format!("{path}/convs_sep.{layer}"))?;
            self.take_linear(Side::Encoder, &format!("{path}/convs_1x1.{layer}"))?;
            self.take_norm("dp", &format!("{path}/norms_1.{layer}"))?;
            self.take_norm("dp", &format!("{path}/norms_2.{layer}"))?;
        }
        Ok(())
    }

    fn conv_flow(&mut self, path: &str) -> Result<(), Error> {
        self.take_linear(Side::Encoder, &format!("{path}/pre"))?;
        self.dds_conv(&format!("{path}/convs"))?;
        let mut proj = self.linear(Side::Encoder, &format!("{path}/proj"))?;
        // Widths and heights; the derivatives after them are as they were.
        let (c_out, c_in) = (proj.weight.dims[0], proj.weight.dims[1]);
        let shape = 2 * (c_out + 1) / 3;
        let scale = 1.0 / (c_in as f32).sqrt();
        for array in [Some(&mut proj.weight), proj.bias.as_mut()].into_iter().flatten() {
            let scaled = unscaled(&array.rows(0..shape), scale);
            array.data = [scaled, array.rows(shape..c_out)].concat().into();
        }
        self.put_conv(&format!("{}.proj", path.replace('/', ".")), proj)?;
        let bound = self.scalar(Side::Encoder, &format!("/{path}/Clip"), 2)?;
        if *self.tail_bound.get_or_insert(bound) != bound {
            return Err(
                self.error(format!("node /{path}/Clip"), "contradicts the bound of the other splines")
            );
        }
        Ok(())
    }

    fn flow(&mut self) -> Result<(), Error> {
        let mut count = 0;
        while self.decoder.has(&format!("/flow/flows.{}/pre/Conv", 2 * count)) {
            count += 1;
        }
        for index in 0..count {
            // Run in reverse, and after a Flip each.
            self.coupling(&format!("flow/flows.{}", 2 * index), (count - index) % 2 == 1)?;
        }
        Ok(())
    }

    /// The graph has -post(skip outputs) as one product for each layer.
    fn coupling(&mut self, path: &str, reversed: bool) -> Result<(), Error> {
        let key = path.replace('/', ".");
        let mut pre = self.conv(Side::Decoder, &format!("{path}/pre"))?;
        let (hidden, half) = (pre.weight.dims[0], pre.weight.dims[1]);
        if pre.weight.dims[2] != 1 {
            let problem = format!("expected one tap, found {}", pre.weight.dims[2]);
            return Err(self.error(format!("{key}.pre.weight"), problem));
        }
        if reversed {
            pre.weight.data = reversed_chunks(&pre.weight.data, half, 1);
        }
        self.put_conv(&format!("{key}.pre"), pre)?;

        let mut means = Vec::new();
        while self.decoder.has(&format!("/{path}/enc/mean.{}/Conv", means.len())) {
            self.gate(&format!("{path}/enc"), &key, (means.len(), hidden))?;
            let (mut weight, mut bias) =
                self.pointwise(&format!("{path}/enc/mean.{}", means.len()), hidden, half)?;
            if reversed {
                (weight, bias) = (reversed_chunks(&weight, half, hidden), reversed_chunks(&bias, half, 1));
            }
            means.push((weight, bias));
        }
        let layers = means.len();
        let Product { skips, post, post_bias } = Product::of(&means, hidden, half);
        for (layer, (skip, skip_bias)) in skips.into_iter().enumerate() {
            let (mut c_out, mut weight, mut bias) = (hidden, skip, skip_bias);
            if layer + 1 < layers {
                let residual = format!("{path}/enc/res_skip_layers.{layer}");
                let (residual, residual_bias) = self.pointwise(&residual, hidden, hidden)?;
                c_out = 2 * hidden;
                weight = [residual, weight].concat().into();
                bias = [residual_bias, bias].concat().into();
            }
            let key = format!("{key}.enc.res_skip_layers.{layer}");
            self.put(format!("{key}.weight"), &[c_out, hidden, 1], weight)?;
            self.put(format!("{key}.bias"), &[c_out], bias)?;
        }
        if self.decoder.has(&format!("/{path}/enc/cond_layer/Conv")) {
            self.take_conv(Side::Decoder, &format!("{path}/enc/cond_layer"))?;
        }
        self.put(format!("{key}.post.weight"), &[half, hidden, 1], post)?;
        self.put(format!("{key}.post.bias"), &[half], post_bias)
    }

    /// Weight and bias of a pointwise convolution of the decoder.
    fn pointwise(&self, path: &str, c_in: usize, c_out: usize) -> Result<(Bytes, Bytes), Error> {
        let conv = self.conv(Side::Decoder, path)?;
        match conv.bias {
            Some(bias) if conv.weight.dims == [c_out, c_in, 1] => Ok((conv.weight.data, bias.data)),
            _ => {
                let (expected, found) = ([c_out, c_in, 1], conv.weight.dims);
                let problem = format!("expected a bias and {expected:?}, found {found:?}");
                Err(self.error(format!("{}.weight", path.replace('/', ".")), problem))
            }
        }
    }

    /// A layer's two convolutions, side by side again.
    fn gate(&mut self, path: &str, key: &str, (layer, hidden): (usize, usize)) -> Result<(), Error> {
        let conv = |name: &str| self.conv(Side::Decoder, &format!("{path}/in_layers.{layer}.{name}"));
        let (tanh, sigmoid) = (conv("tanh")?, conv("sigmoid")?);
        let key = format!("{key}.enc.in_layers.{layer}");
        let (Some(a), Some(b)) = (&tanh.bias, &sigmoid.bias) else {
            return Err(self.error(format!("{key}.bias"), "expected a bias, found none"));
        };
        if tanh.weight.dims != sigmoid.weight.dims || tanh.dilation != sigmoid.dilation {
            let problem = format!("expected {:?} as tanh, found {:?}", tanh.weight.dims, sigmoid.weight.dims);
            return Err(self.error(format!("{key}.sigmoid.weight"), problem));
        }
        if layer == 1 {
            self.flow_dilation = tanh.dilation;
        }
        let [c_out, c_in, kernel] = self.expect(&format!("{key}.weight"), &tanh.weight)?;
        if (c_out, c_in) != (hidden, hidden) {
            let problem =
                format!("expected [{hidden}, {hidden}, 1, {kernel}], found [{c_out}, {c_in}, 1, {kernel}]");
            return Err(self.error(format!("{key}.tanh.weight"), problem));
        }
        let weight = [&tanh.weight.data[..], &sigmoid.weight.data].concat();
        let bias = [&a.data[..], &b.data].concat();
        self.put(format!("{key}.weight"), &[2 * c_out, c_in, kernel], weight.into())?;
        self.put(format!("{key}.bias"), &[2 * c_out], bias.into())
    }

    fn generator(&mut self) -> Result<(), Error> {
        let side = Side::Decoder;
        let mut pre = self.conv(side, "dec/conv_pre")?;
        let [initial, inter, kernel] = self.expect("dec.conv_pre.weight", &pre.weight)?;
        // An odd number of Flips leaves the latent in reverse order.
        if self.tensors.keys().filter(|key| key.starts_with("flow.") && key.ends_with(".pre.weight")).count()
            % 2
            == 1
        {
            pre.weight.data = reversed_chunks(&pre.weight.data, inter, kernel);
        }
        self.put_conv("dec.conv_pre", pre)?;
        if self.decoder.has("/dec/cond/Conv") {
            self.take_conv(side, "dec/cond")?;
        }
        let mut stages = 0;
        while self.decoder.has(&format!("/dec/ups.{stages}/phases.0/Conv")) {
            stages += 1;
        }
        let blocks = self.resblocks()?;
        if stages == 0 || blocks % stages != 0 {
            return Err(self.error("dec.resblocks", format!("{blocks} blocks for {stages} stages")));
        }
        let blocks = blocks / stages;
        self.untold.resblock_dilation_sizes.truncate(blocks);
        // The mean over a stage's blocks is in the weights that come next.
        let share = 1.0 / blocks.max(1) as f32;
        for stage in 0..stages {
            let c_out = initial.checked_shr(stage as u32 + 1).unwrap_or(0);
            self.upsampling(stage, c_out, if stage == 0 { 1.0 } else { share })?;
        }
        self.conv_post(share)
    }

    fn resblocks(&mut self) -> Result<usize, Error> {
        for block in 0.. {
            let path = format!("dec/resblocks.{block}");
            let has = |convs: &str| self.decoder.has(&format!("/{path}/{convs}.0/Conv"));
            let lists: &[&str] = match (has("convs1"), has("convs")) {
                (true, _) => &["convs1", "convs2"],
                (false, true) => &["convs"],
                (false, false) => return Ok(block),
            };
            let mut dilations = Vec::new();
            for &list in lists {
                for layer in 0.. {
                    let path = format!("{path}/{list}.{layer}");
                    if !self.decoder.has(&format!("/{path}/Conv")) {
                        break;
                    }
                    let conv = self.conv(Side::Decoder, &path)?;
                    if list != "convs2" {
                        dilations.push(conv.dilation);
                    }
                    self.put_conv(&path.replace('/', "."), conv)?;
                }
            }
            self.untold.resblock_dilation_sizes.push(dilations);
        }
        Ok(0)
    }

    /// The kernel of a transposed convolution out of its phases.
    fn upsampling(&mut self, stage: usize, c_out: usize, share: f32) -> Result<(), Error> {
        let key = format!("dec.ups.{stage}");
        let mut groups = Vec::new();
        while self.decoder.has(&format!("/dec/ups.{stage}/phases.{}/Conv", groups.len())) {
            groups.push(self.conv(Side::Decoder, &format!("dec/ups.{stage}/phases.{}", groups.len()))?);
        }
        let c_in = groups.first().map_or(0, |group| group.weight.dims[1]);
        let fits = |group: &Conv| {
            c_out > 0 && group.weight.dims[0].is_multiple_of(c_out) && group.weight.dims[1] == c_in
        };
        if !groups.iter().all(fits) {
            let found: Vec<&[usize]> = groups.iter().map(|group| &group.weight.dims[..]).collect();
            let problem = format!("expected phases of {c_out} channels each, found the shapes {found:?}");
            return Err(self.error(format!("{key}.phases"), problem));
        }
        let phases = |group: &Conv| group.weight.dims[0] / c_out;
        let stride: usize = groups.iter().map(phases).sum();
        // Every tap is used by exactly one phase.
        let kernel: usize = groups.iter().map(|group| phases(group) * group.weight.dims[2]).sum();
        let padding = kernel.saturating_sub(stride) / 2;
        let mut weight = vec![0.0; c_in * c_out * kernel];
        let mut first = 0;
        for (at, group) in groups.iter().enumerate() {
            let (width, values) = (group.weight.dims[2], group.weight.floats());
            for phase in 0..phases(group) {
                let place = first + phase + padding;
                // The oldest step meets the largest tap.
                let last = (kernel.saturating_sub(1 + place)) / stride;
                let expected = place / stride + last + 1;
                if place >= kernel || expected != width {
                    let problem = format!("expected {expected} taps with stride {stride}, found {width}");
                    return Err(self.error(format!("{key}.phases.{at}.weight"), problem));
                }
                for o in 0..c_out {
                    for i in 0..c_in {
                        let row = ((phase * c_out + o) * c_in + i) * width;
                        for (slot, &value) in values[row..row + width].iter().enumerate() {
                            // Of the steps before the current one `last`, of those after it the rest.
                            let tap = place + last * stride - slot * stride;
                            weight[(i * c_out + o) * kernel + tap] = quotient(value, share);
                        }
                    }
                }
            }
            first += phases(group);
        }
        let Some(bias) = groups[0].bias.as_ref() else {
            return Err(self.error(format!("{key}.phases.0.bias"), "expected a bias, found none"));
        };
        let bias = bias.rows(0..c_out);
        // All phases have upstream's one bias.
        for (at, group) in groups.iter().enumerate() {
            let same = |found: &Array| found.data.chunks_exact(bias.len()).all(|found| found == &bias[..]);
            if !group.bias.as_ref().is_some_and(same) {
                let problem = "contradicts the bias of the other phases: the file was changed";
                return Err(self.error(format!("{key}.phases.{at}.bias"), problem));
            }
        }
        self.untold.upsample_rates.push(stride);
        self.put(format!("{key}.weight"), &[c_in, c_out, kernel], bytes(weight))?;
        self.put(format!("{key}.bias"), &[c_out], bias)
    }

    /// Of several samples at once the first has the kernel in its place.
    fn conv_post(&mut self, share: f32) -> Result<(), Error> {
        let key = "dec.conv_post.weight";
        let conv = self.conv(Side::Decoder, "dec/conv_post")?;
        let [samples, c_in, width] = self.expect(key, &conv.weight)?;
        let Some(kernel) = (width + 1).checked_sub(samples).filter(|&kernel| kernel > 0) else {
            return Err(self.error(key, format!("expected at least {samples} taps, found {width}")));
        };
        let kernels = |sample: usize| {
            let rows = conv.weight.rows(sample..sample + 1);
            let kernels = rows.chunks_exact(4 * width).flat_map(|row| &row[4 * sample..][..4 * kernel]);
            kernels.copied().collect::<Vec<u8>>()
        };
        let row = kernels(0);
        if let Some(sample) = (1..samples).find(|&sample| kernels(sample) != row) {
            let problem =
                format!("the kernel of sample {sample} contradicts that of the first: the file was changed");
            return Err(self.error(key, problem));
        }
        self.put(key, &[1, c_in, kernel], unscaled(&row, share))
    }

    fn hparams(&mut self) -> Result<HParams, Error> {
        let path = self.path.clone();
        let invalid = |source| Error::HParams { path: path.to_path_buf(), source };
        let metadata = |key: &str| self.decoder.traced.graph.metadata.get(key);
        self.untold.sample_rate = metadata("sample_rate").and_then(|rate| rate.parse().ok());
        let shape = |key: &str| self.tensors.get(key).map(|tensor| tensor.shape().to_vec());
        let mut hparams = HParams::from_shapes(&shape, self.untold.clone()).map_err(invalid)?;
        hparams.flow.dilation_rate = self.flow_dilation;
        if let Some(&epsilon) = self.norm_eps.get("enc_p") {
            hparams.layer_norm_eps = epsilon;
        }
        let epsilon = self.norm_eps.get("dp");
        match &mut hparams.duration {
            DurationHParams::Stochastic { layer_norm_eps, tail_bound, .. } => {
                *layer_norm_eps = epsilon.copied().unwrap_or(*layer_norm_eps);
                *tail_bound = self.tail_bound.unwrap_or(*tail_bound);
            }
            DurationHParams::Plain { layer_norm_eps, .. } => {
                *layer_norm_eps = epsilon.copied().unwrap_or(*layer_norm_eps);
            }
        }
        hparams.check().map_err(invalid)?;
        Ok(hparams)
    }
}
