//! What the tests and the example `measure` share: voices from checkpoints, reference values, random networks.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod naive;
pub mod voice;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use half::f16;
use vitstream_engine::spec::{ConvSpec, DdsConvSpec, DecoderSpec, DurationSpec, EncoderSpec, ResBlockSpec};

/// A committed file of the small networks, or one of the shared fixtures.
pub fn tiny(name: &str) -> Option<PathBuf> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-vits/tests/golden").join(name);
    if committed.is_file() { Some(committed) } else { shared(&format!("tiny/{name}")) }
}

/// A file of the shared fixtures; says that what needs it is skipped when it is not there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VITSTREAM_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    let path = root.join(name);
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// Reference values computed by PyTorch.
pub struct Reference {
    bytes: Vec<u8>,
}

impl Reference {
    pub fn read(path: &Path) -> Self {
        Self { bytes: std::fs::read(path).expect("readable") }
    }

    fn tensor(&self, name: &str) -> Option<(Vec<usize>, Vec<u8>)> {
        let file = safetensors::SafeTensors::deserialize(&self.bytes).expect("safetensors");
        file.tensor(name).ok().map(|t| (t.shape().to_vec(), t.data().to_vec()))
    }

    pub fn get(&self, name: &str) -> Option<Vec<f32>> {
        let (_, data) = self.tensor(name)?;
        Some(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let (_, data) = self.tensor(name)?;
        Some(data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes"))).collect())
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensor(name).unwrap_or_else(|| panic!("no {name}")).0
    }
}

/// Largest absolute difference; infinite when a value is not a number.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| {
        let d = (a - b).abs();
        if d.is_nan() { f32::INFINITY } else { f32::max(most, d) }
    })
}

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

/// The same network with weights that are float16 numbers.
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
