//! Malicious and damaged files. Each gives an error that says what is wrong.

use std::process::Command;

use bytes::Bytes;
use proptest::prelude::*;
use vitstream_checkpoint::limits::{MAX_DEPTH, MAX_GATHER_BYTES};
use vitstream_checkpoint::{Checkpoint, Error, ErrorKind, Value};
use vitstream_testing::torch::{Pickle, f32s, op, torch_file};
use vitstream_testing::{tiny, zip};

fn open(file: Vec<u8>) -> Result<Checkpoint, Error> {
    Checkpoint::from_bytes("test.ckpt", file.into())
}

fn refused(file: Vec<u8>) -> Error {
    open(file).expect_err("refused")
}

/// A checkpoint with one intact tensor, `good`, and others next to it.
fn with(name: &str, tensor: Pickle) -> Checkpoint {
    let good = op().tensor("FloatStorage", "0", 4, 0, &[4], &[1]);
    let pickle = Pickle::checkpoint(&[("good", good), (name, tensor)], &[]);
    open(torch_file(&pickle, &[("0", &f32s(&[1.0, 2.0, 3.0, 4.0]))])).expect("opens")
}

/// The error of reading the tensor `bad`, while the tensor next to it stays readable.
fn broken(tensor: Pickle) -> Error {
    let checkpoint = with("bad", tensor);
    let good = checkpoint.tensors().require("good").expect("intact");
    assert_eq!(*good.to_f32().expect("intact"), [1.0, 2.0, 3.0, 4.0]);
    checkpoint.tensors().require("bad").and_then(|bad| bad.to_f32()).expect_err("broken")
}

#[test]
fn nothing_is_executed() {
    let folder = tempfile::tempdir().expect("a folder");
    let marker = folder.path().join("executed");
    let command = format!("touch {}", marker.display());
    let call = op().global("os", "system").raw(b"(").text(&command).raw(b"tR");
    let file = torch_file(&Pickle::checkpoint(&[("w", call.clone())], &[("hyper_parameters", call)]), &[]);
    let path = folder.path().join("evil.ckpt");
    std::fs::write(&path, file).expect("written");

    let checkpoint = Checkpoint::open(&path).expect("opens: nobody has asked for the call's result");
    let error = checkpoint.lookup(&["hyper_parameters", "hidden_channels"]).expect_err("depends on it");
    assert!(matches!(error.kind(), ErrorKind::UnknownGlobal(global) if global == "os.system"), "{error}");
    let error = checkpoint.tensors().require("w").expect_err("depends on it");
    assert!(error.to_string().contains("os.system") && error.to_string().contains("evil.ckpt"), "{error}");
    assert!(!marker.exists());
    // The command itself would have worked.
    assert!(Command::new("sh").args(["-c", &command]).status().is_ok_and(|status| status.success()));
    assert!(marker.exists());
}

#[test]
fn a_pickled_module_as_a_whole_is_refused_by_name() {
    let pickle = Pickle::new().global("models", "SynthesizerTrn").raw(b")\x81}b.");
    let error = refused(torch_file(&pickle, &[]));
    assert!(error.to_string().contains("models.SynthesizerTrn") && error.remedy_text().is_some(), "{error}");
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close, depth) in [("]", "a", 100_000), ("(", "t", 100_000), ("}N", "s", 100_000)] {
        let mut pickle = Pickle::new().raw(&open.as_bytes().repeat(depth)).raw(b"N");
        pickle = pickle.raw(&close.as_bytes().repeat(depth)).raw(b".");
        let error = refused(torch_file(&pickle, &[]));
        assert!(
            matches!(error.kind(), ErrorKind::Limit { limit, .. } if *limit == MAX_DEPTH as u64),
            "{error}"
        );
    }
    // Parameters of parameters do not pass through containers.
    let mut pickle = Pickle::new().raw(b"}").text("w");
    for _ in 0..10_000 {
        pickle = pickle.global("torch._utils", "_rebuild_parameter").raw(b"(");
    }
    pickle = pickle.tensor("FloatStorage", "0", 1, 0, &[], &[]);
    pickle = pickle.raw(&b"tR".repeat(10_000)).raw(b"s.");
    assert!(matches!(refused(torch_file(&pickle, &[])).kind(), ErrorKind::Limit { .. }));
}

