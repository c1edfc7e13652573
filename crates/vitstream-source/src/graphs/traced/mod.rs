//! Recovers weights and hyper-parameters of VITS from graphs traced by PyTorch.
//!
//! If a graph does not express a fact in a way that is understood here, the result is an error that names the
//! place, never a guess: a constant that an optimiser multiplied by another looks like any other weight.

mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use vitstream_checkpoint::{DType as WeightType, Tensor as Weight};
use vitstream_onnx::{Attr, DType, Graph, Node, Tensor, ValueId};
use vitstream_vits::hparams::{DurationHParams, FlowHParams};
use vitstream_vits::{HParams, Network, ResBlockKind, Weights};

use self::graph::{Traced, key, module};
use crate::Error;

/// Relative tolerance for a constant of upstream: it covers rounding, but no other value.
const ROUNDING: f32 = 1e-5;

/// Limit on the tensors of a network. Those of piper have four hundred.
const MAX_TENSORS: usize = 1 << 13;

const EMB: &str = "enc_p.emb.weight";
const LOGS: &str = "dp.flows.0.logs";

/// Slopes of the generator's leaky ReLUs: the one before the last convolution, and the others.
const SLOPES: (f32, f32) = (0.01, 0.1);

/// Recovers weights and hyper-parameters of the network that `graphs` form together. `path` is used in
/// messages.
pub(crate) fn recover(path: &Path, graphs: &[Graph]) -> Result<(Weights, HParams), Error> {
    let mut found = Recovery {
        path: path.into(),
        tensors: BTreeMap::new(),
        convs: BTreeMap::new(),
        epsilons: Vec::new(),
        tail_bound: None,
    };
    let traced: Vec<Traced<'_>> = graphs.iter().map(Traced::new).collect();
    found.check_network(&traced)?;
    for traced in &traced {
        found.take_named(traced)?;
        found.take_convolutions(traced)?;
        found.take_norms(traced)?;
        found.take_embeddings(traced)?;
        found.take_affine(traced)?;
        found.take_tail_bound(traced)?;
    }
    let hparams = found.hparams()?;
    hparams.check().map_err(|source| Error::HParams { path: path.to_owned(), source })?;
    found.check_convolutions(&hparams)?;
    for traced in &traced {
        found.check_slopes(traced)?;
    }
    Ok((Weights::new(found.tensors), hparams))
}

/// The attributes of a convolution's node.
#[derive(Clone, Copy, Debug, PartialEq)]
struct TracedConv {
    transposed: bool,
    stride: usize,
    dilation: usize,
    groups: usize,
    pads: [usize; 2],
    output_padding: usize,
}

struct Recovery {
    path: Arc<Path>,
    /// Tensors by upstream's key.
    tensors: BTreeMap<String, Weight>,
    /// Convolutions by upstream's module.
    convs: BTreeMap<String, TracedConv>,
    /// Epsilons of the layer norms, with their modules.
    epsilons: Vec<(String, f32)>,
    tail_bound: Option<f32>,
}

impl Recovery {
    fn error(&self, place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Unrecoverable { path: self.path.to_path_buf(), place: place.into(), problem: problem.into() }
    }

