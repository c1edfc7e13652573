//! Plain descriptions of a network: weights in PyTorch layout, with only weight norm folded in.
//!
//! Fields have upstream's attribute names (`models.py`, `modules.py`, `attentions.py` of VITS). Slices may
//! borrow from a mapped file; the engine packs what it needs and keeps no references.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, shape};

/// The elements of a convolution's weight, row-major.
#[derive(Clone)]
pub enum Weight<'a> {
    /// At hand.
    Elements(Cow<'a, [f32]>),
    /// Computed on request, once while the convolution is packed: the weights of a large network, all computed
    /// before the first is packed, would take as much memory again as the packed ones.
    Computed(Arc<dyn Fn() -> Vec<f32> + Send + Sync + 'a>),
}

impl Weight<'_> {
    /// The elements, which may be computed on each call.
    pub fn elements(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Elements(elements) => Cow::Borrowed(elements),
            Self::Computed(make) => Cow::Owned(make()),
        }
    }

    /// The elements, to be changed; they are at hand from then on.
    pub fn to_mut(&mut self) -> &mut Vec<f32> {
        if let Self::Computed(make) = self {
            *self = Self::Elements(Cow::Owned(make()));
        }
        let Self::Elements(elements) = self else { unreachable!("replaced above") };
        elements.to_mut()
    }

    /// The elements, after checking their number and that each is finite.
    fn checked(&self, layer: &str, dims: &[usize]) -> Result<Weight<'_>, Error> {
        let elements = self.elements();
        tensor(&format!("{layer}.weight"), &elements, dims)?;
        Ok(Weight::Elements(elements))
    }
}

impl fmt::Debug for Weight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elements(elements) => elements.fmt(f),
            Self::Computed(_) => f.write_str("Computed"),
        }
    }
}

impl<'a, T: Into<Cow<'a, [f32]>>> From<T> for Weight<'a> {
    fn from(elements: T) -> Self {
        Self::Elements(elements.into())
    }
}

/// `Conv1d` with "same" padding `(kernel - 1) * dilation / 2`, or a 1x1 projection.
#[derive(Debug, Clone)]
pub struct ConvSpec<'a> {
    /// `[c_out, c_in / groups, kernel]`
    pub weight: Weight<'a>,
    /// `[c_out]`; `None` where upstream has `bias=False`.
    pub bias: Option<Cow<'a, [f32]>>,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Taps.
    pub kernel: usize,
    /// Distance between two taps.
    pub dilation: usize,
    /// 1, or `c_in` for a depth-wise convolution.
    pub groups: usize,
}

impl<'a> ConvSpec<'a> {
    /// A convolution with dilation 1 and one group.
    pub fn new(weight: impl Into<Weight<'a>>, c_out: usize, c_in: usize, kernel: usize) -> Self {
        Self { weight: weight.into(), bias: None, c_in, c_out, kernel, dilation: 1, groups: 1 }
    }

    /// The same with a bias `[c_out]`.
    #[must_use]
    pub fn with_bias(mut self, bias: impl Into<Cow<'a, [f32]>>) -> Self {
        self.bias = Some(bias.into());
        self
    }

    /// The same with another dilation.
    #[must_use]
    pub fn with_dilation(mut self, dilation: usize) -> Self {
        self.dilation = dilation;
        self
    }

    /// The same as a depth-wise convolution: `groups = c_in`.
    #[must_use]
    pub fn depthwise(mut self) -> Self {
        self.groups = self.c_in;
        self
    }

    /// Rows of context on each side.
    pub(crate) fn reach(&self) -> usize {
        (self.kernel - 1) * self.dilation / 2
    }

    /// Checks sizes, symmetry of the padding, the bias, and that the channels match those of the neighbours.
    pub(crate) fn check(&self, layer: &str, c_in: usize, c_out: usize) -> Result<(), Error> {
        limit(layer, "kernel", self.kernel, 1..=1024, "1 to 1024")?;
        limit(layer, "dilation", self.dilation, 1..=65_536, "1 to 65536")?;
        limit(layer, "channels", self.c_in.max(self.c_out), 1..=65_536, "1 to 65536")?;
        if (self.c_in, self.c_out) != (c_in, c_out) {
            return Err(shape(
                layer,
                format!("{c_in} -> {c_out} channels"),
                format!("{} -> {} channels", self.c_in, self.c_out),
            ));
        }
        if self.groups != 1 && (self.groups != self.c_in || self.c_in != self.c_out) {
            return Err(shape(layer, "1 group, or one per channel", format!("{} groups", self.groups)));
        }
        if !((self.kernel - 1) * self.dilation).is_multiple_of(2) {
            return Err(shape(
                layer,
                "an even (kernel - 1) * dilation, so that the padding is the same on both sides",
                format!("kernel {}, dilation {}", self.kernel, self.dilation),
            ));
        }
        limit(layer, "context in floats", self.reach() * self.c_in, 0..=1 << 24, "at most 2^24")?;
        match &self.bias {
            Some(bias) => tensor(&format!("{layer}.bias"), bias, &[self.c_out]),
            None => Ok(()),
        }
    }

