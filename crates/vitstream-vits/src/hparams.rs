//! Hyper-parameters: facts that the shapes of the weights do not determine, or must agree with.

use serde::Serialize;
use vitstream_checkpoint::Value;
use vitstream_contract::MAX_STATE_ELEMENTS;

/// Limit on the length of any axis, and on the number of layers or stages. Published voices stay a hundred
/// times below; a file that asks for more would only cause allocations.
const MAX_SIZE: usize = 1 << 16;
const MAX_LAYERS: usize = 64;

/// Limit on the kernel of a convolution, reduced to odd numbers by [`odd`]. Published voices have 11.
const MAX_KERNEL: usize = 1024;
/// Limit on the up-sampling factor of a stage, and on its kernel.
const MAX_RATE: usize = 256;
const MAX_UPSAMPLE_KERNEL: usize = 4096;

/// Upstream's default, which is also PyTorch's.
pub(crate) const LAYER_NORM_EPS: f32 = 1e-5;

/// The spline gives each bin at least a thousandth of its width.
const MAX_BINS: usize = 1000;

/// A hyper-parameter that is missing, unreadable, or contradicts another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hyper-parameter `{name}`: {message}")]
pub struct HParamsError {
    /// The name in the checkpoint.
    pub name: String,
    /// The expected value, the value found, and the remedy.
    pub message: String,
}

/// Limit on the bytes of a message: a value that a file gives instead of a number can have any length.
const MAX_MESSAGE: usize = 512;

pub(crate) fn error(name: &str, message: impl Into<String>) -> HParamsError {
    let mut message = message.into();
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push_str("...");
    }
    HParamsError { name: name.to_owned(), message }
}

/// The kind of residual block in the generator (upstream's `resblock` "1" or "2").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ResBlockKind {
    /// Pairs of convolutions, the second of each pair undilated.
    ResBlock1,
    /// Single convolutions.
    ResBlock2,
}

/// The duration predictor's kind and its constants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum DurationHParams {
    /// `StochasticDurationPredictor`: spline flows driven by noise.
    Stochastic {
        /// Number of couplings, including the one that inference leaves out.
        n_flows: usize,
        /// Kernel of the depth-separable convolutions.
        kernel_size: usize,
        /// Layers of each `DDSConv`.
        dds_layers: usize,
        /// Bins of the rational-quadratic spline.
        num_bins: usize,
        /// The spline acts on `-tail_bound..=tail_bound`.
        tail_bound: f32,
        /// Epsilon of its layer norms.
        layer_norm_eps: f32,
    },
    /// `DurationPredictor`: two convolutions.
    Plain {
        /// Channels between them.
        filter_channels: usize,
        /// Their kernel.
        kernel_size: usize,
        /// Epsilon of its layer norms.
        layer_norm_eps: f32,
    },
}

impl DurationHParams {
    /// The constants that upstream fixes in `SynthesizerTrn.__init__` for the stochastic predictor.
    pub fn stochastic() -> Self {
        Self::Stochastic {
            n_flows: 4,
            kernel_size: 3,
            dds_layers: 3,
            num_bins: 10,
            tail_bound: 5.0,
            layer_norm_eps: LAYER_NORM_EPS,
        }
    }

    /// The constants that upstream fixes in `SynthesizerTrn.__init__` for the plain predictor.
    pub fn plain() -> Self {
        Self::Plain { filter_channels: 256, kernel_size: 3, layer_norm_eps: LAYER_NORM_EPS }
    }

    /// Epsilon of either predictor's layer norms.
    pub fn layer_norm_eps(&self) -> f32 {
        let (Self::Stochastic { layer_norm_eps, .. } | Self::Plain { layer_norm_eps, .. }) = self;
        *layer_norm_eps
    }
}

/// The coupling flow's constants, fixed upstream in `SynthesizerTrn.__init__`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowHParams {
    /// Coupling layers; each is followed by a `Flip`.
    pub n_flows: usize,
    /// Kernel of `WN`'s convolutions.
    pub kernel_size: usize,
    /// Dilation of `WN`'s layer i is `dilation_rate` to the power of i.
    pub dilation_rate: usize,
    /// Layers of each `WN`.
    pub n_layers: usize,
}

impl Default for FlowHParams {
    fn default() -> Self {
        Self { n_flows: 4, kernel_size: 5, dilation_rate: 1, n_layers: 4 }
    }
}

