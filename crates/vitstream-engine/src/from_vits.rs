//! Converts the halves of a network to the engine's descriptions, borrowing the same weights.

use std::sync::Arc;

use vitstream_vits::attentions::Encoder;
use vitstream_vits::duration::Duration;
use vitstream_vits::generator::ResBlock;
use vitstream_vits::modules::{Conv1d, DDSConv, LayerNorm};
use vitstream_vits::weights::Param;
use vitstream_vits::{DecoderHalf, EncoderHalf, HParams};

use crate::spec::*;

/// The elements, computed only while the layer is packed unless they are in memory.
fn weight(param: &Param) -> Weight<'_> {
    if param.is_computed() {
        Weight::Computed(Arc::new(|| param.elements().into_owned()))
    } else {
        param.elements().into()
    }
}

fn conv(c: &Conv1d) -> ConvSpec<'_> {
    ConvSpec {
        weight: weight(&c.weight),
        bias: c.bias.as_ref().map(Param::elements),
        c_in: c.c_in(),
        c_out: c.c_out(),
        kernel: c.kernel(),
        dilation: c.dilation,
        groups: c.groups,
    }
}

fn convs(list: &[Conv1d]) -> Vec<ConvSpec<'_>> {
    list.iter().map(conv).collect()
}

fn norm(n: &LayerNorm) -> NormSpec<'_> {
    NormSpec { gamma: n.gamma.elements(), beta: n.beta.elements(), epsilon: n.epsilon }
}

fn dds(d: &DDSConv) -> DdsConvSpec<'_> {
    DdsConvSpec {
        convs_sep: convs(&d.convs_sep),
        convs_1x1: convs(&d.convs_1x1),
        norms_1: d.norms_1.iter().map(norm).collect(),
        norms_2: d.norms_2.iter().map(norm).collect(),
    }
}

/// Flow and generator.
pub fn decoder<'a>(model: &'a DecoderHalf, hp: &HParams) -> DecoderSpec<'a> {
    let layers = model.flow.flows.iter().map(|layer| CouplingSpec {
        pre: conv(&layer.pre),
        wn: WnSpec {
            in_layers: convs(&layer.enc.in_layers),
            res_skip_layers: convs(&layer.enc.res_skip_layers),
            cond_layer: layer.enc.cond_layer.as_ref().map(conv),
        },
        post: conv(&layer.post),
    });
    let dec = &model.dec;
    let ups = dec.ups.iter().map(|up| UpSpec {
        weight: weight(&up.weight),
        bias: Some(up.bias.elements()),
        c_in: up.c_in(),
        c_out: up.c_out(),
        kernel: up.kernel(),
        stride: up.stride,
        padding: up.padding(),
    });
    let resblocks = dec.resblocks.iter().flatten().map(|block| match block {
        ResBlock::One(block) => {
            ResBlockSpec::One { convs1: convs(&block.convs1), convs2: convs(&block.convs2) }
        }
        ResBlock::Two(block) => ResBlockSpec::Two { convs: convs(&block.convs) },
    });
    DecoderSpec {
        flow: FlowSpec { channels: hp.inter_channels, layers: layers.collect() },
        generator: GeneratorSpec {
            conv_pre: conv(&dec.conv_pre),
            cond: dec.cond.as_ref().map(conv),
            ups: ups.collect(),
            resblocks: resblocks.collect(),
            conv_post: conv(&dec.conv_post),
        },
    }
}

fn layers(encoder: &Encoder) -> Vec<EncoderLayerSpec<'_>> {
    let layer = |i: usize| {
        let (attention, ffn) = (&encoder.attn_layers[i], &encoder.ffn_layers[i]);
        EncoderLayerSpec {
            conv_q: conv(&attention.conv_q),
            conv_k: conv(&attention.conv_k),
            conv_v: conv(&attention.conv_v),
            conv_o: conv(&attention.conv_o),
            emb_rel_k: attention.emb_rel_k.elements(),
            emb_rel_v: attention.emb_rel_v.elements(),
            norm_1: norm(&encoder.norm_layers_1[i]),
            conv_1: conv(&ffn.conv_1),
            conv_2: conv(&ffn.conv_2),
            norm_2: norm(&encoder.norm_layers_2[i]),
        }
    };
    (0..encoder.attn_layers.len()).map(layer).collect()
}

/// Text encoder, duration predictor and speakers.
pub fn encoder<'a>(model: &'a EncoderHalf, hp: &HParams) -> EncoderSpec<'a> {
    let duration = match &model.dp {
        Duration::Stochastic(dp) => DurationSpec::Stochastic(StochasticDurationPredictorSpec {
            pre: conv(&dp.pre),
            convs: dds(&dp.convs),
            proj: conv(&dp.proj),
            cond: dp.cond.as_ref().map(conv),
            m: dp.affine.m.elements(),
            logs: dp.affine.logs.elements(),
            tail_bound: dp.tail_bound(),
            flows: dp
                .flows
                .iter()
                .map(|f| ConvFlowSpec { pre: conv(&f.pre), convs: dds(&f.convs), proj: conv(&f.proj) })
                .collect(),
        }),
        Duration::Plain(dp) => DurationSpec::Plain(DurationPredictorSpec {
            conv_1: conv(&dp.conv_1),
            norm_1: norm(&dp.norm_1),
            conv_2: conv(&dp.conv_2),
            norm_2: norm(&dp.norm_2),
            proj: conv(&dp.proj),
            cond: dp.cond.as_ref().map(conv),
        }),
    };
    EncoderSpec {
        emb: model.enc_p.emb.elements(),
        hidden: hp.hidden_channels,
        n_heads: hp.n_heads,
        window_size: hp.window_size,
        layers: layers(&model.enc_p.encoder),
        proj: conv(&model.enc_p.proj),
        duration,
        emb_g: model.emb_g.as_ref().map(Param::elements),
        n_speakers: hp.num_speakers,
    }
}