    /// As [`ConvSpec::check`]; returns the same with its weight at hand.
    pub(crate) fn checked(&self, layer: &str, c_in: usize, c_out: usize) -> Result<ConvSpec<'_>, Error> {
        self.check(layer, c_in, c_out)?;
        self.at_hand(layer)
    }

    /// The same with its weight at hand, after checking the number of elements and that each is finite.
    pub(crate) fn at_hand(&self, layer: &str) -> Result<ConvSpec<'_>, Error> {
        let weight = self.weight.checked(layer, &[self.c_out, self.c_in / self.groups, self.kernel])?;
        Ok(ConvSpec { weight, bias: self.bias.as_deref().map(Cow::Borrowed), ..*self })
    }
}

/// `ConvTranspose1d` of the generator (`Generator.ups`).
#[derive(Debug, Clone)]
pub struct UpSpec<'a> {
    /// `[c_in, c_out, kernel]`
    pub weight: Weight<'a>,
    /// `[c_out]`.
    pub bias: Option<Cow<'a, [f32]>>,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Taps.
    pub kernel: usize,
    /// Output rows per input row.
    pub stride: usize,
    /// Upstream's `(kernel - stride) / 2`; anything else would not give `stride` rows per row and is refused.
    pub padding: usize,
}

impl UpSpec<'_> {
    pub(crate) fn check(&self, layer: &str, c_in: usize) -> Result<(), Error> {
        limit(layer, "stride", self.stride, 1..=256, "1 to 256")?;
        limit(layer, "kernel", self.kernel, 1..=4096, "1 to 4096")?;
        limit(layer, "channels", self.c_in.max(self.c_out), 1..=65_536, "1 to 65536")?;
        if self.c_in != c_in || self.c_out == 0 {
            return Err(shape(layer, format!("{c_in} input channels"), self.c_in));
        }
        if self.kernel != self.stride + 2 * self.padding {
            return Err(shape(
                layer,
                format!("kernel {} = stride + 2 * padding", self.stride + 2 * self.padding),
                format!("kernel {}, stride {}, padding {}", self.kernel, self.stride, self.padding),
            ));
        }
        match &self.bias {
            Some(bias) => tensor(&format!("{layer}.bias"), bias, &[self.c_out]),
            None => Ok(()),
        }
    }

    /// As [`ConvSpec::at_hand`].
    pub(crate) fn at_hand(&self, layer: &str) -> Result<UpSpec<'_>, Error> {
        let weight = self.weight.checked(layer, &[self.c_in, self.c_out, self.kernel])?;
        Ok(UpSpec { weight, bias: self.bias.as_deref().map(Cow::Borrowed), ..*self })
    }
}

/// One residual block of the generator.
#[derive(Debug, Clone)]
pub enum ResBlockSpec<'a> {
    /// `ResBlock1`: pairs of a dilated and a plain convolution, `convs1.len() == convs2.len()`.
    One {
        /// The dilated convolutions.
        convs1: Vec<ConvSpec<'a>>,
        /// Those that follow them, dilation 1 upstream.
        convs2: Vec<ConvSpec<'a>>,
    },
    /// `ResBlock2`: single dilated convolutions.
    Two {
        /// The convolutions, in order.
        convs: Vec<ConvSpec<'a>>,
    },
}

/// `Generator`: HiFi-GAN, latent frames to samples.
#[derive(Debug, Clone)]
pub struct GeneratorSpec<'a> {
    /// `[upsample_initial_channel, inter_channels, 7]`.
    pub conv_pre: ConvSpec<'a>,
    /// `[upsample_initial_channel, gin_channels, 1]`, with several speakers.
    pub cond: Option<ConvSpec<'a>>,
    /// One per stage.
    pub ups: Vec<UpSpec<'a>>,
    /// Stage by stage, `num_kernels = resblocks.len() / ups.len()` each, as upstream numbers them.
    pub resblocks: Vec<ResBlockSpec<'a>>,
    /// `[1, channels, 7]`, no bias upstream.
    pub conv_post: ConvSpec<'a>,
}

