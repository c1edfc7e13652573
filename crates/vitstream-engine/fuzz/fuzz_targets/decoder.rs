//! Random small networks, some of them damaged, and random pushes: nothing panics or reads out of bounds, and
//! what comes out is what naive loops give.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use vitstream_engine::{Decoder, Isa, Mode, Options};

#[path = "../../tests/common/naive.rs"]
mod naive;

#[derive(Arbitrary, Debug)]
struct Input {
    network: u64,
    isa: u8,
    direct: bool,
    wide: bool,
    frames: u8,
    pushes: Vec<u8>,
    /// Size fields of the last convolution, if they are to be wrong.
    damage: Option<[usize; 5]>,
    /// A value somewhere in z.
    value: f32,
}

fuzz_target!(|input: Input| {
    // With many channels half of the time: below 32 both modes compute the same.
    let (mut spec, g) = naive::sized(input.network, if input.wide { 32 } else { 0 });
    if let Some([c_in, c_out, kernel, dilation, groups]) = input.damage {
        let post = &mut spec.generator.conv_post;
        (post.c_in, post.c_out, post.kernel, post.dilation, post.groups) =
            (c_in, c_out, kernel, dilation, groups);
    }
    let isas = [Isa::Auto, Isa::Avx512, Isa::Avx2, Isa::Scalar];
    let isa = isas[usize::from(input.isa) % isas.len()];
    let mode = if input.direct { Mode::Direct } else { Mode::Winograd };
    let Ok(decoder) = Decoder::new(&spec, Options::new().isa(isa).mode(mode).threads(1)) else { return };
    let frames = usize::from(input.frames % 48) + 1;
    let mut z = naive::Random(input.network ^ 1).vec(spec.flow.channels * frames, 1.5);
    z[0] = input.value;
    let Ok(mut stream) = decoder.stream(g.as_deref()) else { return };
    let (mut samples, mut at) = (Vec::new(), 0);
    let mut pushes = input.pushes.iter().map(|&push| usize::from(push)).take(64);
    while at < frames {
        let n = pushes.next().unwrap_or(frames).min(frames - at);
        // Refused: no frames, or a value that is not finite.
        if stream.push_strided(&z[at..], frames, n, &mut samples).is_err() && n > 0 {
            return;
        }
        at += n;
    }
    stream.finish(&mut samples).expect("frames were pushed, and none refused");
    assert_eq!(samples.len(), frames * decoder.hop());
    if input.value.abs() < 4.0 && input.damage.is_none() {
        let expected = naive::reference(&spec, &z, frames, g.as_deref());
        for (found, expected) in samples.iter().zip(&expected) {
            assert!((found - expected).abs() < 2e-4, "{found}, expected {expected}");
        }
    }
});
