//! Views, element types, and all spellings of tensors and values in torch.

use vitstream_checkpoint::{Checkpoint, DType, ErrorKind, F32Buf, Tensor, Value};
use vitstream_testing::torch::{Pickle, f32s, op, torch_file};

fn open(tensors: &[(&str, Pickle)], rest: &[(&str, Pickle)], storages: &[(&str, &[u8])]) -> Checkpoint {
    let file = torch_file(&Pickle::checkpoint(tensors, rest), storages);
    Checkpoint::from_bytes("test.ckpt", file.into()).expect("opens")
}

/// The only tensor, backed by storage 0.
fn one(tensor: Pickle, storage: &[u8]) -> Tensor {
    let checkpoint = open(&[("w", tensor)], &[], &[("0", storage)]);
    checkpoint.tensors().require("w").expect("a tensor").clone()
}

fn metadata(value: Pickle) -> Value {
    open(&[], &[("x", value)], &[]).metadata().get("x").expect("present").clone()
}

#[test]
fn views_are_gathered_by_stride_and_offset() {
    let storage = f32s(&(0..12u8).map(f32::from).collect::<Vec<_>>());
    type View<'a> = (i64, &'a [i64], &'a [i64], &'a [f32]);
    let cases: [View<'_>; 7] = [
        (0, &[2, 3], &[3, 1], &[0., 1., 2., 3., 4., 5.]),
        (6, &[2, 3], &[3, 1], &[6., 7., 8., 9., 10., 11.]),
        (0, &[3, 2], &[1, 3], &[0., 3., 1., 4., 2., 5.]),
        (1, &[2, 1, 2], &[6, 99, 2], &[1., 3., 7., 9.]),
        (5, &[3], &[0], &[5., 5., 5.]),
        (11, &[], &[], &[11.]),
        (500, &[0, 3], &[3, 1], &[]),
    ];
    for (offset, size, stride, expected) in cases {
        let tensor = one(op().tensor("FloatStorage", "0", 12, offset, size, stride), &storage);
        assert_eq!(*tensor.to_f32().expect("readable"), *expected, "{size:?} {stride:?} {offset}");
        assert_eq!(tensor.bytes().expect("readable"), f32s(expected));
        assert_eq!(tensor.nbytes(), expected.len() * 4);
    }
}

#[test]
fn tensors_share_storages() {
    let whole = op().tensor("FloatStorage", "0", 4, 0, &[4], &[1]);
    let half = op().tensor("FloatStorage", "0", 4, 2, &[2], &[1]);
    let checkpoint = open(&[("whole", whole), ("half", half)], &[], &[("0", &f32s(&[1., 2., 3., 4.]))]);
    let names: Vec<&str> = checkpoint.tensors().iter().map(Tensor::name).collect();
    assert_eq!(names, ["whole", "half"]);
    let read = |name| checkpoint.tensors().require(name).and_then(|tensor| tensor.bytes()).expect("readable");
    assert_eq!(read("half"), read("whole").slice(8..));
    assert_eq!(read("half").as_ptr(), read("whole").slice(8..).as_ptr());
}

#[test]
fn floating_point_types_become_float32() {
    let value = -1.5f32;
    let f16 = half::f16::from_f32(value).to_le_bytes();
    let bf16 = half::bf16::from_f32(value).to_le_bytes();
    let f64 = f64::from(value).to_le_bytes();
    for (class, storage, dtype) in [
        ("HalfStorage", &f16[..], DType::F16),
        ("BFloat16Storage", &bf16, DType::BF16),
        ("DoubleStorage", &f64, DType::F64),
    ] {
        let tensor = one(op().tensor(class, "0", 1, 0, &[1], &[1]), storage);
        assert_eq!((tensor.dtype(), &*tensor.to_f32().expect("a float")), (dtype, &[value][..]));
        assert_eq!(tensor.bytes().expect("readable"), storage);
    }
}

#[test]
fn integers_are_no_floats() {
    for (class, storage, expected) in [
        ("LongStorage", &(-5i64).to_le_bytes()[..], -5),
        ("IntStorage", &(-5i32).to_le_bytes(), -5),
        ("ShortStorage", &(-5i16).to_le_bytes(), -5),
        ("CharStorage", &[0xfb], -5),
        ("ByteStorage", &[0xfb], 251),
        ("BoolStorage", &[2], 1),
    ] {
        let tensor = one(op().tensor(class, "0", 1, 0, &[], &[]), storage);
        assert_eq!(tensor.to_i64().expect("integers"), [expected]);
        assert!(matches!(tensor.to_f32().expect_err("no float").kind(), ErrorKind::DType));
    }
    let float = one(op().tensor("FloatStorage", "0", 1, 0, &[], &[]), &f32s(&[1.0]));
    assert!(matches!(float.to_i64().expect_err("no integer").kind(), ErrorKind::DType));
}

