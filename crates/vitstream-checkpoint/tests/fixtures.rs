//! Compares real checkpoints with the results of the crate pytorch-reader.

use std::path::Path;

use pytorch_reader::PytorchReader;
use vitstream_checkpoint::{Checkpoint, DType, Tensor, Value};
use vitstream_testing::{TINY, shared, tiny};

/// Every tensor of `path` has the same bits as in the other reader.
fn compare(path: &Path) {
    let ours = Checkpoint::open(path).expect("a checkpoint");
    let theirs = PytorchReader::with_top_level_key(path, "state_dict").expect("a checkpoint");
    assert_eq!(ours.tensors().len(), theirs.keys().len(), "{}", path.display());
    for tensor in ours.tensors() {
        let other = theirs.get(tensor.name()).expect("the same names");
        assert_eq!(tensor.shape(), other.shape(), "{}", tensor.name());
        let bytes = other.read().expect("its data");
        assert_eq!(tensor.bytes().expect("our data"), bytes.as_slice(), "{}", tensor.name());
        if tensor.dtype() == DType::F32 {
            let floats = tensor.to_f32().expect("floats");
            assert_eq!(floats.len(), tensor.numel());
            assert_eq!(floats.into_bytes(), bytes.as_slice());
        }
    }
}

#[test]
fn equal_to_pytorch_reader() {
    for name in TINY {
        if let Some(path) = tiny(name) {
            compare(&path);
        }
    }
}

#[test]
fn equal_to_pytorch_reader_on_a_real_voice() {
    if let Some(path) = shared("joe/joe.ckpt") {
        compare(&path);
    }
}

#[test]
fn hyper_parameters_of_both_generations() {
    let Some(path) = tiny("multi.ckpt") else { return };
    let checkpoint = Checkpoint::open(path).expect("a checkpoint");
    let hidden = checkpoint.lookup(&["hyper_parameters", "hidden_channels"]).expect("understood");
    assert_eq!(hidden.and_then(Value::as_int), Some(16));

    let Some(path) = tiny("legacy-single.ckpt") else { return };
    let checkpoint = Checkpoint::open(path).expect("a checkpoint");
    let hparams = checkpoint.lookup(&["hyper_parameters"]).expect("understood").expect("present");
    assert!(matches!(hparams.get("resblock_kernel_sizes"), Some(Value::Tuple(_))));
    let items = hparams.items().expect("a dict");
    assert!(
        items.iter().any(|(_, value)| matches!(value, Value::Path(path) if path.contains('/'))),
        "{hparams:?}"
    );
}

#[test]
fn weights_are_not_copied() {
    let Some(path) = tiny("multi.ckpt") else { return };
    let checkpoint = Checkpoint::open(path).expect("a checkpoint");
    let contiguous = |tensor: &&Tensor| tensor.layout().is_contiguous() && tensor.dtype() == DType::F32;
    let mut seen = 0;
    for tensor in checkpoint.tensors().iter().filter(contiguous) {
        let mapped = tensor.bytes().expect("data");
        let floats = tensor.to_f32().expect("floats").into_bytes();
        assert_eq!(mapped.as_ptr(), floats.as_ptr(), "{} was copied", tensor.name());
        seen += 1;
    }
    assert!(seen > 100, "only {seen}");
}

#[test]
fn optimizer_state_is_reachable() {
    let Some(path) = tiny("multi.ckpt") else { return };
    let checkpoint = Checkpoint::open(path).expect("a checkpoint");
    fn count(checkpoint: &Checkpoint, value: &Value) -> usize {
        match value {
            Value::Tensor(reference) => {
                checkpoint.tensor("optimizer", reference).bytes().expect("data");
                1
            }
            other => {
                let items = other.items().unwrap_or_default().iter().map(|(_, value)| value);
                let elements = other.elements().unwrap_or_default();
                items.chain(elements).map(|value| count(checkpoint, value)).sum()
            }
        }
    }
    let optimizers = checkpoint.lookup(&["optimizer_states"]).expect("understood").expect("present");
    assert!(count(&checkpoint, optimizers) > 0);
}
