//! Hyper-parameters determined by the shapes of the weights, for files that do not state them.

use crate::hparams::{
    DurationHParams, FlowHParams, HParams, HParamsError, LAYER_NORM_EPS, ResBlockKind, error,
};

/// Limit up to which layers, stages and blocks are counted; [`HParams::check`] refuses such numbers.
const MAX_COUNT: usize = 1024;

/// Hyper-parameters that no shape determines: strides, dilations, and facts outside the network.
#[derive(Clone, Debug, Default)]
pub struct Untold {
    /// Up-sampling factor of each stage.
    pub upsample_rates: Vec<usize>,
    /// The dilations of each parallel residual block.
    pub resblock_dilation_sizes: Vec<Vec<usize>>,
    /// Sample rate in hertz, if known.
    pub sample_rate: Option<u32>,
}

impl HParams {
    /// Counts and measures the tensors; `shape` returns the shape of a tensor by its upstream key. Constants
    /// that upstream fixes in `SynthesizerTrn.__init__` and no shape shows (epsilons, the spline's bounds, no
    /// dilation in the flow) are taken from there.
    ///
    /// # Errors
    /// When a tensor is absent or has another number of axes, or when [`check`](Self::check) fails.
    pub fn from_shapes(
        shape: &dyn Fn(&str) -> Option<Vec<usize>>,
        untold: Untold,
    ) -> Result<Self, HParamsError> {
        let hparams = Self::measured(shape, untold)?;
        hparams.check()?;
        Ok(hparams)
    }

    fn measured(shape: &dyn Fn(&str) -> Option<Vec<usize>>, untold: Untold) -> Result<Self, HParamsError> {
        let shapes = Shapes(shape);
        let [num_symbols, hidden_channels] = shapes.dims("num_symbols", "enc_p.emb.weight")?;
        let [stats, ..] = shapes.dims::<3>("inter_channels", "enc_p.proj.weight")?;
        let [filter_channels, _, kernel_size] =
            shapes.dims("filter_channels", "enc_p.encoder.ffn_layers.0.conv_1.weight")?;
        let [_, rows, d_k] = shapes.dims("n_heads", "enc_p.encoder.attn_layers.0.emb_rel_k")?;
        if d_k == 0 || hidden_channels % d_k != 0 {
            let message =
                format!("{hidden_channels} channels are not a multiple of the {d_k} channels of a head");
            return Err(error("n_heads", message));
        }
        let [num_speakers, gin_channels] = match shape("emb_g.weight") {
            Some(_) => shapes.dims("num_speakers", "emb_g.weight")?,
            None => [1, 0],
        };
        let [upsample_initial_channel, ..] =
            shapes.normed::<3>("upsample_initial_channel", "dec.conv_pre")?;
        let generator = shapes.generator()?;
        Ok(Self {
            num_symbols,
            num_speakers,
            gin_channels,
            inter_channels: stats / 2,
            hidden_channels,
            filter_channels,
            n_heads: hidden_channels / d_k,
            n_layers: count(|i| shapes.has(&format!("enc_p.encoder.attn_layers.{i}.conv_q.weight"))),
            kernel_size,
            window_size: rows.saturating_sub(1) / 2,
            layer_norm_eps: LAYER_NORM_EPS,
            duration: shapes.duration()?,
            flow: shapes.flow()?,
            resblock: generator.resblock,
            resblock_kernel_sizes: generator.resblock_kernel_sizes,
            resblock_dilation_sizes: untold.resblock_dilation_sizes,
            upsample_rates: untold.upsample_rates,
            upsample_initial_channel,
            upsample_kernel_sizes: generator.upsample_kernel_sizes,
            sample_rate: untold.sample_rate,
        })
    }
}

/// A hyper-parameter for which the file's statement contradicts its own tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Its name.
    pub name: &'static str,
    /// The value stated by the file.
    pub stated: String,
    /// The value determined by the tensors.
    pub told: String,
    /// The tensors that determine it.
    pub by: &'static str,
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, stated, told, by } = self;
        write!(f, "{name}: the file says {stated}, its tensors ({by}) have {told}")
    }
}