/// `WN`: the gated convolutions inside a coupling layer.
#[derive(Debug, Clone)]
pub struct WnSpec<'a> {
    /// `[2 * hidden, hidden, kernel]` each.
    pub in_layers: Vec<ConvSpec<'a>>,
    /// `[2 * hidden, hidden, 1]` each, the last `[hidden, hidden, 1]`.
    pub res_skip_layers: Vec<ConvSpec<'a>>,
    /// `[2 * hidden * n_layers, gin_channels, 1]`, with several speakers.
    pub cond_layer: Option<ConvSpec<'a>>,
}

/// `ResidualCouplingLayer`, mean only.
#[derive(Debug, Clone)]
pub struct CouplingSpec<'a> {
    /// `[hidden, channels / 2, 1]`.
    pub pre: ConvSpec<'a>,
    /// The network in between.
    pub wn: WnSpec<'a>,
    /// `[channels / 2, hidden, 1]`.
    pub post: ConvSpec<'a>,
}

/// `ResidualCouplingBlock`, run in reverse. After each coupling upstream has a `Flip`, which has no tensors.
#[derive(Debug, Clone)]
pub struct FlowSpec<'a> {
    /// `inter_channels`.
    pub channels: usize,
    /// The couplings in upstream's forward order (`flow.flows.0, .2, .4, .6`).
    pub layers: Vec<CouplingSpec<'a>>,
}

/// Flow and generator: `z_p` to samples.
#[derive(Debug, Clone)]
pub struct DecoderSpec<'a> {
    /// `flow`.
    pub flow: FlowSpec<'a>,
    /// `dec`.
    pub generator: GeneratorSpec<'a>,
}

/// `LayerNorm` over channels.
#[derive(Debug, Clone)]
pub struct NormSpec<'a> {
    /// `[channels]`.
    pub gamma: Cow<'a, [f32]>,
    /// `[channels]`.
    pub beta: Cow<'a, [f32]>,
    /// Added to the variance: 1e-5 upstream.
    pub epsilon: f32,
}

impl NormSpec<'_> {
    pub(crate) fn check(&self, layer: &str, channels: usize) -> Result<(), Error> {
        if !(self.epsilon > 0.0 && self.epsilon < 1.0) {
            return Err(shape(layer, "an epsilon between 0 and 1", self.epsilon));
        }
        tensor(&format!("{layer}.gamma"), &self.gamma, &[channels])?;
        tensor(&format!("{layer}.beta"), &self.beta, &[channels])
    }
}

/// One layer of `attentions.Encoder`: attention, norm, feed-forward, norm.
#[derive(Debug, Clone)]
pub struct EncoderLayerSpec<'a> {
    /// `attn_layers.N.conv_q`, `[hidden, hidden, 1]`.
    pub conv_q: ConvSpec<'a>,
    /// `attn_layers.N.conv_k`.
    pub conv_k: ConvSpec<'a>,
    /// `attn_layers.N.conv_v`.
    pub conv_v: ConvSpec<'a>,
    /// `attn_layers.N.conv_o`.
    pub conv_o: ConvSpec<'a>,
    /// `[1 or n_heads, 2 * window_size + 1, hidden / n_heads]`.
    pub emb_rel_k: Cow<'a, [f32]>,
    /// As `emb_rel_k`.
    pub emb_rel_v: Cow<'a, [f32]>,
    /// `norm_layers_1.N`.
    pub norm_1: NormSpec<'a>,
    /// `ffn_layers.N.conv_1`, `[filter, hidden, kernel]`.
    pub conv_1: ConvSpec<'a>,
    /// `ffn_layers.N.conv_2`, `[hidden, filter, kernel]`.
    pub conv_2: ConvSpec<'a>,
    /// `norm_layers_2.N`.
    pub norm_2: NormSpec<'a>,
}

/// `DDSConv`: dilated depth-separable convolutions.
#[derive(Debug, Clone)]
pub struct DdsConvSpec<'a> {
    /// Depth-wise, `[channels, 1, kernel]`.
    pub convs_sep: Vec<ConvSpec<'a>>,
    /// `[channels, channels, 1]`.
    pub convs_1x1: Vec<ConvSpec<'a>>,
    /// After each depth-wise convolution.
    pub norms_1: Vec<NormSpec<'a>>,
    /// After each 1x1 convolution.
    pub norms_2: Vec<NormSpec<'a>>,
}