/// The network's hyper-parameters under upstream's names (`SynthesizerTrn`, piper's `VitsModel`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HParams {
    /// Rows of the phoneme embedding.
    pub num_symbols: usize,
    /// Rows of the speaker embedding; 1 if there is none.
    pub num_speakers: usize,
    /// Channels of the speaker embedding; 0 if there is none.
    pub gin_channels: usize,
    /// Channels of the latent.
    pub inter_channels: usize,
    /// Channels of the text encoder, the duration predictor and `WN`.
    pub hidden_channels: usize,
    /// Channels inside the text encoder's feed-forward layers.
    pub filter_channels: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Text encoder layers.
    pub n_layers: usize,
    /// Kernel of the feed-forward layers.
    pub kernel_size: usize,
    /// Number of ids on each side that relative attention reaches.
    pub window_size: usize,
    /// Epsilon of the text encoder's layer norms.
    pub layer_norm_eps: f32,
    /// The duration predictor.
    pub duration: DurationHParams,
    /// The flow between prior and latent.
    pub flow: FlowHParams,
    /// The generator's residual block.
    pub resblock: ResBlockKind,
    /// One kernel for each parallel residual block.
    pub resblock_kernel_sizes: Vec<usize>,
    /// The dilations of each parallel residual block.
    pub resblock_dilation_sizes: Vec<Vec<usize>>,
    /// Up-sampling factor of each stage.
    pub upsample_rates: Vec<usize>,
    /// Channels before the first stage; each stage halves them.
    pub upsample_initial_channel: usize,
    /// Kernel of each stage's transposed convolution.
    pub upsample_kernel_sizes: Vec<usize>,
    /// Sample rate in hertz, if the file states it.
    pub sample_rate: Option<u32>,
}

impl HParams {
    /// Reads the `hyper_parameters` of a Lightning checkpoint. `shape` returns the shape of a tensor by its
    /// upstream key, for facts that the file may omit or state wrongly.
    ///
    /// # Errors
    /// When a value is not a number or tuple of numbers, or not possible for any network.
    pub fn from_lightning(
        hyper_parameters: &Value,
        shape: &dyn Fn(&str) -> Option<Vec<usize>>,
    ) -> Result<Self, HParamsError> {
        let reader = Reader(hyper_parameters);
        let size = |name: &str, default: usize| reader.size(name).map(|value| value.unwrap_or(default));
        let sizes =
            |name: &str, default: &[usize]| reader.sizes(name).map(|v| v.unwrap_or_else(|| default.to_vec()));
        let emb = shape("enc_p.emb.weight");
        let emb_g = shape("emb_g.weight");
        let num_speakers =
            size("num_speakers", emb_g.as_ref().and_then(|s| s.first().copied()).unwrap_or(1))?;
        let gin_channels = match (num_speakers, &emb_g) {
            (0 | 1, _) => 0,
            (_, None) if emb.is_some() => {
                let message = format!(
                    "the file says {num_speakers}, but there is no speaker embedding (emb_g.weight) among its tensors"
                );
                return Err(error("num_speakers", message));
            }
            // The file states 0 where upstream silently uses 512; the table has the actual number.
            (_, Some(table)) if table.len() == 2 => table[1],
            _ => size("gin_channels", 0)?,
        };
        let num_symbols = match (reader.size("num_symbols")?, emb.and_then(|s| s.first().copied())) {
            (Some(n), _) | (None, Some(n)) => n,
            (None, None) => {
                return Err(error(
                    "num_symbols",
                    "missing, and there is no enc_p.emb.weight to determine it",
                ));
            }
        };
        let resblock = match reader.text("resblock").as_deref() {
            None | Some("2") => ResBlockKind::ResBlock2,
            Some("1") => ResBlockKind::ResBlock1,
            Some(other) => return Err(error("resblock", format!("expected 1 or 2, found {other}"))),
        };
        let window_size = shape("enc_p.encoder.attn_layers.0.emb_rel_k")
            .and_then(|s| s.get(1).map(|rows| rows.saturating_sub(1) / 2))
            .unwrap_or(4);
        let hparams = Self {
            num_symbols,
            num_speakers,
            gin_channels,
            inter_channels: size("inter_channels", 192)?,
            hidden_channels: size("hidden_channels", 192)?,
            filter_channels: size("filter_channels", 768)?,
            n_heads: size("n_heads", 2)?,
            n_layers: size("n_layers", 6)?,
            kernel_size: size("kernel_size", 3)?,
            window_size,
            layer_norm_eps: LAYER_NORM_EPS,
            duration: if reader.flag("use_sdp")?.unwrap_or(true) {
                DurationHParams::stochastic()
            } else {
                DurationHParams::plain()
            },
            flow: FlowHParams::default(),
            resblock,
            resblock_kernel_sizes: sizes("resblock_kernel_sizes", &[3, 5, 7])?,
            resblock_dilation_sizes: reader
                .nested("resblock_dilation_sizes")?
                .unwrap_or_else(|| vec![vec![1, 2], vec![2, 6], vec![3, 12]]),
            upsample_rates: sizes("upsample_rates", &[8, 8, 4])?,
            upsample_initial_channel: size("upsample_initial_channel", 256)?,
            upsample_kernel_sizes: sizes("upsample_kernel_sizes", &[16, 16, 8])?,
            sample_rate: reader.size("sample_rate")?.and_then(|rate| u32::try_from(rate).ok()),
        };
        hparams.check()?;
        Ok(hparams)
    }

