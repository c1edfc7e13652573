//! The exported pair, run in rten, against what PyTorch computed with upstream's own code on the same noise.

mod support;

use support::{Array, CASES, Fixture, Net, assert_close, by_name, decoder_feeds, difference, encoder_feeds};
use vitstream_vits::{EncoderForm, NoiseSource};

/// How far a pair may be from PyTorch.
struct Limits {
    z: f32,
    audio: f32,
}

const TINY: Limits = Limits { z: 2e-5, audio: 2e-5 };
const JOE: Limits = Limits { z: 1e-4, audio: 1e-4 };

fn check(fixture: &Fixture, cases: &[&str], opsets: &[i64], limits: &Limits) {
    let model = fixture.model();
    for &opset in opsets {
        let encoder = Net::new(model.emit_encoder(opset, NoiseSource::Input).unwrap());
        let decoder = Net::new(model.emit_decoder(opset).unwrap());
        for case_name in cases {
            let Some(case) = fixture.case(case_name) else { continue };
            let what = |value: &str| format!("{} {case_name} opset {opset}: {value}", fixture.name);
            let outputs = encoder.run(by_name(&encoder_feeds(&case, &model)));
            let (z, y_mask, g) = (&outputs[0], &outputs[1], outputs.get(2));

            assert_eq!(y_mask, case.get("y_mask"), "{}", what("y_mask"));
            assert_close(z, case.get("z_p"), limits.z, &what("z"));
            assert_eq!(g, case.find("g"), "{}", what("g"));
            if let Some(lengths) = case.find("y_lengths") {
                assert_eq!(frames_of(y_mask), lengths.ints(), "{}", what("y_lengths"));
            }

            let speak = |z: &Array| decoder.run(decoder_feeds(z, y_mask, g)).remove(0);
            let (ours, theirs) = (speak(z), speak(case.get("z_p")));
            assert_close(&theirs, case.get("audio"), limits.audio, &what("audio of the reference z_p"));
            assert_close(&ours, case.get("audio"), limits.audio, &what("audio"));
            println!(
                "{}: z {:e}, audio {:e}",
                what("differs by"),
                difference(z, case.get("z_p")),
                difference(&ours, case.get("audio"))
            );
        }
    }
}

fn frames_of(y_mask: &Array) -> Vec<i64> {
    let items = y_mask.floats().chunks_exact(y_mask.dims[2]);
    items.map(|mask| mask.iter().sum::<f32>() as i64).collect()
}

/// Frames of each id, padding included, from the encoder and from the graph that holds everything.
#[test]
fn durations_equal_pytorch() {
    for fixture in support::all() {
        let model = fixture.model();
        let form = EncoderForm { noise: NoiseSource::Input, durations: true };
        let encoder = Net::new(model.emit_encoder(15, form).unwrap());
        let single = Net::new(model.emit_single(15, form).unwrap());
        for case_name in CASES {
            let Some(case) = fixture.case(case_name) else { continue };
            let what = format!("{} {case_name}", fixture.name);
            let w_ceil = case.get("w_ceil");
            let expected = w_ceil.reshaped(&[w_ceil.dims[0], w_ceil.dims[2]]);
            for net in [&encoder, &single] {
                let outputs = net.run(by_name(&encoder_feeds(&case, &model)));
                assert_eq!(outputs.last(), Some(&expected), "{what}");
            }
        }
    }
}

#[test]
fn tiny_networks_equal_pytorch() {
    for fixture in support::all() {
        check(&fixture, &CASES, &[15, 21], &TINY);
    }
}

#[test]
fn a_real_voice_equals_pytorch() {
    if let Some(joe) = support::joe() {
        check(&joe, &["short", "medium"], &[15], &JOE);
    }
}
