//! Safetensors files are read as checkpoints, and refused when they are damaged or exceed a limit.

use vitstream_checkpoint::limits::{MAX_HEADER_BYTES, MAX_RANK};
use vitstream_checkpoint::{Checkpoint, DType, Error, ErrorKind, Format, Value};
use vitstream_testing::torch::f32s;

/// A file with this header, followed by these bytes.
fn file(header: &str, body: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), body].concat()
}

fn open(file: Vec<u8>) -> Result<Checkpoint, Error> {
    Checkpoint::from_bytes("test.safetensors", file.into())
}

#[track_caller]
fn refused(file: Vec<u8>) -> Error {
    let error = open(file).expect_err("refused");
    assert!(error.to_string().contains("test.safetensors"), "{error}");
    error
}

#[test]
fn tensors_and_texts_are_read_in_file_order() {
    let header = r#"{"__metadata__":{"format":"pt","a":"b"},
        "w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},
        "half":{"dtype":"F16","shape":[2],"data_offsets":[16,20]},
        "empty":{"dtype":"F32","shape":[0,3],"data_offsets":[20,20]},
        "n":{"dtype":"I64","shape":[],"data_offsets":[20,28]}}"#;
    let body = [&f32s(&[1.0, 2.0, 3.0, 4.0])[..], &[0, 0x3c, 0, 0xc0], &7i64.to_le_bytes()].concat();
    let checkpoint = open(file(header, &body)).expect("opens");
    assert_eq!(checkpoint.format(), Format::Safetensors);
    let names: Vec<&str> = checkpoint.tensors().iter().map(|tensor| tensor.name()).collect();
    assert_eq!((names[0], names.len()), ("w", 4));
    let tensor = |name: &str| checkpoint.tensors().require(name).expect("there");
    assert_eq!((tensor("w").dtype(), tensor("w").shape()), (DType::F32, &[2, 2][..]));
    assert_eq!(*tensor("w").to_f32().expect("floats"), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(*tensor("half").to_f32().expect("floats"), [1.0, -2.0]);
    assert_eq!(tensor("empty").to_f32().expect("floats").len(), 0);
    assert_eq!(tensor("n").to_i64().expect("integers"), [7]);
    assert_eq!(checkpoint.metadata().get("format"), Some(&Value::Str("pt".to_owned())));
    assert_eq!(checkpoint.lookup(&["hyper_parameters"]).expect("readable"), None);
    let error = tensor("n").to_f32().expect_err("integers");
    assert!(error.to_string().contains("test.safetensors: tensor n"), "{error}");
}

#[test]
fn axes_of_length_1_come_and_go() {
    let header = r#"{"w":{"dtype":"F32","shape":[1,4,1],"data_offsets":[0,16]}}"#;
    let checkpoint = open(file(header, &f32s(&[1.0, 2.0, 3.0, 4.0]))).expect("opens");
    let tensor = checkpoint.tensors().require("w").expect("there");
    for shape in [&[4][..], &[4, 1], &[1, 1, 4], &[1, 4, 1]] {
        let other = tensor.with_unit_axes(shape).expect("the same but for axes of length 1");
        assert_eq!((other.shape(), other.name()), (shape, "w"));
        assert_eq!(*other.to_f32().expect("floats"), [1.0, 2.0, 3.0, 4.0]);
    }
    for shape in [&[2, 2][..], &[], &[1], &[4, 4], &[0]] {
        tensor.with_unit_axes(shape).expect_err("other axes");
    }
}

#[test]
fn damage_is_named() {
    let intact = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let body = f32s(&[1.0, 2.0]);
    assert!(open(file(intact, &body)).is_ok());
    for length in 9..file(intact, &body).len() {
        refused(file(intact, &body)[..length].to_vec());
    }
    let with = |header: &str| refused(file(header, &body)).to_string();
    for header in [
        r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
        r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"w":{"dtype":"F32","shape":[18446744073709551615,18446744073709551615],"data_offsets":[0,8]}}"#,
        r#"{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"w":{"dtype":"F32","shape":[2]}}"#,
        r#"{"w":1}"#,
        "{ ",
    ] {
        assert!(with(header).contains("damaged safetensors file"), "{header}");
    }
    // One byte is not a header, so this is not a safetensors file at all.
    assert!(with("{").contains("of an unknown format"), "{}", with("{"));
    let nested = format!("{{\"w\":{}", "[".repeat(100_000));
    assert!(with(&nested).len() < 600, "the message is short");
    let unknown = with(r#"{"w":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#);
    assert!(unknown.contains("tensor w") && unknown.contains("F8_E4M3"), "{unknown}");
}

#[test]
fn limits_hold() {
    let mut huge = (MAX_HEADER_BYTES + 1).to_le_bytes().to_vec();
    huge.push(b'{');
    assert!(matches!(refused(huge).kind(), ErrorKind::Limit { .. }));
    let mut endless = u64::MAX.to_le_bytes().to_vec();
    endless.push(b'{');
    assert!(matches!(refused(endless).kind(), ErrorKind::Limit { .. }));
    let shape = vec!["1"; MAX_RANK + 1].join(",");
    let header = format!(r#"{{"w":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,4]}}}}"#);
    assert!(matches!(refused(file(&header, &f32s(&[1.0]))).kind(), ErrorKind::Limit { .. }));
}