    /// Samples per frame: the product of `upsample_rates`.
    pub fn hop_length(&self) -> usize {
        self.upsample_rates.iter().product()
    }

    /// Returns true if the voice has several speakers.
    pub fn multi_speaker(&self) -> bool {
        self.num_speakers > 1
    }

    /// Returns true if durations are drawn with noise.
    pub fn use_sdp(&self) -> bool {
        matches!(self.duration, DurationHParams::Stochastic { .. })
    }

    /// Channels after up-sampling stage `stage`.
    pub fn stage_channels(&self, stage: usize) -> usize {
        self.upsample_initial_channel >> (stage + 1)
    }

    /// Checks that a network of these sizes exists, so that anything built from them needs no further checks.
    ///
    /// # Errors
    /// The first value that is out of range or contradicts another.
    pub fn check(&self) -> Result<(), HParamsError> {
        let ranges = [
            ("num_symbols", self.num_symbols, MAX_SIZE),
            ("num_speakers", self.num_speakers, MAX_SIZE),
            ("inter_channels", self.inter_channels, MAX_SIZE),
            ("hidden_channels", self.hidden_channels, MAX_SIZE),
            ("filter_channels", self.filter_channels, MAX_SIZE),
            ("n_heads", self.n_heads, MAX_SIZE),
            ("n_layers", self.n_layers, MAX_LAYERS),
            ("upsample_initial_channel", self.upsample_initial_channel, MAX_SIZE),
            ("resblock_kernel_sizes", self.resblock_kernel_sizes.len(), MAX_LAYERS),
            ("upsample_rates", self.upsample_rates.len(), 8),
            ("flow.n_flows", self.flow.n_flows, MAX_LAYERS),
            ("flow.n_layers", self.flow.n_layers, MAX_LAYERS),
        ];
        for (name, value, limit) in ranges {
            within(name, value, limit)?;
        }
        if self.num_speakers > 1 && (self.gin_channels == 0 || self.gin_channels > MAX_SIZE) {
            let message = format!(
                "expected 1 to {MAX_SIZE} with {} speakers, found {}",
                self.num_speakers, self.gin_channels
            );
            return Err(error("gin_channels", message));
        }
        if !self.hidden_channels.is_multiple_of(self.n_heads) {
            let message =
                format!("{} heads do not divide {} hidden_channels", self.n_heads, self.hidden_channels);
            return Err(error("n_heads", message));
        }
        if !self.inter_channels.is_multiple_of(2) {
            return Err(error(
                "inter_channels",
                format!("expected an even number, found {}", self.inter_channels),
            ));
        }
        odd("kernel_size", self.kernel_size)?;
        carried("filter_channels", self.filter_channels, self.kernel_size - 1)?;
        self.check_duration()?;
        self.check_flow()?;
        self.check_generator()
    }