/// `ConvFlow` on two channels.
#[derive(Debug, Clone)]
pub struct ConvFlowSpec<'a> {
    /// `[filter, 1, 1]`.
    pub pre: ConvSpec<'a>,
    /// The network in between.
    pub convs: DdsConvSpec<'a>,
    /// `[3 * bins - 1, filter, 1]`.
    pub proj: ConvSpec<'a>,
}

/// `StochasticDurationPredictor`, as far as inference runs it.
#[derive(Debug, Clone)]
pub struct StochasticDurationPredictorSpec<'a> {
    /// `[filter, hidden, 1]`.
    pub pre: ConvSpec<'a>,
    /// `convs`.
    pub convs: DdsConvSpec<'a>,
    /// `[filter, filter, 1]`.
    pub proj: ConvSpec<'a>,
    /// `[filter, gin_channels, 1]`, with several speakers.
    pub cond: Option<ConvSpec<'a>>,
    /// `flows.0.m`, `[2]`.
    pub m: Cow<'a, [f32]>,
    /// `flows.0.logs`, `[2]`.
    pub logs: Cow<'a, [f32]>,
    /// The splines act on `-tail_bound..=tail_bound`: 5 upstream.
    pub tail_bound: f32,
    /// The `ConvFlow`s that inference keeps, in upstream's forward order: `flows.3, .5, .7`, without the
    /// "useless" `.1`.
    pub flows: Vec<ConvFlowSpec<'a>>,
}

/// `DurationPredictor`.
#[derive(Debug, Clone)]
pub struct DurationPredictorSpec<'a> {
    /// `[filter, hidden, kernel]`.
    pub conv_1: ConvSpec<'a>,
    /// `norm_1`.
    pub norm_1: NormSpec<'a>,
    /// `[filter, filter, kernel]`.
    pub conv_2: ConvSpec<'a>,
    /// `norm_2`.
    pub norm_2: NormSpec<'a>,
    /// `[1, filter, 1]`.
    pub proj: ConvSpec<'a>,
    /// `[hidden, gin_channels, 1]`, with several speakers.
    pub cond: Option<ConvSpec<'a>>,
}

/// The duration predictor.
#[derive(Debug, Clone)]
pub enum DurationSpec<'a> {
    /// `use_sdp = True`.
    Stochastic(StochasticDurationPredictorSpec<'a>),
    /// `use_sdp = False`.
    Plain(DurationPredictorSpec<'a>),
}

/// `enc_p`, `dp` and `emb_g`: phoneme ids to `z_p`.
#[derive(Debug, Clone)]
pub struct EncoderSpec<'a> {
    /// `enc_p.emb.weight`, `[n_vocab, hidden]`.
    pub emb: Cow<'a, [f32]>,
    /// `hidden_channels`.
    pub hidden: usize,
    /// `n_heads`.
    pub n_heads: usize,
    /// `window_size` of the relative attention: 4 upstream.
    pub window_size: usize,
    /// `enc_p.encoder`.
    pub layers: Vec<EncoderLayerSpec<'a>>,
    /// `enc_p.proj`, `[2 * inter_channels, hidden, 1]`.
    pub proj: ConvSpec<'a>,
    /// `dp`.
    pub duration: DurationSpec<'a>,
    /// `emb_g.weight`, `[n_speakers, gin_channels]`, with several speakers.
    pub emb_g: Option<Cow<'a, [f32]>>,
    /// Rows of `emb_g`; 0 or 1 without it.
    pub n_speakers: usize,
}

pub(crate) fn limit(
    layer: &str,
    what: &'static str,
    found: usize,
    range: std::ops::RangeInclusive<usize>,
    accepted: &'static str,
) -> Result<(), Error> {
    if range.contains(&found) {
        Ok(())
    } else {
        Err(Error::Limit { layer: layer.to_owned(), what, found, accepted })
    }
}

/// Checks that `data` has the product of `dims` elements and that each is finite.
pub(crate) fn tensor(name: &str, data: &[f32], dims: &[usize]) -> Result<(), Error> {
    if data.len() != dims.iter().product::<usize>() {
        return Err(shape(name, format!("{dims:?}"), format!("{} elements", data.len())));
    }
    // Without an early exit the loop can be vectorised.
    if data.iter().fold(true, |finite, v| finite & v.is_finite()) {
        return Ok(());
    }
    let index = data.iter().position(|v| !v.is_finite()).unwrap_or_default();
    Err(Error::NonFiniteWeight { layer: name.to_owned(), index, value: data[index] })
}
