//! Hyper-parameters as written by both generations of Lightning, and the errors about invalid ones.

use vitstream_checkpoint::Value;
use vitstream_vits::{HParams, HParamsError, ResBlockKind};

type Shapes = fn(&str) -> Option<Vec<usize>>;

fn text(text: &str) -> Value {
    Value::Str(text.into())
}

fn tuple(values: &[i64]) -> Value {
    Value::Tuple(values.iter().copied().map(Value::Int).collect())
}

fn dict(items: &[(&str, Value)]) -> Value {
    Value::Dict(items.iter().map(|(key, value)| (text(key), value.clone())).collect())
}

fn no_tensors(_: &str) -> Option<Vec<usize>> {
    None
}

fn read(items: &[(&str, Value)], shapes: Shapes) -> Result<HParams, HParamsError> {
    HParams::from_lightning(&dict(items), &shapes)
}

/// The hyper-parameters from the minimum that a file must state, plus `items`.
fn with(items: &[(&str, Value)]) -> Result<HParams, HParamsError> {
    let all = [&[("num_symbols", Value::Int(256))], items].concat();
    read(&all, no_tensors)
}

/// The error for the value `value` of `name`.
#[track_caller]
fn refused(name: &str, value: Value) -> String {
    let error = with(&[(name, value)]).expect_err(name);
    error.to_string()
}

#[test]
fn what_is_not_said_is_as_upstream_has_it() {
    let hp = with(&[]).unwrap();
    assert_eq!((hp.num_symbols, hp.num_speakers, hp.gin_channels), (256, 1, 0));
    assert_eq!((hp.inter_channels, hp.hidden_channels, hp.filter_channels), (192, 192, 768));
    assert_eq!((hp.n_heads, hp.n_layers, hp.kernel_size, hp.window_size), (2, 6, 3, 4));
    assert_eq!(hp.resblock, ResBlockKind::ResBlock2);
    assert_eq!(hp.resblock_kernel_sizes, [3, 5, 7]);
    assert_eq!(hp.resblock_dilation_sizes, [[1, 2], [2, 6], [3, 12]]);
    assert_eq!((&hp.upsample_rates[..], &hp.upsample_kernel_sizes[..]), (&[8, 8, 4][..], &[16, 16, 8][..]));
    assert_eq!((hp.upsample_initial_channel, hp.hop_length(), hp.sample_rate), (256, 256, None));
    assert!(hp.use_sdp() && !hp.multi_speaker());
}

#[test]
fn both_generations_are_read() {
    let numbers = [
        ("resblock", text("1")),
        ("resblock_kernel_sizes", tuple(&[3, 7, 11])),
        (
            "resblock_dilation_sizes",
            Value::Tuple(vec![tuple(&[1, 3, 5]), tuple(&[1, 3, 5]), tuple(&[1, 3, 5])]),
        ),
        ("upsample_rates", tuple(&[8, 8, 2, 2])),
        ("upsample_initial_channel", Value::Int(512)),
        ("upsample_kernel_sizes", tuple(&[16, 16, 4, 4])),
        ("sample_rate", Value::Int(22_050)),
        ("use_sdp", Value::Bool(false)),
        ("dataset_dir", Value::Path("/data".into())),
        ("seed", Value::None),
    ];
    let texts = [
        ("resblock", Value::Int(1)),
        ("resblock_kernel_sizes", text("(3, 7, 11)")),
        ("resblock_dilation_sizes", text("((1, 3, 5), [1, 3, 5], (1,3,5,),)")),
        ("upsample_rates", text("[8, 8, 2, 2]")),
        ("upsample_initial_channel", text("512")),
        ("upsample_kernel_sizes", text(" ( 16,16, 4 , 4 ) ")),
        ("sample_rate", Value::Float(22_050.0)),
        ("use_sdp", text("False")),
    ];
    let (first, second) = (with(&numbers).unwrap(), with(&texts).unwrap());
    assert_eq!(first, second);
    assert_eq!(first.resblock, ResBlockKind::ResBlock1);
    assert_eq!(first.resblock_dilation_sizes, [[1, 3, 5]; 3]);
    assert_eq!((first.hop_length(), first.sample_rate, first.use_sdp()), (256, Some(22_050), false));
    let one = with(&[
        ("upsample_rates", text("(4,)")),
        ("upsample_kernel_sizes", text("(8,)")),
        ("use_sdp", Value::Int(1)),
    ]);
    assert_eq!(one.unwrap().upsample_rates, [4]);
}

#[test]
fn nothing_given_means_nothing_said() {
    let hp = with(&[("upsample_rates", Value::None), ("use_sdp", Value::None), ("resblock", Value::None)])
        .unwrap();
    assert_eq!(hp, with(&[]).unwrap());
}

#[test]
fn tensors_tell_what_the_file_does_not() {
    let shapes: Shapes = |key| match key {
        "enc_p.emb.weight" => Some(vec![130, 192]),
        "emb_g.weight" => Some(vec![5, 512]),
        "enc_p.encoder.attn_layers.0.emb_rel_k" => Some(vec![1, 21, 96]),
        _ => None,
    };
    let hp = read(&[], shapes).unwrap();
    assert_eq!((hp.num_symbols, hp.num_speakers, hp.gin_channels, hp.window_size), (130, 5, 512, 10));
    // Upstream uses 512 where the file states 0.
    let hp = read(&[("num_speakers", Value::Int(5)), ("gin_channels", Value::Int(0))], shapes).unwrap();
    assert_eq!(hp.gin_channels, 512);
    // With one speaker there is no embedding, whatever the file states.
    let hp = with(&[("num_speakers", Value::Int(1)), ("gin_channels", Value::Int(512))]).unwrap();
    assert_eq!((hp.multi_speaker(), hp.gin_channels), (false, 0));
    let error = read(&[], no_tensors).unwrap_err().to_string();
    assert!(error.contains("num_symbols") && error.contains("enc_p.emb.weight"), "{error}");
}