#[test]
fn every_way_to_rebuild_a_tensor() {
    let storage = f32s(&[1., 2.]);
    let plain = || op().tensor("FloatStorage", "0", 2, 0, &[2], &[1]);
    let v1 =
        op().global("torch._utils", "_rebuild_tensor").raw(b"(").storage("torch", "FloatStorage", "0", 2);
    let v3 = op().global("torch._utils", "_rebuild_tensor_v3").raw(b"(");
    let v3 = v3.storage("torch.storage", "UntypedStorage", "0", 8).raw(b"K\0").ints(&[2]).ints(&[1]);
    let from_type = op().global("torch._tensor", "_rebuild_from_type_v2").raw(b"(");
    let from_type =
        from_type.global("torch._utils", "_rebuild_tensor_v2").global("torch", "Tensor").raw(b"(");
    let from_type = from_type.storage("torch", "FloatStorage", "0", 2).raw(b"K\0").ints(&[2]).ints(&[1]);
    let size = op().global("torch._utils", "_rebuild_tensor").raw(b"(").storage(
        "torch.cuda",
        "FloatStorage",
        "0",
        2,
    );
    let size = size.raw(b"K\0").global("torch", "Size").raw(b"(").ints(&[2]).raw(b"tR").ints(&[1]).raw(b"tR");
    for tensor in [
        plain(),
        v1.raw(b"K\0").ints(&[2]).ints(&[1]).raw(b"tR"),
        v3.raw(b"\x89}").global("torch", "float32").raw(b"tR"),
        op().global("torch._utils", "_rebuild_parameter").raw(b"(").raw(&plain().0).raw(b"\x88}tR"),
        op().global("torch._utils", "_rebuild_parameter_with_state")
            .raw(b"(")
            .raw(&plain().0)
            .raw(b"\x88}}tR"),
        op().global("torch._utils", "_rebuild_device_tensor_from_cpu_tensor")
            .raw(b"(")
            .raw(&plain().0)
            .global("torch", "float32")
            .text("xla:0")
            .raw(b"\x88tR"),
        from_type.raw(b"\x89}t}tR"),
        size,
    ] {
        assert_eq!(*one(tensor, &storage).to_f32().expect("readable"), [1., 2.]);
    }
}

#[test]
fn a_tensor_that_came_by_way_of_numpy() {
    let dtype = op()
        .global("numpy", "dtype")
        .raw(b"(")
        .text("f4")
        .raw(b"\x89\x88tR(K\x03")
        .text("<")
        .raw(b"NNNK\0K\0K\0tb");
    let array = op().global("numpy.core.multiarray", "_reconstruct").raw(b"(").global("numpy", "ndarray");
    let array = array
        .raw(b"K\0\x85C\x01btR(K\x01")
        .ints(&[2])
        .raw(&dtype.0)
        .raw(b"\x89C\x08")
        .raw(&f32s(&[3., 4.]))
        .raw(b"tb");
    let tensor = op().global("torch._utils", "_rebuild_device_tensor_from_numpy").raw(b"(").raw(&array.0);
    let tensor = tensor.global("torch", "float32").text("xla:0").raw(b"\x89tR");
    assert_eq!(*one(tensor, &[]).to_f32().expect("readable"), [3., 4.]);
}

#[test]
fn lazily_negated_views_are_not_taken_for_plain_ones() {
    let tensor =
        op().global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage("torch", "FloatStorage", "0", 1);
    let tensor = tensor.raw(b"K\0").ints(&[1]).ints(&[1]).raw(b"\x89}}").text("neg").raw(b"\x88stR");
    let checkpoint = open(&[("w", tensor)], &[], &[("0", &f32s(&[1.0]))]);
    let error = checkpoint.tensors().require("w").expect_err("not plain");
    assert!(error.to_string().contains("negated"), "{error}");
}