/// Hyper-parameters that both a file and its tensors determine, and the tensors concerned.
const TOLD: [(&str, &str); 12] = [
    ("num_symbols", "enc_p.emb.weight"),
    ("num_speakers", "emb_g.weight"),
    ("inter_channels", "enc_p.proj.weight"),
    ("hidden_channels", "enc_p.emb.weight"),
    ("filter_channels", "enc_p.encoder.ffn_layers.0.conv_1.weight"),
    ("n_heads", "enc_p.encoder.attn_layers.0.emb_rel_k"),
    ("n_layers", "enc_p.encoder.attn_layers.*"),
    ("kernel_size", "enc_p.encoder.ffn_layers.0.conv_1.weight"),
    ("resblock", "dec.resblocks.*"),
    ("resblock_kernel_sizes", "dec.resblocks.*"),
    ("upsample_initial_channel", "dec.conv_pre"),
    ("upsample_kernel_sizes", "dec.ups.*"),
];

impl HParams {
    /// The hyper-parameters for which these, as stated by a file, differ from its tensors. `shape` returns
    /// the shape of a tensor by its upstream key. Empty if the tensors alone do not form a network.
    pub fn contradictions(&self, shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Vec<Contradiction> {
        let untold = Untold {
            upsample_rates: self.upsample_rates.clone(),
            resblock_dilation_sizes: self.resblock_dilation_sizes.clone(),
            sample_rate: self.sample_rate,
        };
        // Rates and dilations are the file's own and need not match the tensors, so they are not checked.
        let Ok(told) = Self::measured(shape, untold) else { return Vec::new() };
        let json = |hparams: &Self| serde_json::to_value(hparams).unwrap_or_default();
        let (stated, told) = (json(self), json(&told));
        let differing = TOLD.iter().filter(|(name, _)| stated.get(name) != told.get(name));
        let text =
            |json: &serde_json::Value, name: &str| json.get(name).map_or(String::new(), ToString::to_string);
        let mut found: Vec<Contradiction> = differing
            .map(|&(name, by)| Contradiction {
                name,
                stated: text(&stated, name),
                told: text(&told, name),
                by,
            })
            .collect();
        let sdp = |json: &serde_json::Value| json["duration"].get("Stochastic").is_some();
        if sdp(&stated) != sdp(&told) {
            let (stated, told) = (sdp(&stated).to_string(), sdp(&told).to_string());
            found.push(Contradiction { name: "use_sdp", stated, told, by: "dp.*" });
        }
        found
    }
}

struct Generator {
    resblock: ResBlockKind,
    resblock_kernel_sizes: Vec<usize>,
    upsample_kernel_sizes: Vec<usize>,
}

struct Shapes<'a>(&'a dyn Fn(&str) -> Option<Vec<usize>>);

