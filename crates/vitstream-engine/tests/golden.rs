//! Compares the engine with PyTorch: small networks of every kind, and a real voice if the shared fixtures
//! are present.

mod common;

use common::voice::{self, Voice};
use common::{Array, Reference, difference, rounded_decoder, rounded_encoder, same_bits, shared, tiny};
use vitstream_engine::{Decoder, DrawsFrom, Encoder, Error, Isa, Mode, Options, Scales};

const NETWORKS: [&str; 9] = [
    "single",
    "multi",
    "nosdp",
    "multi-nosdp",
    "high",
    "high-multi",
    "textual",
    "legacy-single",
    "legacy-multi-nosdp",
];

/// Each network with each of its single-item cases.
fn each_case(mut check: impl FnMut(&str, &Voice, &Reference)) {
    let mut checked = 0;
    let mut all = |name: &str, model: &Voice, reference: Option<std::path::PathBuf>, case: &str| {
        if let Some(path) = reference {
            check(&format!("{name}.{case}"), model, &Reference::read(&path));
            checked += 1;
        }
    };
    for name in NETWORKS {
        let Some(path) = tiny(&format!("{name}.ckpt")) else { continue };
        let model = voice::load(&path);
        for case in ["one", "quiet", "shortest"] {
            // Only files next to the checkpoint: the shared fixtures contain further networks.
            let beside = path.with_file_name(format!("{name}.{case}.safetensors"));
            all(name, &model, beside.is_file().then_some(beside), case);
        }
    }
    if let Some(path) = shared("joe/joe.ckpt") {
        let model = voice::load(&path);
        for case in ["short", "medium"] {
            all("joe", &model, shared(&format!("joe/joe.{case}.safetensors")), case);
        }
    }
    assert!(checked >= 12, "the committed cases at least, not {checked}");
}

/// The number of threads in this build, or in a test of them.
const THREADS: usize = if cfg!(feature = "threads") { 3 } else { 1 };

/// Every instruction set of this machine.
fn isas() -> Vec<Isa> {
    let all = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Simd128, Isa::Scalar];
    let model = voice::load(&tiny("textual.ckpt").expect("committed"));
    let works = |isa: &Isa| match Decoder::new(&voice::decoder(&model), Options::new().isa(*isa)) {
        Ok(decoder) => {
            assert_eq!(decoder.isa(), *isa);
            true
        }
        Err(error) => {
            assert_eq!(error, Error::Isa(isa.name()));
            false
        }
    };
    all.into_iter().filter(works).collect()
}

fn scales(reference: &Reference) -> Scales {
    let s = reference.get("scales").floats();
    Scales { noise: s[0], length: s[1], noise_w: s[2] }
}

#[test]
fn decoder_equals_pytorch() {
    let isas = isas();
    each_case(|case, model, reference| {
        let z_p = reference.get("z_p");
        let (z, frames) = (z_p.floats(), z_p.dims[2]);
        let g = reference.find("g").map(Array::floats);
        let audio = reference.get("audio").floats();
        for &isa in &isas {
            for mode in [Mode::Winograd, Mode::Direct] {
                let decoder =
                    Decoder::new(&voice::decoder(model), Options::new().isa(isa).mode(mode).threads(1))
                        .expect(case);
                let mut samples = Vec::new();
                let mut stream = decoder.stream(g).expect(case);
                stream.push(z, frames, &mut samples).expect(case);
                stream.finish(&mut samples).expect(case);
                let d = difference(&samples, audio);
                assert!(d < 2e-5, "{case} {isa:?} {mode:?}: {d}");
            }
        }
    });
}