    fn check_duration(&self) -> Result<(), HParamsError> {
        epsilon("layer_norm_eps", self.layer_norm_eps)?;
        epsilon("duration.layer_norm_eps", self.duration.layer_norm_eps())?;
        match self.duration {
            DurationHParams::Stochastic {
                n_flows, kernel_size, dds_layers, num_bins, tail_bound, ..
            } => {
                within("duration.n_flows", n_flows, MAX_LAYERS)?;
                // A single bin has no inner knot: nothing is trained, and the spline is the identity.
                if !(2..=MAX_BINS).contains(&num_bins) {
                    let message = format!("expected 2 to {MAX_BINS}, found {num_bins}");
                    return Err(error("duration.num_bins", message));
                }
                odd("duration.kernel_size", kernel_size)?;
                within("duration.dds_layers", dds_layers, MAX_LAYERS)?;
                power("duration.kernel_size", kernel_size, dds_layers)?;
                if !tail_bound.is_finite() || tail_bound <= 0.0 {
                    let message = format!("expected a positive number, found {tail_bound}");
                    return Err(error("duration.tail_bound", message));
                }
                Ok(())
            }
            DurationHParams::Plain { filter_channels, kernel_size, .. } => {
                within("duration.filter_channels", filter_channels, MAX_SIZE)?;
                odd("duration.kernel_size", kernel_size)
            }
        }
    }

    fn check_flow(&self) -> Result<(), HParamsError> {
        within("window_size", self.window_size, MAX_SIZE)?;
        odd("flow.kernel_size", self.flow.kernel_size)?;
        within("flow.dilation_rate", self.flow.dilation_rate, MAX_SIZE)?;
        power("flow.dilation_rate", self.flow.dilation_rate, self.flow.n_layers)?;
        let dilation = self.flow.dilation_rate.pow(self.flow.n_layers as u32 - 1);
        carried("flow.dilation_rate", self.hidden_channels, (self.flow.kernel_size - 1) * dilation)
    }

    fn check_generator(&self) -> Result<(), HParamsError> {
        let stages = self.upsample_rates.len();
        if self.upsample_kernel_sizes.len() != stages {
            let message = format!(
                "expected {stages}, one for each of upsample_rates, found {:?}",
                self.upsample_kernel_sizes
            );
            return Err(error("upsample_kernel_sizes", message));
        }
        for (&rate, &kernel) in self.upsample_rates.iter().zip(&self.upsample_kernel_sizes) {
            if rate == 0 || kernel < rate || !(kernel - rate).is_multiple_of(2) {
                let message = format!(
                    "a kernel of {kernel} cannot up-sample {rate} times: it must exceed it by an even number"
                );
                return Err(error("upsample_kernel_sizes", message));
            }
        }
        if self
            .upsample_rates
            .iter()
            .try_fold(1usize, |hop, &rate| hop.checked_mul(rate))
            .is_none_or(|hop| hop > MAX_SIZE)
        {
            return Err(error(
                "upsample_rates",
                format!("{:?} multiply to more than {MAX_SIZE} samples", self.upsample_rates),
            ));
        }
        for (&rate, &kernel) in self.upsample_rates.iter().zip(&self.upsample_kernel_sizes) {
            within("upsample_rates", rate, MAX_RATE)?;
            within("upsample_kernel_sizes", kernel, MAX_UPSAMPLE_KERNEL)?;
        }
        if self.upsample_initial_channel >> stages == 0 {
            let message = format!("{} cannot be halved {stages} times", self.upsample_initial_channel);
            return Err(error("upsample_initial_channel", message));
        }
        let blocks = self.resblock_kernel_sizes.len();
        if self.resblock_dilation_sizes.len() != blocks {
            let found = self.resblock_dilation_sizes.len();
            return Err(error("resblock_dilation_sizes", format!("expected {blocks} lists, found {found}")));
        }
        let dilations = self.resblock_dilation_sizes.iter();
        for (&kernel, dilations) in self.resblock_kernel_sizes.iter().zip(dilations) {
            if kernel.is_multiple_of(2) || kernel > MAX_KERNEL {
                return Err(error(
                    "resblock_kernel_sizes",
                    format!("expected odd numbers up to 1023, found {kernel}"),
                ));
            }
            if dilations.is_empty()
                || dilations.len() > MAX_LAYERS
                || dilations.iter().any(|d| !(1..=1024).contains(d))
            {
                return Err(error(
                    "resblock_dilation_sizes",
                    format!("expected numbers from 1 to 1024, found {dilations:?}"),
                ));
            }
            // Signals delayed until the block's last layer is done wait for all of its convolutions.
            let reach = dilations.iter().map(|dilation| (kernel - 1) * (dilation + 1)).sum();
            carried("resblock_dilation_sizes", self.stage_channels(0), reach)?;
        }
        Ok(())
    }
}