#[test]
fn memo_bombs_are_refused() {
    // Each list holds the one before twice: 2^64 values in 600 bytes.
    let mut lists = Pickle::new().raw(b"]q\0");
    for slot in 0..64u8 {
        lists = lists.raw(&[b'0', b'(', b'h', slot, b'h', slot, b'l', b'q', slot + 1]);
    }
    assert!(matches!(refused(torch_file(&lists.raw(b"."), &[])).kind(), ErrorKind::Limit { .. }));

    // One text of a megabyte, repeated a thousand times.
    let text = Pickle::new().raw(b"]").text(&"x".repeat(1 << 20)).raw(b"q\0a").raw(&b"h\0a".repeat(1000));
    assert!(matches!(refused(torch_file(&text.raw(b"."), &[])).kind(), ErrorKind::Limit { .. }));

    let dup = Pickle::new().raw(b"]").raw(&b"2".repeat(2 << 20));
    assert!(matches!(refused(torch_file(&dup.raw(b"."), &[])).kind(), ErrorKind::Limit { .. }));
}

#[test]
fn cycles_are_cut() {
    let cycle = op().raw(b"]q\0h\0a");
    let checkpoint = open(torch_file(&Pickle::checkpoint(&[], &[("loop", cycle)]), &[])).expect("opens");
    assert_eq!(checkpoint.metadata().get("loop"), Some(&Value::List(vec![Value::Cycle])));
}

#[test]
fn exabytes_are_refused() {
    let huge = i64::MAX;
    let error = broken(op().tensor("FloatStorage", "0", huge, 0, &[huge], &[1]));
    assert!(error.to_string().contains("overflows"), "{error}");
    let error = broken(op().tensor("FloatStorage", "0", 1 << 60, 0, &[1 << 60], &[1]));
    assert!(matches!(error.kind(), ErrorKind::StorageTooShort(_)), "{error}");
    let error = broken(op().tensor("FloatStorage", "0", 4, 0, &[1 << 40, 1 << 40], &[0, 0]));
    assert!(error.to_string().contains("overflows"), "{error}");
    // An expanded view of one element is covered by the storage, whatever its size.
    let error = broken(op().tensor("FloatStorage", "0", 4, 0, &[1 << 50], &[0]));
    assert!(matches!(error.kind(), ErrorKind::TooLarge), "{error}");
    assert_eq!(error.expected_text(), Some(format!("at most {MAX_GATHER_BYTES} bytes").as_str()));
}

#[test]
fn a_short_storage_names_the_tensor_and_both_lengths() {
    let error = broken(op().tensor("FloatStorage", "0", 100, 0, &[10, 10], &[10, 1]));
    assert_eq!(error.key(), Some("tensor bad"));
    assert!(error.expected_text().is_some_and(|text| text.contains("400 bytes")), "{error}");
    assert_eq!(error.found_text(), Some("16 bytes"));
    // The tensor fits, but the storage is not what the pickle claims.
    let error = broken(op().tensor("FloatStorage", "0", 100, 0, &[2], &[1]));
    assert_eq!((error.expected_text(), error.found_text()), (Some("400 bytes"), Some("16 bytes")));
}

#[test]
fn views_beyond_the_storage_are_refused() {
    for (offset, size, stride) in [(1, &[4][..], &[1][..]), (0, &[2, 2], &[3, 1]), (i64::MAX, &[1], &[1])] {
        let error = broken(op().tensor("FloatStorage", "0", 4, offset, size, stride));
        assert!(error.to_string().contains("tensor bad"), "{error}");
    }
    // Within the entry, but beyond the length that the pickle claims.
    let error = broken(op().tensor("FloatStorage", "0", 2, 0, &[4], &[1]));
    assert!(matches!(error.kind(), ErrorKind::StorageTooShort(_)), "{error}");
}