/// Networks that were saved in parts, without a single dict of all tensors.
#[test]
fn state_dicts_within_dicts_are_joined() {
    let tensor = || op().tensor("FloatStorage", "0", 1, 0, &[1], &[1]);
    let part = |name: &str| op().raw(b"}").text(name).raw(&tensor().0).raw(b"s");
    let net = op().raw(b"}").text("decoder").raw(&part("w").0).raw(b"s");
    let net = net.text("bert").raw(&part("b").0).raw(b"s");
    let pickle = Pickle::new().raw(b"}").text("net").raw(&net.0).raw(b"s").text("epoch").raw(b"K\x01s.");
    let file = torch_file(&pickle, &[("0", &f32s(&[2.0]))]);
    let checkpoint = Checkpoint::from_bytes("test.pth", file.into()).expect("opens");
    let names: Vec<&str> = checkpoint.tensors().iter().map(|tensor| tensor.name()).collect();
    assert_eq!(names, ["net.decoder.w", "net.bert.b"]);
    assert_eq!(
        *checkpoint.tensors().require("net.decoder.w").and_then(|w| w.to_f32()).expect("there"),
        [2.0]
    );
}

#[test]
fn state_dicts_are_found_where_each_family_keeps_them() {
    let tensor = op().tensor("FloatStorage", "0", 1, 0, &[], &[]);
    let inner = |key: &str| Pickle::new().raw(b"}").text(key).raw(b"}").text("w").raw(&tensor.0).raw(b"ss.");
    let root = Pickle::new().global("collections", "OrderedDict").raw(b")R").text("w").raw(&tensor.0);
    let root = root.raw(b"s}").text("_metadata").raw(b"Nsb.");
    // A root that is a state dict, and has settings under the key where other projects keep the state dict.
    let settings = Pickle::new().raw(b"}").text("model").raw(b"}").text("hidden").raw(b"K\x10ss").text("w");
    let settings = settings.raw(&tensor.0).raw(b"s.");
    for pickle in [inner("state_dict"), inner("model"), root, settings] {
        let file = torch_file(&pickle, &[("0", &f32s(&[1.0]))]);
        let checkpoint = Checkpoint::from_bytes("x", file.into()).expect("opens");
        assert_eq!(checkpoint.tensors().len(), 1);
        assert_eq!(*checkpoint.tensors().require("w").and_then(|w| w.to_f32()).expect("readable"), [1.0]);
    }
}

#[test]
fn the_last_of_equal_keys_counts() {
    let at = |offset| op().tensor("FloatStorage", "0", 2, offset, &[], &[]);
    let checkpoint = open(&[("w", at(0)), ("w", at(1))], &[], &[("0", &f32s(&[1., 2.]))]);
    assert_eq!(checkpoint.tensors().len(), 1);
    assert_eq!(*checkpoint.tensors().require("w").and_then(|w| w.to_f32()).expect("readable"), [2.]);
}

#[test]
fn paths_of_every_spelling() {
    for (module, class, parts, expected) in [
        ("pathlib", "PosixPath", &["/", "data", "voice"][..], "/data/voice"),
        ("pathlib._local", "PosixPath", &["/data/voice"], "/data/voice"),
        ("pathlib", "PurePosixPath", &["a", "/b"], "/b"),
        ("pathlib", "PosixPath", &[], "."),
        ("pathlib", "WindowsPath", &["C:\\", "data", "voice"], "C:\\data\\voice"),
    ] {
        let path = op().global(module, class).raw(b"(");
        let path = parts.iter().fold(path, |path, part| path.text(part)).raw(b"tR");
        assert_eq!(metadata(path), Value::Path(expected.to_string()));
    }
    // A byte that is not valid UTF-8, as spelled by os.fsdecode and the pickler.
    let path = op().global("pathlib", "PosixPath").raw(b"(X\x04\0\0\0a\xed\xb3\xbftR");
    assert!(
        matches!(metadata(path), Value::Path(path) if path.starts_with('a') && path.contains('\u{fffd}'))
    );
}