#[test]
fn chunks_and_threads_change_no_bit() {
    each_case(|case, model, reference| {
        let z_p = reference.get("z_p");
        let (z, frames) = (z_p.floats(), z_p.dims[2]);
        let g = reference.find("g").map(Array::floats);
        let spec = voice::decoder(model);
        let decode = |threads: usize, mode: Mode, schedule: &[usize]| {
            let decoder = Decoder::new(&spec, Options::new().mode(mode).threads(threads)).expect(case);
            let mut stream = decoder.stream(g).expect(case);
            let mut samples = Vec::new();
            let (mut at, mut sizes) = (0, schedule.iter().cycle());
            while at < frames {
                let n = (*sizes.next().expect("a schedule")).min(frames - at);
                stream.push_strided(&z[at..], frames, n, &mut samples).expect(case);
                at += n;
            }
            stream.finish(&mut samples).expect(case);
            samples
        };
        let [winograd, direct] = [Mode::Winograd, Mode::Direct].map(|mode| {
            let whole = decode(1, mode, &[frames]);
            for (threads, schedule) in
                [(1, &[1][..]), (1, &[7, 1, 30, 2]), (2, &[16]), (3, &[52, 5]), (2, &[frames])]
            {
                let threads = threads.min(THREADS);
                let samples = decode(threads, mode, schedule);
                let same = same_bits(&samples, &whole);
                assert!(same, "{case} {mode:?}: {threads} threads, pushes of {schedule:?}");
            }
            whole
        });
        assert!(difference(&winograd, &direct) < 2e-5, "{case}: {}", difference(&winograd, &direct));
    });
}

#[test]
fn encoder_equals_pytorch() {
    let isas = isas();
    each_case(|case, model, reference| {
        let ids = reference.get("input").ints();
        let speaker = reference.find("sid").map(|sid| sid.ints()[0] as usize);
        let noise = |name| reference.find(name).map(Array::floats).unwrap_or_default();
        let (dp, p) = (noise("noise.dp"), noise("noise.p"));
        let durations: Vec<usize> = reference.get("w_ceil").floats().iter().map(|&w| w as usize).collect();
        // The first one is the widest, which is the default.
        let mut widest = None;
        let single = isas.iter().map(|&isa| (isa, Mode::Winograd, 1));
        for (isa, mode, threads) in
            single.chain([(Isa::Auto, Mode::Winograd, THREADS), (Isa::Auto, Mode::Direct, 1)])
        {
            let options = Options::new().isa(isa).mode(mode).threads(threads);
            let encoder = Encoder::new(&voice::encoder(model), options).expect(case);
            let draws = DrawsFrom::Given { dp, p };
            let latent = encoder.encode(ids, speaker, scales(reference), draws).expect(case);
            assert_eq!(latent.durations, durations, "{case} {isa:?}");
            assert_eq!(latent.frames, reference.get("z_p").dims[2]);
            let d = difference(&latent.z_p, reference.get("z_p").floats());
            assert!(d < 5e-5, "{case} {isa:?}: {d}");
            assert_eq!(latent.g.as_deref(), reference.find("g").map(Array::floats), "{case}");
            let widest = widest.get_or_insert_with(|| latent.z_p.clone());
            if isa == Isa::Auto {
                assert!(same_bits(&latent.z_p, widest), "{case} {mode:?}, {threads} threads");
            }

            let decoder = Decoder::new(&voice::decoder(model), options);
            let mut stream = decoder.expect(case).stream(latent.g.as_deref()).expect(case);
            let mut samples = Vec::new();
            stream.push(&latent.z_p, latent.frames, &mut samples).expect(case);
            stream.finish(&mut samples).expect(case);
            let d = difference(&samples, reference.get("audio").floats());
            println!("{case} {isa:?} {mode:?}: {d:e} from ids to audio");
            assert!(d < 1e-4, "{case} {isa:?} {mode:?}: {d} from ids to audio");
        }
    });
}