#[test]
fn malformed_tensors_spoil_only_themselves() {
    let v2 = || op().global("torch._utils", "_rebuild_tensor_v2");
    for tensor in [
        v2().raw(b")R"),
        v2().raw(b"(NNNNNNtR"),
        v2().raw(b"NR"),
        op().tensor("FloatStorage", "0", 4, -1, &[4], &[1]),
        op().tensor("FloatStorage", "0", 4, 0, &[-4], &[1]),
        op().tensor("FloatStorage", "0", 4, 0, &[4], &[-1]),
        op().tensor("FloatStorage", "0", 4, 0, &[4], &[]),
        op().tensor("FloatStorage", "0", 4, 0, &[1; 65], &[1; 65]),
        op().tensor("ComplexFloatStorage", "0", 4, 0, &[4], &[1]),
        op().tensor("FloatStorage", "no such key", 4, 0, &[4], &[1]),
        op().tensor("FloatStorage", "../data.pkl", 4, 0, &[4], &[1]),
        op().raw(b"K\x07"),
    ] {
        let error = broken(tensor);
        assert_eq!(error.key(), Some("tensor bad"), "{error}");
    }
    assert!(matches!(
        with("x", op().raw(b"N")).tensors().require("y").expect_err("missing").kind(),
        ErrorKind::MissingTensor
    ));
}

#[test]
fn big_endian_is_refused_by_name() {
    let pickle = Pickle::checkpoint(&[], &[]);
    let file = |order: &[u8]| zip::write(&[("a/data.pkl", &pickle.0), ("a/byteorder", order)]);
    assert!(matches!(refused(file(b"big")).kind(), ErrorKind::BigEndian));
    assert!(refused(file(b"middle")).to_string().contains("middle"));
    open(file(b"little")).expect("little is fine");
}

#[test]
fn other_zips_are_refused_by_name() {
    let pickle = Pickle::checkpoint(&[], &[]).0;
    assert!(refused(zip::write(&[("word/document.xml", b"")])).to_string().contains("without data.pkl"));
    assert!(
        refused(zip::write(&[("m/data.pkl", &pickle), ("m/constants.pkl", b"")]))
            .to_string()
            .contains("TorchScript")
    );
    assert!(
        refused(zip::write(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle)]))
            .to_string()
            .contains("more than one")
    );
    assert!(
        refused(zip::write(&[("a/data.pkl", &pickle), ("a/data.pkl", &pickle)]))
            .to_string()
            .contains("two entries")
    );
    assert!(refused(zip::write(&[("a/data.pkl", &pickle)]).repeat(2)).to_string().contains("end record"));
    open(zip::write(&[("data.pkl", &pickle)])).expect("a prefix is not needed");
    open(zip::write(&[("a/b/data.pkl", &pickle)])).expect("nor is it one folder");
}

#[test]
fn no_state_dict_lists_the_keys() {
    let pickle = Pickle::new().raw(b"}").text("generator").raw(b"}s.");
    assert!(refused(torch_file(&pickle, &[])).to_string().contains("generator"));
}

/// Applies `change` to the directory's record of the entry `name`.
fn tampered(name: &str, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let pickle = Pickle::checkpoint(&[("w", op().tensor("FloatStorage", "0", 4, 0, &[4], &[1]))], &[]);
    let mut file = torch_file(&pickle, &[("0", &f32s(&[1.0; 4])), ("1", &f32s(&[1.0; 100]))]);
    let central =
        |at: &usize| file[*at..].starts_with(b"PK\x01\x02") && file[at + 46..].starts_with(name.as_bytes());
    let at = (0..file.len() - 46).find(central).expect("the entry");
    change(&mut file[at..]);
    file
}