    fn check_network(&self, graphs: &[Traced<'_>]) -> Result<(), Error> {
        let names = || graphs.iter().flat_map(Traced::constants).map(|(name, _)| name);
        for node in graphs.iter().flat_map(|traced| &traced.graph.nodes) {
            if matches!(
                node.op.as_str(),
                "QuantizeLinear"
                    | "DequantizeLinear"
                    | "DynamicQuantizeLinear"
                    | "QLinearConv"
                    | "ConvInteger"
            ) {
                let problem = format!(
                    "{} computes with quantised weights; use the voice before it was quantised",
                    node.op
                );
                return Err(self.error(format!("node {}", node.name), problem));
            }
        }
        let known = Network::of(names().map(|name| key(name).unwrap_or(name)));
        // A shared tensor may be named after only one of its modules; the nodes name the others.
        let modules: Vec<String> = graphs
            .iter()
            .flat_map(|traced| traced.graph.nodes.iter().filter_map(module))
            .map(|module| module + ".")
            .collect();
        match known {
            Network::Unknown if Network::of(modules.iter().map(String::as_str)) == Network::Vits => Ok(()),
            Network::Vits => Ok(()),
            other => Err(Error::OtherNetwork { path: self.path.to_path_buf(), found: other.describe() }),
        }
    }

    /// Records `tensor` under `key`, unless the key is already taken.
    fn take(&mut self, key: &str, tensor: &Tensor) -> Result<(), Error> {
        if self.tensors.contains_key(key) {
            return Ok(());
        }
        if tensor.dtype != DType::F32 {
            let problem = format!(
                "expected float32, found {}; use the voice before its precision was reduced",
                tensor.dtype
            );
            return Err(self.error(key, problem));
        }
        self.insert(key, tensor.dims.clone(), tensor.data.clone())
    }

    fn insert(&mut self, key: &str, dims: Vec<usize>, data: bytes::Bytes) -> Result<(), Error> {
        if self.tensors.len() >= MAX_TENSORS {
            return Err(self.error(key, format!("no voice has more than {MAX_TENSORS} tensors")));
        }
        let weight = Weight::from_bytes(&self.path, key, WeightType::F32, dims, data)?;
        self.tensors.insert(key.to_owned(), weight);
        Ok(())
    }

    /// Records `tensor` under `key` with `change` applied to its elements, replacing any other.
    fn put(&mut self, key: &str, tensor: &Tensor, change: impl Fn(f32) -> f32) -> Result<(), Error> {
        let values = tensor
            .to_f32()
            .ok_or_else(|| self.error(key, format!("expected float32, found {}", tensor.dtype)))?;
        let changed = values.into_iter().flat_map(|value| change(value).to_le_bytes()).collect();
        self.insert(key, tensor.dims.clone(), changed)
    }

    /// Skips tensors that are multiplied by constants or passed through functions before they are used; these
    /// are taken from the place of use.
    fn take_named(&mut self, traced: &Traced<'_>) -> Result<(), Error> {
        for (name, tensor) in traced.constants() {
            match key(name) {
                Some(EMB | LOGS) | None => {}
                // Indices and masks, which a tracer named after the module that they came from.
                Some(_) if matches!(tensor.dtype, DType::I64 | DType::Bool) => {}
                Some(key) => self.take(key, &without_unit_axes(key, tensor))?,
            }
        }
        Ok(())
    }

    fn take_convolutions(&mut self, traced: &Traced<'_>) -> Result<(), Error> {
        for node in &traced.graph.nodes {
            let transposed = match node.op.as_str() {
                "Conv" => false,
                "ConvTranspose" => true,
                _ => continue,
            };
            let place = || format!("node {}", node.name);
            let weight = traced.input(node, 1).ok_or_else(|| self.error(place(), "its weight is missing"))?;
            let bias = traced.input(node, 2);
            let named = |value: ValueId, leaf: &str| {
                let module = key(traced.name(value))?.strip_suffix(leaf)?;
                Some(module.to_owned())
            };
            let module = module(node)
                .or_else(|| named(weight, ".weight"))
                .or_else(|| bias.and_then(|bias| named(bias, ".bias")));
            let Some(module) = module else {
                let name = traced.name(weight);
                return Err(self.error(
                    place(),
                    format!(
                        "belongs to no module of VITS, judging by its name, its bias and its weight `{name}`"
                    ),
                ));
            };
            let conv = self.read_conv(node, transposed)?;
            if self.convs.len() >= MAX_TENSORS {
                return Err(self.error(place(), format!("no voice has more than {MAX_TENSORS} convolutions")));
            }
            if self.convs.insert(module.clone(), conv).is_some() {
                return Err(self.error(place(), format!("is a second convolution of {module}")));
            }
            if let Some(bias) = bias.and_then(|bias| traced.constant(bias)) {
                self.take(&format!("{module}.bias"), bias)?;
            }
            // Otherwise it is a weight norm that was not folded, whose parts have names.
            if let Some(tensor) = traced.constant(weight) {
                self.take_weight(traced, node, &module, traced.name(weight), tensor)?;
            }
        }
        Ok(())
    }

    fn take_weight(
        &mut self,
        traced: &Traced<'_>,
        node: &Node,
        module: &str,
        name: &str,
        tensor: &Tensor,
    ) -> Result<(), Error> {
        let leaf = format!("{module}.weight");
        if module.contains(".convs_1x1.") {
            // Optimisers move the factor 1/2 of the GELU before it into the weight.
            let factor = traced.input(node, 0).and_then(|x| gelu_factor(traced, x)).ok_or_else(|| {
                self.error(&leaf, "the GELU before it has an unknown form, so its scale is unknown")
            })?;
            return match factor {
                0.5 => self.take(&leaf, tensor),
                factor => self.put(&leaf, tensor, |w| w * (factor / 0.5)),
            };
        }
        let weight_normed = module.starts_with("flow.") || module.starts_with("dec.");
        if key(name).is_none() && !weight_normed {
            let problem = format!("its initializer is called `{name}`: it was fused with something unknown");
            return Err(self.error(&leaf, problem));
        }
        self.take(&leaf, tensor)
    }

    fn read_conv(&self, node: &Node, transposed: bool) -> Result<TracedConv, Error> {
        let place = || format!("node {}", node.name);
        let ints = |name: &str, default: &[i64]| -> Result<Vec<usize>, Error> {
            let values = match node.attrs.get(name) {
                None => default,
                Some(Attr::Ints(values)) if values.len() == default.len() => values,
                Some(other) => {
                    let problem = format!("expected {name} of one axis, found {other:?}");
                    return Err(self.error(place(), problem));
                }
            };
            let small = |&value: &i64| usize::try_from(value).ok().filter(|&value| value <= 1 << 16);
            values
                .iter()
                .map(small)
                .collect::<Option<_>>()
                .ok_or_else(|| self.error(place(), format!("{name} {values:?} are not valid")))
        };
        let one = |name, default| Ok::<usize, Error>(ints(name, &[default])?[0]);
        if let Some(Attr::String(mode)) = node.attrs.get("auto_pad")
            && mode != "NOTSET"
        {
            return Err(self.error(place(), format!("expected explicit padding, found {mode}")));
        }
        let groups = match node.attrs.get("group") {
            None => 1,
            Some(Attr::Int(n @ 1..=65536)) => *n as usize,
            Some(other) => return Err(self.error(place(), format!("group {other:?} is not valid"))),
        };
        let pads = ints("pads", &[0, 0])?;
        Ok(TracedConv {
            transposed,
            stride: one("strides", 1)?,
            dilation: one("dilations", 1)?,
            groups,
            pads: [pads[0], pads[1]],
            output_padding: one("output_padding", 0)?,
        })
    }

    fn take_norms(&mut self, traced: &Traced<'_>) -> Result<(), Error> {
        for node in &traced.graph.nodes {
            let Some(norm) = Norm::of(traced, node) else { continue };
            let named = |value: ValueId, leaf: &str| {
                key(traced.name(value)).and_then(|key| key.strip_suffix(leaf)).map(str::to_owned)
            };
            let module = module(node)
                .filter(|module| module.contains("norm"))
                .or_else(|| named(norm.gamma, ".gamma"))
                .or_else(|| norm.beta.and_then(|beta| named(beta, ".beta")));
            let Some(module) = module else {
                return Err(self.error(
                    format!("node {}", node.name),
                    "is a layer norm that belongs to no module of VITS, judging by its name and its constants",
                ));
            };
            let constants = [("gamma", Some(norm.gamma)), ("beta", norm.beta)];
            for (leaf, value) in constants {
                if let Some(tensor) = value.and_then(|value| traced.constant(value)) {
                    let key = format!("{module}.{leaf}");
                    self.take(&key, &without_unit_axes(&key, tensor))?;
                }
            }
            self.epsilons.push((module, norm.epsilon));
        }
        Ok(())
    }

    /// One of the two tables is indexed by the phonemes, the other by the speaker.
    fn take_embeddings(&mut self, traced: &Traced<'_>) -> Result<(), Error> {
        for node in traced.graph.nodes.iter().filter(|node| node.op == "Gather") {
            let (Some(table), Some(index)) = (traced.input(node, 0), traced.input(node, 1)) else { continue };
            let Some(table) = traced.constant(table).filter(|table| table.dims.len() == 2) else { continue };
            match traced.graph_input(index) {
                Some(0) => self.take_phonemes(traced, node, table)?,
                Some(_) => self.take("emb_g.weight", table)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Upstream multiplies by sqrt(hidden) after the lookup; an optimiser may have done so in advance.
    fn take_phonemes(&mut self, traced: &Traced<'_>, node: &Node, table: &Tensor) -> Result<(), Error> {
        let scale = (table.dims[1] as f32).sqrt();
        let factor = traced.readers(node).iter().filter(|node| node.op == "Mul").find_map(|node| {
            let (factor, _) = traced.ordered(node, |value| traced.scalar(value).is_some())?;
            traced.scalar(factor)
        });
        let factor = factor.unwrap_or(1.0);
        if (factor - scale).abs() <= ROUNDING * scale {
            return self.take(EMB, table);
        }
        self.put(EMB, table, |w| w * (factor / scale))
    }

    /// Upstream's `(x - m) * exp(-logs)` in the inverse direction.
    fn take_affine(&mut self, traced: &Traced<'_>) -> Result<(), Error> {
        const MODULE: &str = "dp.flows.0";
        for node in traced.graph.nodes.iter().filter(|node| node.op == "Sub") {
            let Some(m) = traced.input(node, 1) else { continue };
            let Some(tensor) = traced.constant(m) else { continue };
            let here = key(traced.name(m)) == Some("dp.flows.0.m") || module(node).as_deref() == Some(MODULE);
            if !here {
                continue;
            }
            self.take("dp.flows.0.m", tensor)?;
            let logs = traced.readers(node).iter().find_map(|scale| exponent(traced, scale, node));
            let Some((tensor, exponent)) = logs else {
                return Err(self.error(LOGS, "expected x * exp(-logs) after x - m, found something else"));
            };
            match exponent {
                Exponent::Logs => self.take(LOGS, tensor)?,
                Exponent::Negative => self.put(LOGS, tensor, |v| -v)?,
                Exponent::Inverse => self.put(LOGS, tensor, |v| -(f64::from(v).ln() as f32))?,
            }
        }
        Ok(())
    }

    /// The spline compares its input with both ends of its domain.
    fn take_tail_bound(&mut self, traced: &Traced<'_>) -> Result<(), Error> {
        for node in &traced.graph.nodes {
            let compares = matches!(node.op.as_str(), "GreaterOrEqual" | "LessOrEqual");
            if !compares || !module(node).is_some_and(|module| module.starts_with("dp.flows.")) {
                continue;
            }
            let Some(bound) = traced.input(node, 1).and_then(|end| traced.scalar(end)) else { continue };
            let bound = bound.abs();
            if bound == 0.0 || !bound.is_finite() || self.tail_bound.is_some_and(|other| other != bound) {
                return Err(
                    self.error(format!("node {}", node.name), "contradicts the other ends of the spline")
                );
            }
            self.tail_bound = Some(bound);
        }
        Ok(())
    }

    fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors.get(key).map(Weight::shape)
    }

    /// The shape of an embedding, if it exists.
    fn table(&self, key: &str) -> Result<Option<[usize; 2]>, Error> {
        let table = |shape: &[usize]| {
            let problem = || self.error(key, format!("expected a table, found the shape {shape:?}"));
            <[usize; 2]>::try_from(shape).map_err(|_| problem())
        };
        self.shape(key).map(table).transpose()
    }

    /// The shape of a module's weight, in any spelling of weight norm.
    fn weight_shape(&self, module: &str) -> Option<&[usize]> {
        let spellings = ["weight", "weight_v", "parametrizations.weight.original1"];
        spellings.iter().find_map(|leaf| self.shape(&format!("{module}.{leaf}")))
    }

    fn dim(&self, module: &str, axis: usize) -> Result<usize, Error> {
        let dim = self.weight_shape(module).and_then(|shape| shape.get(axis));
        dim.copied().ok_or_else(|| self.error(format!("{module}.weight"), "is not in the graph"))
    }

    fn conv(&self, module: &str) -> Result<&TracedConv, Error> {
        self.convs.get(module).ok_or_else(|| self.error(module, "its convolution is not in the graph"))
    }

    /// The numbers that follow `scope` in keys and modules, sorted.
    fn indices(&self, scope: &str) -> Vec<usize> {
        let names = self.tensors.keys().chain(self.convs.keys());
        let indices: BTreeSet<usize> = names
            .filter_map(|name| name.strip_prefix(scope)?.strip_prefix('.')?.split('.').next()?.parse().ok())
            .collect();
        indices.into_iter().collect()
    }

    fn count(&self, scope: &str) -> Result<usize, Error> {
        let indices = self.indices(scope);
        match indices.last() {
            Some(&last) if last + 1 == indices.len() => Ok(indices.len()),
            Some(_) => Err(self.error(scope, format!("expected consecutive numbers, found {indices:?}"))),
            None => Err(self.error(scope, "is not in the graph")),
        }
    }

    fn hparams(&self) -> Result<HParams, Error> {
        let [num_symbols, hidden_channels] =
            self.table(EMB)?.ok_or_else(|| self.error(EMB, "no table is indexed by `input`"))?;
        const REL: &str = "enc_p.encoder.attn_layers.0.emb_rel_k";
        let Some(&[1, places, d_k @ (1..)]) = self.shape(REL) else {
            let found = self.shape(REL);
            return Err(
                self.error(REL, format!("expected [1, 2 * window + 1, channels of a head], found {found:?}"))
            );
        };
        let speakers = self.table("emb_g.weight")?;
        let resblock = match self.indices("dec.resblocks.0.convs1").is_empty() {
            true => ResBlockKind::ResBlock2,
            false => ResBlockKind::ResBlock1,
        };
        let stages = self.count("dec.ups")?;
        let blocks = self.count("dec.resblocks")?;
        if blocks % stages != 0 {
            return Err(self.error("dec.resblocks", format!("{blocks} blocks for {stages} stages")));
        }
        let mut kernels = Vec::new();
        let mut dilations = Vec::new();
        for block in 0..blocks / stages {
            let convs = format!("dec.resblocks.{block}.{}", resblock_convs(resblock));
            kernels.push(self.dim(&format!("{convs}.0"), 2)?);
            let layers = 0..self.count(&convs)?;
            let of = |layer| Ok(self.conv(&format!("{convs}.{layer}"))?.dilation);
            dilations.push(layers.map(of).collect::<Result<_, Error>>()?);
        }
        let ups = || (0..stages).map(|stage| format!("dec.ups.{stage}"));
        Ok(HParams {
            num_symbols,
            num_speakers: speakers.map_or(1, |[rows, _]| rows),
            gin_channels: speakers.map_or(0, |[_, channels]| channels),
            inter_channels: self.dim("enc_p.proj", 0)? / 2,
            hidden_channels,
            filter_channels: self.dim("enc_p.encoder.ffn_layers.0.conv_1", 0)?,
            n_heads: hidden_channels / d_k,
            n_layers: self.count("enc_p.encoder.attn_layers")?,
            kernel_size: self.dim("enc_p.encoder.ffn_layers.0.conv_1", 2)?,
            window_size: places / 2,
            layer_norm_eps: self.epsilon()?,
            duration: self.duration()?,
            flow: self.flow()?,
            resblock,
            resblock_kernel_sizes: kernels,
            resblock_dilation_sizes: dilations,
            upsample_rates: ups().map(|up| Ok(self.conv(&up)?.stride)).collect::<Result<_, Error>>()?,
            upsample_initial_channel: self.dim("dec.conv_pre", 0)?,
            upsample_kernel_sizes: ups().map(|up| self.dim(&up, 2)).collect::<Result<_, _>>()?,
            sample_rate: None,
        })
    }

    fn epsilon(&self) -> Result<f32, Error> {
        let Some((_, epsilon)) = self.epsilons.first() else {
            return Err(self.error("enc_p.encoder.norm_layers_1.0", "the graph has no layer norm"));
        };
        match self.epsilons.iter().find(|(_, other)| (other - epsilon).abs() > ROUNDING * epsilon) {
            None => Ok(*epsilon),
            Some((module, other)) => Err(self
                .error(module, format!("its epsilon is {other}, but that of the other norms is {epsilon}"))),
        }
    }

    fn duration(&self) -> Result<DurationHParams, Error> {
        if self.weight_shape("dp.conv_1").is_some() {
            let (filter_channels, kernel_size) = (self.dim("dp.conv_1", 0)?, self.dim("dp.conv_1", 2)?);
            let layer_norm_eps = self.epsilon()?;
            return Ok(DurationHParams::Plain { filter_channels, kernel_size, layer_norm_eps });
        }
        // Couplings have odd indices; the first one is left out at inference.
        let last = self.indices("dp.flows").last().copied().unwrap_or_default();
        if last < 3 || last % 2 == 0 {
            return Err(
                self.error("dp", "expected a plain or a stochastic duration predictor, found neither")
            );
        }
        let DurationHParams::Stochastic { tail_bound: upstream, .. } = DurationHParams::stochastic() else {
            unreachable!("it is the stochastic one")
        };
        Ok(DurationHParams::Stochastic {
            n_flows: last / 2 + 1,
            kernel_size: self.dim("dp.convs.convs_sep.0", 2)?,
            dds_layers: self.count("dp.convs.convs_sep")?,
            // Widths, heights, and derivatives at the inner knots.
            num_bins: self.dim(&format!("dp.flows.{last}.proj"), 0)?.div_ceil(3),
            tail_bound: self.tail_bound.unwrap_or(upstream),
            layer_norm_eps: self.epsilon()?,
        })
    }

    fn flow(&self) -> Result<FlowHParams, Error> {
        let last = self.indices("flow.flows").last().copied().unwrap_or_default();
        let layers = "flow.flows.0.enc.in_layers";
        let n_layers = self.count(layers)?;
        let dilation_rate = if n_layers > 1 { self.conv(&format!("{layers}.1"))?.dilation } else { 1 };
        Ok(FlowHParams {
            n_flows: last / 2 + 1,
            kernel_size: self.dim(&format!("{layers}.0"), 2)?,
            dilation_rate,
            n_layers,
        })
    }

    /// Checks facts about convolutions that shapes do not determine; shapes are checked when the weights are
    /// claimed.
    fn check_convolutions(&self, hp: &HParams) -> Result<(), Error> {
        for (module, conv) in &self.convs {
            let Some(&[c_out, _, kernel @ (1..)]) = self.weight_shape(module) else {
                let found = self.weight_shape(module);
                return Err(self.error(
                    format!("{module}.weight"),
                    format!("expected a convolution along one axis, found the shape {found:?}"),
                ));
            };
            let expected = match conv.transposed {
                true => {
                    let pad = kernel.saturating_sub(conv.stride) / 2;
                    TracedConv {
                        transposed: true,
                        dilation: 1,
                        groups: 1,
                        pads: [pad; 2],
                        output_padding: 0,
                        ..*conv
                    }
                }
                false => {
                    let dilation = dilation(hp, module);
                    let pads = match conv.pads {
                        // Upstream pads in a separate node before it.
                        [0, 0] if module.contains(".ffn_layers.") => [0, 0],
                        _ => [(kernel - 1).saturating_mul(dilation) / 2; 2],
                    };
                    let groups = if module.contains(".convs_sep.") { c_out } else { 1 };
                    TracedConv { transposed: false, stride: 1, dilation, groups, pads, output_padding: 0 }
                }
            };
            if *conv != expected {
                return Err(self.error(module, format!("expected {expected:?}, found {conv:?}")));
            }
        }
        Ok(())
    }

    fn check_slopes(&self, traced: &Traced<'_>) -> Result<(), Error> {
        for node in traced.graph.nodes.iter().filter(|node| node.op == "LeakyRelu") {
            let last = traced.readers(node).iter().any(|reader| {
                let weight = traced.input(reader, 1).and_then(|weight| key(traced.name(weight)));
                weight.is_some_and(|key| key.starts_with("dec.conv_post."))
                    || module(reader).as_deref() == Some("dec.conv_post")
            });
            let expected = if last { SLOPES.0 } else { SLOPES.1 };
            let slope = match node.attrs.get("alpha") {
                None => SLOPES.0,
                Some(Attr::Float(slope)) => *slope,
                Some(_) => f32::NAN,
            };
            if (slope - expected).abs() > ROUNDING || slope.is_nan() {
                let problem = format!("expected a slope of {expected}, found {slope}");
                return Err(self.error(format!("node {}", node.name), problem));
            }
        }
        Ok(())
    }
}

/// Upstream's name for the dilated convolutions of a residual block.
fn resblock_convs(kind: ResBlockKind) -> &'static str {
    match kind {
        ResBlockKind::ResBlock1 => "convs1",
        ResBlockKind::ResBlock2 => "convs",
    }
}

/// Upstream's dilation of the convolution `module`.
fn dilation(hp: &HParams, module: &str) -> usize {
    let (scope, index) = module.rsplit_once('.').unwrap_or((module, ""));
    let Ok(index) = index.parse::<usize>() else { return 1 };
    let power = |base: usize| base.saturating_pow(u32::try_from(index).unwrap_or(u32::MAX));
    if scope.ends_with(".convs_sep") {
        return match hp.duration {
            DurationHParams::Stochastic { kernel_size, .. } => power(kernel_size),
            DurationHParams::Plain { .. } => 1,
        };
    }
    if scope.ends_with(".in_layers") {
        return power(hp.flow.dilation_rate);
    }
    let Some((block, convs)) = scope.strip_prefix("dec.resblocks.").and_then(|rest| rest.split_once('.'))
    else {
        return 1;
    };
    if convs != resblock_convs(hp.resblock) {
        return 1;
    }
    let dilations = &hp.resblock_dilation_sizes;
    let block = block.parse::<usize>().ok().map(|block| block % dilations.len().max(1));
    block.and_then(|block| dilations.get(block)?.get(index)).copied().unwrap_or(1)
}

/// A layer norm, as one node or spelt out.
pub(crate) struct Norm {
    pub(crate) gamma: ValueId,
    pub(crate) beta: Option<ValueId>,
    pub(crate) epsilon: f32,
}

impl Norm {
    /// The norm that ends at `node`, without the bias.
    pub(crate) fn of(traced: &Traced<'_>, node: &Node) -> Option<Self> {
        match node.op.as_str() {
            "LayerNormalization" => {
                let epsilon = match node.attrs.get("epsilon") {
                    Some(Attr::Float(epsilon)) => *epsilon,
                    _ => 1e-5,
                };
                Some(Self { gamma: traced.input(node, 1)?, beta: traced.input(node, 2), epsilon })
            }
            // (x - mean) / sqrt(variance + epsilon) * gamma + beta
            "Mul" => {
                let is_row = |value| traced.constant(value).is_some_and(|tensor| is_row(&tensor.dims));
                let (gamma, normal) = traced.ordered(node, is_row)?;
                let step = |value: ValueId, op: &str| traced.producer(value).filter(|node| node.op == op);
                let sqrt = step(traced.input(step(normal, "Div")?, 1)?, "Sqrt")?;
                let sum = step(traced.input(sqrt, 0)?, "Add")?;
                let (epsilon, _) = traced.ordered(sum, |value| traced.scalar(value).is_some())?;
                let beta = traced
                    .readers(node)
                    .iter()
                    .filter(|reader| reader.op == "Add")
                    .find_map(|reader| traced.ordered(reader, is_row));
                Some(Self { gamma, beta: beta.map(|(beta, _)| beta), epsilon: traced.scalar(epsilon)? })
            }
            _ => None,
        }
    }
}

/// Returns true if there is one number for each channel. ONNX Runtime keeps the channels at their axis of the
/// input, and gives the constants of a layer norm further axes of length 1.
fn is_row(dims: &[usize]) -> bool {
    dims.len() == 1 || (dims.len() <= 4 && dims.iter().filter(|&&dim| dim != 1).count() == 1)
}

/// The constants of a layer norm in upstream's shape; other tensors unchanged.
fn without_unit_axes(key: &str, tensor: &Tensor) -> Tensor {
    let of_a_norm = key.ends_with(".gamma") || key.ends_with(".beta");
    let dims = match of_a_norm && is_row(&tensor.dims) {
        true => vec![tensor.dims.iter().product()],
        false => tensor.dims.clone(),
    };
    Tensor { dims, ..tensor.clone() }
}

/// The factor of x * (1 + erf(x / sqrt(2))) in the GELU that produces `value`: 1/2, or 1 if the half was
/// moved elsewhere.
fn gelu_factor(traced: &Traced<'_>, value: ValueId) -> Option<f32> {
    let is_scalar = |value: ValueId| traced.scalar(value).is_some();
    let multiplication = |value: ValueId| traced.producer(value).filter(|node| node.op == "Mul");
    // The half may be multiplied last, first, or not at all.
    let scaled = |value: ValueId| {
        let parts = multiplication(value).and_then(|node| traced.ordered(node, is_scalar));
        parts.and_then(|(factor, rest)| Some((traced.scalar(factor)?, rest))).unwrap_or((1.0, value))
    };
    let (last, value) = scaled(value);
    let node = traced.producer(value)?;
    if node.op == "Gelu" {
        return Some(0.5 * last);
    }
    let is_one_and_erf = |value: ValueId| {
        let sum = traced.producer(value).filter(|node| node.op == "Add");
        sum.and_then(|sum| traced.ordered(sum, is_scalar)).is_some_and(|(one, erf)| {
            let erf = traced.producer(erf).filter(|node| node.op == "Erf");
            traced.scalar(one) == Some(1.0) && erf.is_some()
        })
    };
    let (_, x) = multiplication(value).and_then(|node| traced.ordered(node, is_one_and_erf))?;
    let (first, _) = scaled(x);
    Some(last * first)
}

/// The form in which a graph stores `logs`.
enum Exponent {
    Logs,
    /// -logs
    Negative,
    /// exp(-logs)
    Inverse,
}

/// The constant from which the factor `exp(-logs)` is made, by which `scale` multiplies the output of
/// `centred`.
fn exponent<'a>(traced: &Traced<'a>, scale: &Node, centred: &Node) -> Option<(&'a Tensor, Exponent)> {
    if scale.op != "Mul" {
        return None;
    }
    let centred = centred.outputs.first().copied().flatten()?;
    let (_, factor) = traced.ordered(scale, |value| value == centred)?;
    if let Some(tensor) = traced.constant(factor) {
        return Some((tensor, Exponent::Inverse));
    }
    let exp = traced.producer(factor).filter(|node| node.op == "Exp")?;
    let argument = traced.input(exp, 0)?;
    if let Some(tensor) = traced.constant(argument) {
        return Some((tensor, Exponent::Negative));
    }
    let neg = traced.producer(argument).filter(|node| node.op == "Neg")?;
    Some((traced.constant(traced.input(neg, 0)?)?, Exponent::Logs))
}