/// Weights that are float16 numbers can be kept as float16, in half the memory, with the same latent and the
/// same samples. The original trained weights are not float16 numbers.
#[test]
fn weights_kept_as_half_precision_change_no_bit() {
    each_case(|case, model, reference| {
        let (trained_encoder, trained_decoder) = (voice::encoder(model), voice::decoder(model));
        let half = Options::new().half_weights(true);
        for trained in [
            Encoder::new(&trained_encoder, half).expect(case).half_weights(),
            Decoder::new(&trained_decoder, half).expect(case).half_weights(),
        ] {
            assert!(2 * trained.kept < trained.all, "{case}: {trained:?}");
        }

        let ids = reference.get("input").ints();
        let speaker = reference.find("sid").map(|sid| sid.ints()[0] as usize);
        let (encoder, decoder) = (rounded_encoder(&trained_encoder), rounded_decoder(&trained_decoder));
        let speak = |options: Options, push: usize| {
            let encoder = Encoder::new(&encoder, options).expect(case);
            let decoder = Decoder::new(&decoder, options).expect(case);
            let latent = encoder.encode(ids, speaker, scales(reference), DrawsFrom::Seed(1)).expect(case);
            let mut stream = decoder.stream(latent.g.as_deref()).expect(case);
            let mut samples = Vec::new();
            for at in (0..latent.frames).step_by(push) {
                let n = push.min(latent.frames - at);
                stream.push_strided(&latent.z_p[at..], latent.frames, n, &mut samples).expect(case);
            }
            stream.finish(&mut samples).expect(case);
            (samples, encoder.weight_bytes() + decoder.weight_bytes())
        };
        for mode in [Mode::Winograd, Mode::Direct] {
            let (exact, bytes) = speak(Options::new().mode(mode), usize::MAX);
            for (threads, push) in [(1, usize::MAX), (1, 1), (THREADS, 16)] {
                let (samples, half_bytes) = speak(half.mode(mode).threads(threads), push);
                assert!(same_bits(&samples, &exact), "{case} {mode:?}: {threads} threads, pushes of {push}");
                assert!(half_bytes < bytes, "{case} {mode:?}: {half_bytes} of {bytes} bytes");
            }
        }
    });
}

#[test]
fn a_seed_says_the_same_again() {
    let model = voice::load(&tiny("multi.ckpt").expect("committed"));
    let encoder = Encoder::new(&voice::encoder(&model), Options::default()).expect("fits");
    let say = |seed, speaker| {
        let scales = Scales { noise: 0.667, length: 1.0, noise_w: 0.8 };
        encoder.encode(&[1, 2, 3, 4, 5, 6], Some(speaker), scales, DrawsFrom::Seed(seed)).expect("speaks")
    };
    assert_eq!(say(1, 0), say(1, 0));
    assert_ne!(say(1, 0), say(2, 0));
    assert_ne!(say(1, 0).g, say(1, 1).g);
}

#[test]
fn what_cannot_be_spoken_is_refused() {
    let model = voice::load(&tiny("multi.ckpt").expect("committed"));
    let encoder = Encoder::new(&voice::encoder(&model), Options::default()).expect("fits");
    let normal = Scales { noise: 0.667, length: 1.0, noise_w: 0.8 };
    let vocabulary = encoder.vocabulary() as i64;
    let refuse = |ids: &[i64], speaker, scales, noise: DrawsFrom<'_>, says: &str| {
        let error = encoder.encode(ids, speaker, scales, noise).expect_err(says).to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    };
    let seed = DrawsFrom::Seed(0);
    refuse(&[], Some(0), normal, seed, "ids: expected 1 to");
    refuse(&[1, vocabulary], Some(0), normal, seed, "phoneme id: expected 0 to 47, found 48");
    refuse(&[-1], Some(0), normal, seed, "found -1");
    refuse(&[1], None, normal, seed, "speaker: expected one of 0 to 2, found none");
    refuse(&[1], Some(3), normal, seed, "speaker: expected 0 to 2, found 3");
    refuse(&[1], Some(0), Scales { length: f32::NAN, ..normal }, seed, "scales: expected finite");
    refuse(&[1], Some(0), Scales { length: -1.0, ..normal }, seed, "scales");
    refuse(&[1], Some(0), Scales { length: 1e30, ..normal }, seed, "utterance: expected at most");
    refuse(&[1], Some(0), normal, DrawsFrom::Given { dp: &[0.0], p: &[] }, "noise dp: expected 2 rows of 1");
    refuse(
        &[1],
        Some(0),
        normal,
        DrawsFrom::Given { dp: &[0.0; 2], p: &[0.0; 15] },
        "noise p: expected 16 rows",
    );
    refuse(&[1], Some(0), Scales { noise: f32::MAX, ..normal }, seed, "finite");
}
