//! Opens a checkpoint and reads all of it. It must not panic, hang, or take unbounded memory.

use bytes::Bytes;
use vitstream_checkpoint::{Checkpoint, Tensor, Value};

pub fn walk(file: Vec<u8>) {
    match Checkpoint::from_bytes("fuzz", Bytes::from(file)) {
        Ok(checkpoint) => {
            checkpoint.tensors().iter().for_each(read);
            for (name, _) in checkpoint.tensors().others() {
                let _ = checkpoint.tensors().require(name).map_err(|e| e.to_string());
            }
            references(&checkpoint, checkpoint.metadata());
            let _ = checkpoint.lookup(&["hyper_parameters", "hidden_channels"]).map_err(|e| e.to_string());
        }
        Err(error) => drop(error.to_string()),
    }
}

/// Skips views of stride 0, which may have a gigabyte, so that the fuzzer spends its time elsewhere.
fn read(tensor: &Tensor) {
    if tensor.layout().is_contiguous() || tensor.nbytes() < 1 << 16 {
        let _ = tensor.bytes().map_err(|e| e.to_string());
        let _ = tensor.to_f32().map(|buf| buf.iter().sum::<f32>());
        let _ = tensor.to_i64().map_err(|e| e.to_string());
    }
}

fn references(checkpoint: &Checkpoint, value: &Value) {
    let _ = value.describe().to_string();
    if let Value::Tensor(reference) = value {
        read(&checkpoint.tensor("reference", reference));
    }
    for (key, value) in value.items().unwrap_or_default() {
        references(checkpoint, key);
        references(checkpoint, value);
    }
    for value in value.elements().unwrap_or_default() {
        references(checkpoint, value);
    }
}