#[test]
fn numpy_scalars() {
    let scalar = |module: &str, name: &str, order: &str, bytes: &str| {
        op().global(module, "scalar")
            .raw(b"(")
            .global("numpy", "dtype")
            .raw(b"(")
            .text(name)
            .raw(b"\x89\x88tR(K\x03")
            .text(order)
            .raw(b"NNNK\0K\0K\0tb")
            .global("_codecs", "encode")
            .raw(b"(")
            .text(bytes)
            .text("latin1")
            .raw(b"tRtR")
    };
    let core = "numpy.core.multiarray";
    for (pickle, expected) in [
        (scalar(core, "f8", "<", "\0\0\0\0\0\0\u{f8}\u{3f}"), Value::Float(1.5)),
        (scalar("numpy._core.multiarray", "f8", ">", "\u{3f}\u{f8}\0\0\0\0\0\0"), Value::Float(1.5)),
        (scalar(core, "f4", "<", "\0\0\u{c0}\u{3f}"), Value::Float(1.5)),
        (scalar(core, "i8", "<", "\u{fe}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}"), Value::Int(-2)),
        (scalar(core, "i2", "<", "\u{fe}\u{ff}"), Value::Int(-2)),
        (scalar(core, "u2", "<", "\u{fe}\u{ff}"), Value::Int(65534)),
        (scalar(core, "b1", "|", "\u{1}"), Value::Bool(true)),
    ] {
        assert_eq!(metadata(pickle), expected);
    }
    assert!(matches!(metadata(scalar(core, "M8", "<", "\0")), Value::Malformed(_)));
}

#[test]
fn classes_that_carry_data_keep_it() {
    let state = op().raw(b"}").text("hidden").raw(b"K\x10s");
    let namespace = op().global("argparse", "Namespace").raw(b")\x81").raw(&state.0).raw(b"b");
    assert_eq!(metadata(namespace).get("hidden"), Some(&Value::Int(16)));

    for module in [
        "pytorch_lightning.utilities.parsing",
        "lightning.fabric.utilities.data",
        "lightning_fabric.utilities.data",
    ] {
        let dict = op().global(module, "AttributeDict").raw(b")\x81").text("hidden").raw(b"K\x10s");
        let value = metadata(dict);
        assert_eq!(value.get("hidden"), Some(&Value::Int(16)));
        assert_eq!(value.items().map(<[_]>::len), Some(1));
    }
    let default = op().global("collections", "defaultdict").raw(b"(").global("builtins", "list").raw(b"tR");
    assert_eq!(metadata(default.text("k").raw(b"]s")).get("k"), Some(&Value::List(vec![])));
    let counter = op().global("collections", "Counter").raw(b"(}").text("k").raw(b"K\x02stR");
    assert_eq!(metadata(counter).get("k"), Some(&Value::Int(2)));
    let old = op().global("copy_reg", "_reconstructor").raw(b"(").global("argparse", "Namespace");
    let old = old.global("__builtin__", "object").raw(b"NtR").raw(&state.0).raw(b"b");
    assert_eq!(metadata(old).get("hidden"), Some(&Value::Int(16)));
    let pairs = op().global("collections", "OrderedDict").raw(b"(](").text("k").raw(b"K\x01latR");
    assert_eq!(metadata(pairs).get("k"), Some(&Value::Int(1)));
}

#[test]
fn omegaconf_becomes_what_it_stands_for() {
    // {"_content": {"k": AnyNode(_val=3)}, "_parent": itself}
    let node = op().global("omegaconf.nodes", "AnyNode").raw(b")\x81}").text("_val").raw(b"K\x03sb");
    let config =
        op().global("omegaconf.dictconfig", "DictConfig").raw(b")\x81q\x09}").text("_content").raw(b"}");
    let config = config.text("k").raw(&node.0).raw(b"ss").text("_parent").raw(b"h\x09sb");
    assert_eq!(metadata(config).get("k"), Some(&Value::Int(3)));
}

#[test]
fn builtins_and_torch_values() {
    for (pickle, expected) in [
        (op().global("__builtin__", "set").raw(b"(](K\x01etR"), Value::Set(vec![Value::Int(1)])),
        (op().global("builtins", "frozenset").raw(b"]\x85R"), Value::Set(vec![])),
        (op().global("torch", "Size").raw(b"(").ints(&[2]).raw(b"tR"), Value::Tuple(vec![Value::Int(2)])),
        (op().global("torch", "bfloat16"), Value::DType(DType::BF16)),
        (op().global("torch.optim", "Adam"), Value::Opaque { global: "torch.optim.Adam".to_string() }),
        (op().global("builtins", "bytearray").raw(b"C\x02ab\x85R"), Value::Bytes("ab".into())),
        (op().raw(b"G\x3f\xf8\0\0\0\0\0\0"), Value::Float(1.5)),
        (op().raw(b"F1.5\n"), Value::Float(1.5)),
        (op().raw(b"S'a\\x41'\n"), Value::Str("aA".to_string())),
    ] {
        assert_eq!(metadata(pickle), expected);
    }
    let device = metadata(op().global("torch", "device").raw(b"(").text("cuda").raw(b"K\0tR"));
    assert!(matches!(device, Value::Object(object) if object.args.len() == 2));
}

