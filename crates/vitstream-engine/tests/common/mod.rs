//! Code shared by the tests and the example `measure`: voices from checkpoints, random networks.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod naive;
pub mod voice;

use std::borrow::Cow;

use half::f16;
use vitstream_engine::spec::{ConvSpec, DdsConvSpec, DecoderSpec, DurationSpec, EncoderSpec, ResBlockSpec};
#[allow(unused_imports)]
pub use vitstream_testing::array::{Array, Reference, largest_difference as difference};
#[allow(unused_imports)]
pub use vitstream_testing::{shared, tiny};

pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Rounds weights to float16.
fn round(weight: &mut Cow<'_, [f32]>) {
    weight.to_mut().iter_mut().for_each(|w| *w = f16::from_f32(*w).to_f32());
}

fn round_all<'a, 'w: 'a>(convs: impl IntoIterator<Item = &'a mut ConvSpec<'w>>) {
    convs.into_iter().for_each(|conv| round(&mut conv.weight));
}

/// The same network with its weights rounded to float16.
pub fn rounded_decoder<'a>(spec: &DecoderSpec<'a>) -> DecoderSpec<'a> {
    let mut spec = spec.clone();
    for layer in &mut spec.flow.layers {
        let wn = &mut layer.wn;
        let convs = wn.in_layers.iter_mut().chain(&mut wn.res_skip_layers).chain(&mut wn.cond_layer);
        round_all(convs.chain([&mut layer.pre, &mut layer.post]));
    }
    let generator = &mut spec.generator;
    round_all([&mut generator.conv_pre, &mut generator.conv_post].into_iter().chain(&mut generator.cond));
    generator.ups.iter_mut().for_each(|up| round(&mut up.weight));
    for block in &mut generator.resblocks {
        match block {
            ResBlockSpec::One { convs1, convs2 } => round_all(convs1.iter_mut().chain(convs2)),
            ResBlockSpec::Two { convs } => round_all(convs),
        }
    }
    spec
}

/// The same for an encoder.
pub fn rounded_encoder<'a>(spec: &EncoderSpec<'a>) -> EncoderSpec<'a> {
    let mut spec = spec.clone();
    for layer in &mut spec.layers {
        round_all([&mut layer.conv_q, &mut layer.conv_k, &mut layer.conv_v, &mut layer.conv_o]);
        round_all([&mut layer.conv_1, &mut layer.conv_2]);
    }
    round_all([&mut spec.proj]);
    let dds = |convs: &mut DdsConvSpec<'a>| round_all(convs.convs_sep.iter_mut().chain(&mut convs.convs_1x1));
    match &mut spec.duration {
        DurationSpec::Stochastic(dp) => {
            round_all([&mut dp.pre, &mut dp.proj]);
            dds(&mut dp.convs);
            for flow in &mut dp.flows {
                round_all([&mut flow.pre, &mut flow.proj]);
                dds(&mut flow.convs);
            }
        }
        DurationSpec::Plain(dp) => round_all([&mut dp.conv_1, &mut dp.conv_2, &mut dp.proj]),
    }
    spec
}