impl Shapes<'_> {
    fn has(&self, key: &str) -> bool {
        (self.0)(key).is_some()
    }

    fn dims<const N: usize>(&self, name: &str, key: &str) -> Result<[usize; N], HParamsError> {
        let shape = (self.0)(key)
            .ok_or_else(|| error(name, format!("missing, and there is no {key} to determine it")))?;
        <[usize; N]>::try_from(shape)
            .map_err(|shape| error(name, format!("{key}: expected {N} axes, found {shape:?}")))
    }

    /// The shape of a weight in any spelling of weight norm.
    fn normed<const N: usize>(&self, name: &str, scope: &str) -> Result<[usize; N], HParamsError> {
        self.dims(name, &self.normed_key(scope))
    }

    fn normed_key(&self, scope: &str) -> String {
        let spellings = ["weight_v", "parametrizations.weight.original1"];
        let mut keys = spellings.iter().map(|leaf| format!("{scope}.{leaf}"));
        keys.find(|key| self.has(key)).unwrap_or_else(|| format!("{scope}.weight"))
    }

    fn has_normed(&self, scope: &str) -> bool {
        self.has(&self.normed_key(scope))
    }

    fn duration(&self) -> Result<DurationHParams, HParamsError> {
        if !self.has("dp.flows.0.m") {
            let [filter_channels, _, kernel_size] =
                self.dims("duration.filter_channels", "dp.conv_1.weight")?;
            return Ok(DurationHParams::Plain {
                filter_channels,
                kernel_size,
                layer_norm_eps: LAYER_NORM_EPS,
            });
        }
        let [_, _, kernel_size] = self.dims("duration.kernel_size", "dp.convs.convs_sep.0.weight")?;
        // The file may lack the first coupling, because inference leaves it out.
        let n_flows = 1 + count(|i| self.has(&format!("dp.flows.{}.proj.weight", 2 * i + 3)));
        let num_bins = match n_flows {
            1 => 10,
            _ => self.dims::<3>("duration.num_bins", "dp.flows.3.proj.weight")?[0].div_ceil(3),
        };
        Ok(DurationHParams::Stochastic {
            n_flows,
            kernel_size,
            dds_layers: count(|i| self.has(&format!("dp.convs.convs_sep.{i}.weight"))),
            num_bins,
            tail_bound: 5.0,
            layer_norm_eps: LAYER_NORM_EPS,
        })
    }

    fn flow(&self) -> Result<FlowHParams, HParamsError> {
        let [_, _, kernel_size] = self.normed("flow.kernel_size", "flow.flows.0.enc.in_layers.0")?;
        Ok(FlowHParams {
            n_flows: count(|i| self.has(&format!("flow.flows.{}.pre.weight", 2 * i))),
            kernel_size,
            dilation_rate: 1,
            n_layers: count(|i| self.has_normed(&format!("flow.flows.0.enc.in_layers.{i}"))),
        })
    }

    fn generator(&self) -> Result<Generator, HParamsError> {
        let stages = count(|i| self.has_normed(&format!("dec.ups.{i}")));
        let kernel = |name: &str, scope: String| self.normed::<3>(name, &scope).map(|[_, _, kernel]| kernel);
        let (resblock, convs) = if self.has_normed("dec.resblocks.0.convs1.0") {
            (ResBlockKind::ResBlock1, "convs1")
        } else {
            (ResBlockKind::ResBlock2, "convs")
        };
        let blocks = count(|i| self.has_normed(&format!("dec.resblocks.{i}.{convs}.0")));
        if stages == 0 || blocks == 0 || blocks % stages != 0 {
            let message = format!("{blocks} residual blocks do not divide among {stages} stages");
            return Err(error("resblock_kernel_sizes", message));
        }
        let ups = (0..stages).map(|i| kernel("upsample_kernel_sizes", format!("dec.ups.{i}")));
        let blocks = (0..blocks / stages)
            .map(|i| kernel("resblock_kernel_sizes", format!("dec.resblocks.{i}.{convs}.0")));
        Ok(Generator {
            resblock,
            upsample_kernel_sizes: ups.collect::<Result<_, _>>()?,
            resblock_kernel_sizes: blocks.collect::<Result<_, _>>()?,
        })
    }
}

/// The number of consecutive indices 0, 1, 2, .. that exist.
fn count(is_there: impl Fn(usize) -> bool) -> usize {
    (0..MAX_COUNT).take_while(|&i| is_there(i)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Weights;
    use std::path::Path;
    use vitstream_checkpoint::Checkpoint;

    #[test]
    fn shapes_tell_what_the_checkpoint_states() {
        for name in ["legacy-single", "multi", "multi-nosdp", "high", "textual"] {
            let path =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.ckpt"));
            let checkpoint = Checkpoint::open(path).unwrap();
            let weights = Weights::new(
                checkpoint.tensors().iter().map(|tensor| (tensor.name().to_owned(), tensor.clone())),
            );
            let shape = |key: &str| weights.shape(key);
            let stated = checkpoint.lookup(&["hyper_parameters"]).unwrap().unwrap();
            let stated = HParams::from_lightning(stated, &shape).unwrap();
            let untold = Untold {
                upsample_rates: stated.upsample_rates.clone(),
                resblock_dilation_sizes: stated.resblock_dilation_sizes.clone(),
                sample_rate: stated.sample_rate,
            };
            assert_eq!(HParams::from_shapes(&shape, untold).unwrap(), stated, "{name}");
        }
    }

    #[test]
    fn the_tensor_that_is_missing_is_named() {
        let error = HParams::from_shapes(&|_| None, Untold::default()).unwrap_err();
        assert_eq!(error.name, "num_symbols");
        assert!(error.message.contains("enc_p.emb.weight"), "{error}");
    }
}