#[test]
fn a_directory_that_contradicts_itself_is_refused() {
    let name = "archive/data/0";
    let deflated = tampered(name, |record| record[10] = 8);
    let error =
        open(deflated).expect("opens").tensors().require("w").and_then(|w| w.bytes()).expect_err("deflated");
    assert!(matches!(error.kind(), ErrorKind::Compressed(_)), "{error}");
    let encrypted = tampered(name, |record| record[8] |= 1);
    assert!(open(encrypted).expect("opens").tensors().require("w").and_then(|w| w.bytes()).is_err());

    let moved = |to: u32| tampered(name, move |record| record[42..46].copy_from_slice(&to.to_le_bytes()));
    assert!(refused(moved(u32::MAX - 1)).to_string().contains("out of bounds"));
    assert!(refused(moved(u32::MAX)).to_string().contains("64-bit"));
    assert!(refused(moved(0)).to_string().contains("overlaps"));
    let longer = tampered(name, |record| {
        record[20..24].copy_from_slice(&150u32.to_le_bytes());
        record[24..28].copy_from_slice(&150u32.to_le_bytes());
    });
    assert!(refused(longer).to_string().contains("overlaps"));
    let uneven = tampered(name, |record| record[24] += 1);
    assert!(refused(uneven).to_string().contains("lengths differ"));
}

#[test]
fn a_wrong_checksum_is_refused_where_it_is_used() {
    let with_crc = |name: &str, crc: u32| {
        open(tampered(name, move |record| record[16..20].copy_from_slice(&crc.to_le_bytes())))
    };
    let read = |checkpoint: &Checkpoint| checkpoint.tensors().require("w")?.to_f32();
    let right = crc32fast::hash(&f32s(&[1.0; 4]));
    let checkpoint = with_crc("archive/data/0", right).expect("opens");
    // Read twice: the second time the checksum is already verified.
    assert!(read(&checkpoint).is_ok() && read(&checkpoint).is_ok());
    let error = read(&with_crc("archive/data/0", right ^ 1).expect("opens")).expect_err("damaged");
    assert!(matches!(error.kind(), ErrorKind::Checksum(_)) && error.key() == Some("tensor w"), "{error}");
    assert!(error.to_string().contains("damaged download"), "{error}");
    // The other storage is not needed, and 0 means that the checksum was not computed.
    assert!(read(&with_crc("archive/data/1", 1).expect("opens")).is_ok());
    assert!(read(&with_crc("archive/data/0", 0).expect("opens")).is_ok());
    let error = with_crc("archive/data.pkl", 1).expect_err("the pickle is needed");
    assert!(matches!(error.kind(), ErrorKind::Checksum(_)), "{error}");
}

#[test]
fn an_end_record_within_a_comment_is_none() {
    let pickle = Pickle::checkpoint(&[("w", op().tensor("FloatStorage", "0", 1, 0, &[1], &[1]))], &[]);
    let file = torch_file(&pickle, &[("0", &f32s(&[7.0]))]);
    let end = file.len() - 22;
    let commented = |comment: &[u8]| {
        let mut file = file.clone();
        let length = u16::try_from(comment.len()).expect("short");
        file[end + 20..].copy_from_slice(&length.to_le_bytes());
        file.extend(comment);
        open(file)
    };
    let value = |checkpoint: Checkpoint| checkpoint.tensors().require("w").and_then(|w| w.to_f32());
    assert_eq!(*value(commented(b"a comment").expect("opens")).expect("there"), [7.0]);
    // Copies of the record itself, with and without data after it; and one of an empty archive.
    let empty = [&b"PK\x05\x06"[..], &[0; 18]].concat();
    for comment in [file[end..].to_vec(), [&file[end..], b"x"].concat(), empty.clone()] {
        assert_eq!(*value(commented(&comment).expect("opens")).expect("there"), [7.0]);
    }
    // A record that describes an empty directory at its own position: it is unclear which of the two is
    // meant.
    let mut other = empty;
    other[16..20].copy_from_slice(&u32::try_from(file.len()).expect("short").to_le_bytes());
    assert!(commented(&other).expect_err("two").to_string().contains("two end records"));
}

