//! Every tensor is accounted for, in any spelling.

mod support;

use support::Fixture;
use vitstream_checkpoint::Value;
use vitstream_onnx::Graph;
use vitstream_testing::state_dict::{Entry, StateDict};
use vitstream_vits::{Audit, HParams, Mismatch, NoiseSource, SynthesizerTrn, Weights, WeightsError};

fn load(state: &StateDict) -> Result<(SynthesizerTrn, Audit), WeightsError> {
    let checkpoint = state.checkpoint();
    let weights = Weights::new(checkpoint.tensors().iter().map(|t| (t.name().to_owned(), t.clone())));
    let hyper_parameters = Value::Dict(state.hyper_parameters.clone());
    let hparams = HParams::from_lightning(&hyper_parameters, &|key| weights.shape(key)).unwrap();
    SynthesizerTrn::load_weights(&weights, hparams)
}

#[track_caller]
fn mismatch(state: &StateDict) -> (Mismatch, String) {
    match load(state) {
        Err(error @ WeightsError::Mismatch(_)) => {
            let text = error.to_string();
            let WeightsError::Mismatch(mismatch) = error else { unreachable!() };
            (mismatch, text)
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("loaded"),
    }
}

fn multi() -> StateDict {
    StateDict::open(&Fixture::committed("multi").path())
}

/// All constants of both graphs by name.
fn constants(model: &SynthesizerTrn) -> Vec<(String, Vec<f32>)> {
    let graphs = [model.emit_encoder(15, NoiseSource::Input).unwrap(), model.emit_decoder(15).unwrap()];
    let of = |graph: &Graph| -> Vec<(String, Vec<f32>)> {
        let float = |(&id, tensor): (&vitstream_onnx::ValueId, &vitstream_onnx::Tensor)| {
            Some((graph.value(id).name.clone(), tensor.to_f32()?))
        };
        graph.initializers.iter().filter_map(float).collect()
    };
    graphs.iter().flat_map(of).collect()
}

/// Removes the weights under norm and returns their keys without the last part, their magnitudes and their
/// directions.
fn take_normed(state: &mut StateDict) -> Vec<(String, Entry, Entry)> {
    const OLD: (&str, &str) = (".weight_g", ".weight_v");
    const NEW: (&str, &str) = (".parametrizations.weight.original0", ".parametrizations.weight.original1");
    let mut found = Vec::new();
    for (g, v) in [OLD, NEW] {
        let bases: Vec<String> =
            state.entries.iter().filter_map(|entry| entry.key.strip_suffix(g).map(str::to_owned)).collect();
        for base in bases {
            let (g, v) = (state.remove(&format!("{base}{g}")), state.remove(&format!("{base}{v}")));
            found.push((base, g, v));
        }
    }
    found
}

/// PyTorch's definition: v * g / ||v||, with the norm over all axes but the first.
fn folded(g: &Entry, v: &Entry) -> Vec<f32> {
    let row = v.values.len() / v.dims[0];
    let rows = v.values.chunks_exact(row).zip(&g.values);
    rows.flat_map(|(row, &g)| {
        let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        row.iter().map(move |&x| (f64::from(x) * f64::from(g) / norm) as f32)
    })
    .collect()
}

#[test]
fn weight_norm_is_read_in_three_spellings() {
    let original = multi();
    let expected = constants(&load(&original).unwrap().0);
    let mut plain = original;
    let normed = take_normed(&mut plain);
    assert!(normed.iter().filter(|(base, ..)| base.starts_with("model_g.flow.")).count() >= 32);
    assert!(normed.iter().any(|(base, ..)| base.starts_with("model_g.dec.ups.")));

    for (g_name, v_name) in
        [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")]
    {
        let mut state = plain.clone();
        for (base, g, v) in &normed {
            state.entries.push(Entry { key: format!("{base}.{g_name}"), ..g.clone() });
            state.entries.push(Entry { key: format!("{base}.{v_name}"), ..v.clone() });
        }
        assert!(constants(&load(&state).unwrap().0) == expected, "{g_name}");
    }
    let mut state = plain.clone();
    for (base, g, v) in &normed {
        let key = format!("{base}.weight");
        state.entries.push(Entry { key, dims: v.dims.clone(), values: folded(g, v) });
    }
    let found = constants(&load(&state).unwrap().0);
    assert_eq!(found.len(), expected.len());
    for ((name, found), (expected_name, expected)) in found.iter().zip(&expected) {
        assert_eq!(name, expected_name);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
        assert!(found.iter().zip(expected).all(close), "{name}");
    }
}

#[test]
fn half_a_weight_norm_is_missing_the_other() {
    let mut state = multi();
    let normed = take_normed(&mut state);
    for (base, g, v) in &normed {
        state.entries.push(Entry { key: format!("{base}.weight_g"), ..g.clone() });
        if base != "model_g.dec.ups.0" {
            state.entries.push(Entry { key: format!("{base}.weight_v"), ..v.clone() });
        }
    }
    let (mismatch, _) = mismatch(&state);
    assert_eq!(
        mismatch.missing.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["dec.ups.0.weight_v"]
    );
    assert!(mismatch.unexpected.is_empty());
}

#[test]
fn compiled_modules_are_seen_through() {
    let mut state = multi();
    let expected = constants(&load(&state).unwrap().0);
    state.rename(|key| {
        key.replace("model_g.", "model_g._orig_mod.").replace("dec.ups.", "dec.ups._orig_mod.")
    });
    assert!(constants(&load(&state).unwrap().0) == expected);
    // The original VITS has no prefix at all.
    let mut state = multi();
    state.entries.retain(|entry| entry.key.starts_with("model_g."));
    state.rename(|key| key.replace("model_g.", ""));
    assert!(constants(&load(&state).unwrap().0) == expected);
}

#[test]
fn what_is_left_out_is_counted_by_reason() {
    let mut state = multi();
    state.insert("val_loss.total", &[2], 0.0);
    let (_, audit) = load(&state).unwrap();
    let count = |part: &str| {
        let found = audit.unneeded.iter().filter(|(reason, _)| reason.contains(part));
        found.map(|(_, &(count, bytes))| (count, bytes)).next()
    };
    let own = |prefix: &str| state.entries.iter().filter(|e| e.key.starts_with(prefix)).count();
    assert_eq!(count("posterior encoder").map(|c| c.0), Some(own("model_g.enc_q.")));
    assert_eq!(count("posterior half").map(|c| c.0), Some(own("model_g.dp.post_")));
    assert_eq!(count("first coupling").map(|c| c.0), Some(own("model_g.dp.flows.1.")));
    assert_eq!(count("discriminator").map(|c| c.0), Some(own("model_d.")));
    assert_eq!(count("outside the generator"), Some((1, 8)));
    let left: usize = audit.unneeded.values().map(|(count, _)| count).sum();
    assert_eq!(audit.used + left, state.entries.len(), "every tensor is used or left out");
    assert!(audit.non_finite.is_empty());
}

#[test]
fn all_that_does_not_fit_is_listed() {
    let mut state = multi();
    state.rename(|key| key.replace("dec.conv_pre.weight", "dec.conv_per.weight"));
    state.remove("model_g.enc_p.encoder.attn_layers.0.emb_rel_v");
    state.remove("model_g.dp.proj.bias");
    state.insert("model_g.enc_p.bonus", &[3], 1.0);
    let wrong = state.get("model_g.flow.flows.2.post.bias");
    (wrong.dims, wrong.values) = (vec![2, 4], vec![0.0; 8]);
    let embedding = state.get("model_g.emb_g.weight");
    embedding.dims.swap(0, 1);

    // The speaker table determines the channels: transposed, it contradicts the whole network.
    let (_, text) = mismatch(&state);
    assert!(text.contains("emb_g.weight: expected [3, 3], found [8, 3]"), "{text}");
    state.get("model_g.emb_g.weight").dims.swap(0, 1);

    let (mismatch, text) = mismatch(&state);
    let missing: Vec<(&str, Option<&str>)> =
        mismatch.missing.iter().map(|(key, nearest)| (key.as_str(), nearest.as_deref())).collect();
    assert_eq!(
        missing,
        [
            ("dec.conv_pre.weight", Some("dec.conv_per.weight")),
            ("dp.proj.bias", None),
            ("enc_p.encoder.attn_layers.0.emb_rel_v", None),
        ]
    );
    assert_eq!(mismatch.unexpected, ["dec.conv_per.weight", "enc_p.bonus"]);
    assert_eq!(mismatch.wrong_shape, [("flow.flows.2.post.bias".to_owned(), vec![8], vec![2, 4])]);
    assert!(!mismatch.truncated);
    for line in [
        "dec.conv_pre.weight: missing (did you mean dec.conv_per.weight?)",
        "dp.proj.bias: missing",
        "enc_p.bonus: unexpected",
        "flow.flows.2.post.bias: expected [8], found [2, 4]",
    ] {
        assert!(text.lines().any(|found| found.trim() == line), "{line} is not in {text}");
    }
}

#[test]
fn another_network_altogether_ends_soon() {
    let mut state = multi();
    state.entries.retain(|entry| entry.key.contains("emb"));
    for i in 0..500 {
        state.insert(&format!("model_g.enc_p.other.{i}"), &[1], 0.0);
    }
    let (mismatch, text) = mismatch(&state);
    assert!(mismatch.truncated && mismatch.missing.len() <= 210 && mismatch.unexpected.len() <= 200);
    assert!(text.ends_with("and more"), "{text}");
}

/// The sizes claimed by a file must not determine how much memory is spent on reporting that it does not
/// match.
#[test]
fn claimed_sizes_cost_nothing() {
    let mut state = multi();
    state.set("hidden_channels", Some(Value::Int(65_536)));
    state.set("inter_channels", Some(Value::Int(65_536)));
    state.set("upsample_initial_channel", Some(Value::Int(65_536)));
    state.set("filter_channels", Some(Value::Int(65_536)));
    let (mismatch, _) = mismatch(&state);
    assert!(!mismatch.wrong_shape.is_empty());
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let mut state = multi();
    state.get("model_g.dec.conv_pre.weight").values[3] = f32::NAN;
    state.get("model_g.enc_p.proj.bias").values[0] = f32::INFINITY;
    state.get("model_d.0.weight").values.fill(f32::NAN);
    let (_, audit) = load(&state).unwrap();
    let mut found = audit.non_finite;
    found.sort();
    assert_eq!(found, ["dec.conv_pre.weight", "enc_p.proj.bias"]);
}

#[test]
fn the_fingerprint_is_that_of_the_weights() {
    let print = |state: &StateDict| load(state).unwrap().1.fingerprint;
    let original = multi();
    let mut other = original.clone();
    other.rename(|key| key.replace("model_g.", "model_g._orig_mod."));
    other.get("model_g._orig_mod.enc_q.pre.bias").values[0] += 1.0;
    assert_eq!(print(&original), print(&other), "what is not used does not count");
    other.get("model_g._orig_mod.dec.conv_pre.bias").values[0] += 1.0;
    assert_ne!(print(&original), print(&other));
}
