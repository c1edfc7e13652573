//! Code shared by the tests and the example `measure`: voices from checkpoints, random networks.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod naive;
pub mod voice;

use std::sync::Arc;

use half::f16;
use vitstream_engine::spec::{
    ConvSpec, DdsConvSpec, DecoderSpec, DurationSpec, EncoderSpec, ResBlockSpec, Weight,
};
#[allow(unused_imports)]
pub use vitstream_testing::array::{Array, Reference, largest_difference as difference};
#[allow(unused_imports)]
pub use vitstream_testing::{shared, tiny};

pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Lets every weight of the generator and the flow be computed on request.
pub fn computed<'a>(spec: &DecoderSpec<'a>) -> DecoderSpec<'a> {
    let mut spec = spec.clone();
    let compute = |weight: &mut Weight<'a>| {
        let elements = weight.to_mut().clone();
        *weight = Weight::Computed(Arc::new(move || elements.clone()));
    };
    for_each_weight(&mut spec, compute);
    spec
}

/// Rounds weights to float16.
fn round(weight: &mut Weight<'_>) {
    weight.to_mut().iter_mut().for_each(|w| *w = f16::from_f32(*w).to_f32());
}

/// Calls `change` with every weight.
fn for_each_weight<'a>(spec: &mut DecoderSpec<'a>, change: impl Fn(&mut Weight<'a>)) {
    for layer in &mut spec.flow.layers {
        let wn = &mut layer.wn;
        let convs = wn.in_layers.iter_mut().chain(&mut wn.res_skip_layers).chain(&mut wn.cond_layer);
        convs.chain([&mut layer.pre, &mut layer.post]).for_each(|conv| change(&mut conv.weight));
    }
    let generator = &mut spec.generator;
    let convs = [&mut generator.conv_pre, &mut generator.conv_post].into_iter().chain(&mut generator.cond);
    convs.for_each(|conv| change(&mut conv.weight));
    generator.ups.iter_mut().for_each(|up| change(&mut up.weight));
    for block in &mut generator.resblocks {
        let (convs, more) = match block {
            ResBlockSpec::One { convs1, convs2 } => (convs1, &mut convs2[..]),
            ResBlockSpec::Two { convs } => (convs, &mut [][..]),
        };
        convs.iter_mut().chain(more).for_each(|conv| change(&mut conv.weight));
    }
}

fn round_all<'a, 'w: 'a>(convs: impl IntoIterator<Item = &'a mut ConvSpec<'w>>) {
    convs.into_iter().for_each(|conv| round(&mut conv.weight));
}

/// The same network with its weights rounded to float16.
pub fn rounded_decoder<'a>(spec: &DecoderSpec<'a>) -> DecoderSpec<'a> {
    let mut spec = spec.clone();
    for_each_weight(&mut spec, round);
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
