//! Checkpoints in memory: the repository's checkpoints are taken apart, changed, and written again in the
//! format of torch.save.

use std::path::Path;

use vitstream_checkpoint::{Checkpoint, Value};

use crate::torch::{Pickle, f32s, op, torch_file};

/// A tensor and its key.
#[derive(Clone)]
pub struct Entry {
    /// Key in the file.
    pub key: String,
    /// Lengths of the axes.
    pub dims: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// A Lightning checkpoint's state dict and hyper-parameters.
#[derive(Clone)]
pub struct StateDict {
    /// Tensors in file order.
    pub entries: Vec<Entry>,
    /// Hyper-parameters of the Lightning module.
    pub hyper_parameters: Vec<(Value, Value)>,
}

impl StateDict {
    /// Reads the checkpoint at `path`.
    pub fn open(path: &Path) -> Self {
        let checkpoint = Checkpoint::open(path).unwrap();
        let entry = |tensor: &vitstream_checkpoint::Tensor| Entry {
            key: tensor.name().to_owned(),
            dims: tensor.shape().to_vec(),
            values: tensor.to_f32().unwrap().to_vec(),
        };
        let hyper_parameters = checkpoint.lookup(&["hyper_parameters"]).unwrap().unwrap();
        Self {
            entries: checkpoint.tensors().iter().map(entry).collect(),
            hyper_parameters: hyper_parameters.items().unwrap().to_vec(),
        }
    }

    /// The tensor called `key`.
    #[track_caller]
    pub fn get(&mut self, key: &str) -> &mut Entry {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key);
        entry.unwrap_or_else(|| panic!("there is no {key}"))
    }

    /// Removes the tensor called `key`.
    #[track_caller]
    pub fn remove(&mut self, key: &str) -> Entry {
        let at = self.entries.iter().position(|entry| entry.key == key);
        self.entries.remove(at.unwrap_or_else(|| panic!("there is no {key}")))
    }

    /// Adds a tensor whose elements are all `value`.
    pub fn insert(&mut self, key: &str, dims: &[usize], value: f32) {
        let values = vec![value; dims.iter().product()];
        self.entries.push(Entry { key: key.to_owned(), dims: dims.to_vec(), values });
    }

    /// Sets a hyper-parameter, or removes it.
    pub fn set(&mut self, name: &str, value: Option<Value>) {
        self.hyper_parameters.retain(|(key, _)| key.as_str() != Some(name));
        self.hyper_parameters.extend(value.map(|value| (Value::Str(name.into()), value)));
    }

    /// Applies `rename` to every key.
    pub fn rename(&mut self, rename: impl Fn(&str) -> String) {
        for entry in &mut self.entries {
            entry.key = rename(&entry.key);
        }
    }

    /// Returns the bytes of the file.
    pub fn write(&self) -> Vec<u8> {
        self.write_with(|_| {})
    }

    /// Returns the bytes of the file after `change` has been applied to its pickle.
    pub fn write_with(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let keys: Vec<String> = (0..self.entries.len()).map(|i| i.to_string()).collect();
        let storages: Vec<Vec<u8>> = self.entries.iter().map(|entry| f32s(&entry.values)).collect();
        let tensors: Vec<(&str, Pickle)> = self
            .entries
            .iter()
            .zip(&keys)
            .map(|(entry, key)| {
                let size: Vec<i64> = entry.dims.iter().map(|&n| n as i64).collect();
                let stride: Vec<i64> =
                    (0..size.len()).map(|axis| size[axis + 1..].iter().product()).collect();
                let count = entry.values.len() as i64;
                (entry.key.as_str(), op().tensor("FloatStorage", key, count, 0, &size, &stride))
            })
            .collect();
        let hyper_parameters = pickled(&Value::Dict(self.hyper_parameters.clone()));
        let mut pickle = Pickle::checkpoint(&tensors, &[("hyper_parameters", hyper_parameters)]);
        change(&mut pickle.0);
        let storages: Vec<(&str, &[u8])> =
            keys.iter().zip(&storages).map(|(key, data)| (key.as_str(), data.as_slice())).collect();
        torch_file(&pickle, &storages)
    }

    /// Writes the file and reads it as a checkpoint.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::from_bytes("test.ckpt", self.write().into()).unwrap()
    }
}

/// The opcodes that produce `value`.
pub fn pickled(value: &Value) -> Pickle {
    let all = |mark: &[u8], values: &mut dyn Iterator<Item = &Value>, end: &[u8]| {
        values.fold(op().raw(mark), |pickle, value| pickle.raw(&pickled(value).0)).raw(end)
    };
    match value {
        Value::None => op().raw(b"N"),
        Value::Bool(true) => op().raw(b"\x88"),
        Value::Bool(false) => op().raw(b"\x89"),
        Value::Int(number) => op().int(*number),
        Value::Float(number) => op().raw(b"G").raw(&number.to_be_bytes()),
        Value::Str(text) => op().text(text),
        Value::Path(text) => op().text(text),
        Value::List(values) => all(b"(", &mut values.iter(), b"l"),
        Value::Tuple(values) => all(b"(", &mut values.iter(), b"t"),
        Value::Dict(items) => all(b"(", &mut items.iter().flat_map(|(key, value)| [key, value]), b"d"),
        other => panic!("{} is not written by the tests", other.describe()),
    }
}