#[test]
fn messages_stay_short_whatever_a_file_calls_its_things() {
    let name = "n\u{1b}".repeat(1 << 20);
    let tensor = op().tensor("FloatStorage", "no such key", 4, 0, &[4], &[1]);
    let error = with(&name, tensor).tensors().require(&name).and_then(|w| w.to_f32()).expect_err("missing");
    assert!(error.to_string().len() < 1000 && !error.to_string().contains('\u{1b}'));
    let error = with("bad", op().tensor("FloatStorage", &name, 4, 0, &[4], &[1]));
    let error = error.tensors().require("bad").and_then(|w| w.to_f32()).expect_err("missing");
    assert!(error.to_string().len() < 1000 && !error.to_string().contains('\u{1b}'));
    let pickle = Pickle::new().raw(b"}").text(&name).raw(b"}s.");
    assert!(refused(torch_file(&pickle, &[])).to_string().len() < 1000);
}

#[test]
fn the_files_of_a_zip_are_told() {
    let file = Bytes::from(zip::write(&[("voice/", b""), ("voice/b.ckpt", b"12345"), ("a.json", b"{}")]));
    let members = vitstream_checkpoint::zip_members("a.zip".as_ref(), &file).expect("a zip");
    let told: Vec<(&str, u64, &[u8])> =
        members.iter().map(|member| (&*member.name, member.len, &*member.data)).collect();
    assert_eq!(told, [("voice/b.ckpt", 5, &b"12345"[..]), ("a.json", 2, b"{}")]);
    assert!(members.iter().all(|member| member.packing == vitstream_checkpoint::Packing::Stored));
}

#[test]
fn files_of_other_kinds_and_no_files_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(Checkpoint::open(folder.path()).expect_err("a folder").to_string().contains("a directory"));
    let missing = Checkpoint::open(folder.path().join("none.ckpt")).expect_err("missing");
    assert!(matches!(missing.kind(), ErrorKind::Io(_)) && missing.to_string().contains("none.ckpt"));
    let empty = folder.path().join("empty.ckpt");
    std::fs::write(&empty, b"").expect("written");
    assert!(Checkpoint::open(&empty).expect_err("empty").to_string().contains("an empty file"));
}

#[test]
fn a_truncated_file_says_so_wherever_it_ends() {
    let Some(path) = tiny("legacy-single.ckpt") else { return };
    let data = Bytes::from(std::fs::read(path).expect("readable"));
    let ends = (2..data.len()).step_by(997).chain(data.len().saturating_sub(2000)..data.len());
    for end in ends {
        let error = Checkpoint::from_bytes("cut.ckpt", data.slice(..end)).expect_err("cut off");
        assert!(matches!(error.kind(), ErrorKind::Truncated), "at {end}: {error}");
    }
}

fn real() -> Option<Vec<u8>> {
    std::fs::read(tiny("textual.ckpt")?).ok()
}

fn look_at_everything(checkpoint: &Checkpoint) {
    for tensor in checkpoint.tensors().iter().filter(|tensor| tensor.nbytes() < 1 << 20) {
        if let Ok(values) = tensor.to_f32() {
            assert_eq!(values.len(), tensor.numel());
        }
    }
    assert!(!format!("{:?}", checkpoint.metadata()).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Opening and reading never panic, whatever a few bytes are changed to.
    #[test]
    fn mutated_checkpoints_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..24)
    ) {
        static FILE: std::sync::LazyLock<Option<Vec<u8>>> = std::sync::LazyLock::new(real);
        let Some(mut file) = FILE.clone() else { return Ok(()) };
        // Half of the changes hit the pickle at the start or the directory at the end, the rest anywhere.
        let (len, edge) = (file.len(), 160_000);
        for (index, byte, anywhere) in changes {
            let at = match index.index(2 * edge) {
                _ if anywhere => index.index(len),
                near if near < edge => near.min(len - 1),
                near => len.saturating_sub(near - edge + 1),
            };
            file[at] = byte;
        }
        if let Ok(checkpoint) = open(file) {
            look_at_everything(&checkpoint);
        }
    }

    /// Arbitrary bytes as a pickle.
    #[test]
    fn arbitrary_pickles_do_no_harm(pickle in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(checkpoint) = open(torch_file(&Pickle(pickle), &[])) {
            look_at_everything(&checkpoint);
        }
    }
}