fn within(name: &str, value: usize, limit: usize) -> Result<(), HParamsError> {
    if value == 0 || value > limit {
        return Err(error(name, format!("expected 1 to {limit}, found {value}")));
    }
    Ok(())
}

/// Checks a kernel that upstream pads equally on both sides.
fn odd(name: &str, kernel: usize) -> Result<(), HParamsError> {
    if kernel.is_multiple_of(2) || kernel > MAX_KERNEL {
        return Err(error(name, format!("expected an odd number up to 1023, found {kernel}")));
    }
    Ok(())
}

/// Checks a convolution that carries `context` steps of `channels` each.
fn carried(name: &str, channels: usize, context: usize) -> Result<(), HParamsError> {
    match channels.checked_mul(context).is_none_or(|state| state > MAX_STATE_ELEMENTS) {
        true => Err(error(
            name,
            format!(
                "{context} steps of {channels} channels are carried, more than {MAX_STATE_ELEMENTS} numbers"
            ),
        )),
        false => Ok(()),
    }
}

/// Checks dilations that grow by a factor with each of `layers`.
fn power(name: &str, factor: usize, layers: usize) -> Result<(), HParamsError> {
    let last = u32::try_from(layers).ok().and_then(|layers| factor.checked_pow(layers.saturating_sub(1)));
    if last.is_none_or(|last| last > MAX_SIZE) {
        return Err(error(name, format!("{factor} dilates {layers} layers by more than {MAX_SIZE}")));
    }
    Ok(())
}

fn epsilon(name: &str, value: f32) -> Result<(), HParamsError> {
    if !(0.0..1.0).contains(&value) {
        return Err(error(name, format!("expected a small positive number, found {value}")));
    }
    Ok(())
}

/// Reads numbers in the format of any generation of Lightning.
struct Reader<'a>(&'a Value);

impl Reader<'_> {
    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !matches!(value, Value::None))
    }

    /// A number or a string, as a string.
    fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Str(text) => Some(text.trim().to_string()),
            Value::Int(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, HParamsError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::Int(number)) => Ok(Some(*number != 0)),
            Some(Value::Str(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::Str(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(other) => Err(error(name, format!("expected True or False, found {other:?}"))),
        }
    }

    fn size(&self, name: &str) -> Result<Option<usize>, HParamsError> {
        let json = self.json(name)?;
        json.map(|value| size(name, &value)).transpose()
    }

    fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>, HParamsError> {
        let json = self.json(name)?;
        json.map(|value| sizes(name, &value)).transpose()
    }

    fn nested(&self, name: &str) -> Result<Option<Vec<Vec<usize>>>, HParamsError> {
        let json = self.json(name)?;
        json.map(|value| list(name, &value)?.iter().map(|inner| sizes(name, inner)).collect()).transpose()
    }

    /// The value as JSON. A string is parsed as a Python literal: `"(8, 8, 4)"`.
    fn json(&self, name: &str) -> Result<Option<serde_json::Value>, HParamsError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let json = match value {
            Value::Str(text) => {
                let mut literal: String = text.chars().filter(|c| !c.is_whitespace()).collect();
                literal = literal.replace('(', "[").replace(')', "]").replace(",]", "]");
                serde_json::from_str(&literal).ok()
            }
            other => plain(other, 4),
        };
        json.map(Some).ok_or_else(|| error(name, format!("expected numbers, found {value:?}")))
    }
}

fn plain(value: &Value, depth: usize) -> Option<serde_json::Value> {
    match value {
        Value::Int(number) => Some((*number).into()),
        Value::Float(number) => Some((*number).into()),
        Value::List(items) | Value::Tuple(items) if depth > 0 => {
            items.iter().map(|item| plain(item, depth - 1)).collect::<Option<Vec<_>>>().map(Into::into)
        }
        _ => None,
    }
}

fn list<'a>(name: &str, value: &'a serde_json::Value) -> Result<&'a [serde_json::Value], HParamsError> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| error(name, format!("expected a tuple of numbers, found {value}")))
}

fn sizes(name: &str, value: &serde_json::Value) -> Result<Vec<usize>, HParamsError> {
    list(name, value)?.iter().map(|item| size(name, item)).collect()
}

fn size(name: &str, value: &serde_json::Value) -> Result<usize, HParamsError> {
    let whole = value
        .as_u64()
        .or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..1e15).contains(f)).map(|f| f as u64));
    whole
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| error(name, format!("expected a whole number, found {value}")))
}