#[test]
fn tensors_of_strange_ranks_break_nothing() {
    let ranks: [Shapes; 3] = [|_| Some(vec![]), |_| Some(vec![0]), |_| Some(vec![usize::MAX; 5])];
    for shapes in ranks {
        let _ = read(&[], shapes);
        let _ = read(&[("num_speakers", Value::Int(3))], shapes);
    }
}

#[test]
fn numbers_that_are_none_are_named() {
    for value in [text("many"), text("import os"), text(""), Value::Bool(true), dict(&[]), tuple(&[1])] {
        let error = refused("hidden_channels", value);
        assert!(error.contains("hidden_channels") && error.contains("expected"), "{error}");
    }
    for value in
        [text("(8, 8"), text("8 8 4"), Value::Int(8), text("(8, x)"), tuple(&[8, -8, 4]), text("(8, 8.5, 4)")]
    {
        let error = refused("upsample_rates", value);
        assert!(error.contains("upsample_rates") && error.contains("expected"), "{error}");
    }
    for value in [tuple(&[1, 2]), text("((1, 2), 3)"), text("(((1,),),)")] {
        let error = refused("resblock_dilation_sizes", value);
        assert!(error.contains("resblock_dilation_sizes"), "{error}");
    }
    assert!(refused("resblock", text("3")).contains("expected 1 or 2, found 3"));
    assert!(refused("use_sdp", text("perhaps")).contains("expected True or False"));
}

#[test]
fn sizes_that_no_network_has_are_refused() {
    let sizes = [
        "num_speakers",
        "inter_channels",
        "hidden_channels",
        "filter_channels",
        "n_heads",
        "n_layers",
        "kernel_size",
        "upsample_initial_channel",
    ];
    for name in sizes {
        for value in [0, 1 << 20, i64::MAX] {
            let error = refused(name, Value::Int(value));
            assert!(error.contains(name) && error.contains(&value.to_string()), "{error}");
        }
        let error = refused(name, Value::Int(-1));
        assert!(error.contains(name) && error.contains("-1"), "{error}");
    }
}

#[test]
fn contradictions_are_explained() {
    let said = |items: &[(&str, Value)], parts: &[&str]| {
        let error = with(items).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    said(&[("n_heads", Value::Int(5))], &["n_heads", "5 heads do not divide 192"]);
    said(&[("inter_channels", Value::Int(191))], &["inter_channels", "even", "191"]);
    said(&[("num_speakers", Value::Int(4))], &["gin_channels", "with 4 speakers, found 0"]);
    said(&[("upsample_rates", tuple(&[8, 8]))], &["upsample_kernel_sizes", "expected 2", "[16, 16, 8]"]);
    said(&[("upsample_rates", tuple(&[8, 8, 0]))], &["upsample_kernel_sizes", "0 times"]);
    said(&[("upsample_rates", tuple(&[8, 8, 16]))], &["upsample_kernel_sizes", "a kernel of 8", "16 times"]);
    said(&[("upsample_rates", tuple(&[8, 8, 5]))], &["upsample_kernel_sizes", "by an even number"]);
    said(
        &[("upsample_rates", tuple(&[600, 600])), ("upsample_kernel_sizes", tuple(&[600, 600]))],
        &["upsample_rates", "multiply to more than"],
    );
    said(&[("upsample_rates", tuple(&[]))], &["upsample_rates"]);
    said(&[("upsample_initial_channel", Value::Int(7))], &["upsample_initial_channel", "halved 3 times"]);
    said(
        &[("resblock_kernel_sizes", tuple(&[3, 5]))],
        &["resblock_dilation_sizes", "expected 2 lists, found 3"],
    );
    // No file is written for sizes that the engine and the player refuse.
    said(&[("kernel_size", Value::Int(4))], &["kernel_size", "odd", "4"]);
    said(&[("kernel_size", Value::Int(2001))], &["kernel_size", "up to 1023", "2001"]);
    said(
        &[("kernel_size", Value::Int(1001)), ("filter_channels", Value::Int(32_768))],
        &["filter_channels", "1000 steps of 32768 channels", "more than 16777216"],
    );
    said(
        &[
            ("upsample_initial_channel", Value::Int(65_536)),
            ("resblock_dilation_sizes", text("((1,),(512,),(1,))")),
        ],
        &["resblock_dilation_sizes", "2052 steps of 32768 channels"],
    );
    said(
        &[("upsample_rates", tuple(&[512])), ("upsample_kernel_sizes", tuple(&[512]))],
        &["upsample_rates", "expected 1 to 256, found 512"],
    );
    said(&[("resblock_kernel_sizes", tuple(&[3, 4, 7]))], &["resblock_kernel_sizes", "odd", "4"]);
    said(&[("resblock_dilation_sizes", text("((1,),(),(1,))"))], &["resblock_dilation_sizes", "[]"]);
    said(&[("resblock_dilation_sizes", text("((1,),(0,),(1,))"))], &["resblock_dilation_sizes", "[0]"]);
}