#[test]
fn what_is_opaque_spoils_nothing_beside_it() {
    let callback = op().global("my.callbacks", "Best").raw(b")\x81}b");
    let checkpoint = open(&[], &[("callbacks", callback), ("epoch", op().raw(b"K\x07"))], &[]);
    assert_eq!(checkpoint.lookup(&["epoch"]).expect("understood"), Some(&Value::Int(7)));
    assert_eq!(checkpoint.lookup(&["none"]).expect("understood"), None);
    assert_eq!(checkpoint.lookup(&["callbacks"]).expect_err("opaque").key(), Some("callbacks"));
}

#[test]
fn buffers_go_to_bytes_without_a_copy() {
    let values = vec![1.0f32, 2.0];
    let at = values.as_ptr().cast::<u8>();
    let buf = F32Buf::from(values);
    let same = buf.clone();
    assert_eq!(*buf, [1.0, 2.0]);
    assert_eq!(buf.into_bytes().as_ptr(), at);
    assert_eq!(same.into_bytes().as_ptr(), at);
    assert!(F32Buf::from(Vec::new()).is_empty());
}

#[test]
fn tensors_of_other_readers_need_the_right_length() {
    let path: std::sync::Arc<std::path::Path> = std::path::Path::new("voice.onnx").into();
    let make = |shape: &[usize], data: &'static [u8]| {
        Tensor::from_bytes(&path, "w", DType::F32, shape.to_vec(), bytes::Bytes::from_static(data))
    };
    let tensor = make(&[2, 1], &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]).unwrap();
    assert_eq!(tensor.to_f32().unwrap()[..], [1.0, -2.0]);
    assert_eq!((tensor.name(), tensor.shape()), ("w", &[2, 1][..]));
    let error = make(&[2, 2], &[0; 8]).unwrap_err().to_string();
    assert!(error.starts_with("voice.onnx: tensor w: ") && error.contains("expected 16 bytes"), "{error}");
    assert!(make(&[usize::MAX, 2], &[]).is_err());
    assert_eq!(make(&[0, 7], &[]).unwrap().to_f32().unwrap().len(), 0);
}

#[test]
fn rearranged_tensors_have_the_elements_of_their_sources() {
    let path: std::sync::Arc<std::path::Path> = std::path::Path::new("voice.onnx").into();
    let sources =
        [[1.0f32, 2.0], [3.0, 4.0]].map(|half| bytes::Bytes::from(half.map(f32::to_le_bytes).concat()));
    let make = |shape: &[usize]| {
        Tensor::rearranged(&path, "w", DType::F32, shape.to_vec(), sources.clone(), |sources| {
            sources.iter().rev().flatten().copied().collect()
        })
    };
    let tensor = make(&[4]).unwrap();
    assert_eq!(tensor.to_f32().unwrap()[..], [3.0, 4.0, 1.0, 2.0]);
    assert_eq!(tensor.sources().unwrap(), sources);
    assert!(make(&[3]).unwrap_err().to_string().contains("expected 12 bytes, found 16 bytes"));
}

#[test]
fn computed_tensors_are_made_when_they_are_asked_for() {
    let path: std::sync::Arc<std::path::Path> = std::path::Path::new("voice.onnx").into();
    let made = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let make = |shape: &[usize], nbytes: usize, data: &'static [u8]| {
        let made = made.clone();
        Tensor::computed(&path, "w", DType::F32, shape.to_vec(), nbytes, move || {
            made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            bytes::Bytes::from_static(data)
        })
    };
    let tensor = make(&[2], 8, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]).unwrap();
    assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(tensor.to_f32().unwrap()[..], [1.0, -2.0]);
    assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(make(&[3], 8, &[]).unwrap_err().to_string().contains("expected 12 bytes, found 8 bytes"));
    let error = make(&[2], 8, &[0; 4]).unwrap().to_f32().unwrap_err().to_string();
    assert!(error.starts_with("voice.onnx: tensor w: ") && error.contains("found 4 bytes"), "{error}");
}
