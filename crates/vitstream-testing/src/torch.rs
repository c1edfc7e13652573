//! Writers of small checkpoints: pickles opcode by opcode, in the zip layout of torch.save.

use crate::zip;

/// Writes a pickle opcode by opcode.
#[derive(Clone, Default)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    /// An empty pickle of protocol 2.
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    /// Appends raw bytes.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a string.
    pub fn text(self, text: &str) -> Self {
        let len = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&len).raw(text.as_bytes())
    }

    /// Appends an integer.
    pub fn int(self, value: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&value.to_le_bytes())
    }

    /// Appends a Python global.
    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// Appends a tuple of integers.
    pub fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.raw(b"("), |p, &value| p.int(value)).raw(b"t")
    }

    /// Appends a `_rebuild_tensor_v2` call for a storage of `class` that claims `claimed` elements.
    pub fn tensor(
        self,
        class: &str,
        key: &str,
        claimed: i64,
        offset: i64,
        size: &[i64],
        stride: &[i64],
    ) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .storage("torch", class, key, claimed)
            .int(offset)
            .ints(size)
            .ints(stride)
            .raw(b"\x89")
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }

    /// Appends a reference to a storage that claims `claimed` elements.
    pub fn storage(self, module: &str, class: &str, key: &str, claimed: i64) -> Self {
        self.raw(b"(").text("storage").global(module, class).text(key).text("cpu").int(claimed).raw(b"tQ")
    }

    /// The pickle of `{"state_dict": {KEY: VALUE, ...}, KEY: VALUE...}`; each value is written by its function.
    pub fn checkpoint(tensors: &[(&str, Pickle)], rest: &[(&str, Pickle)]) -> Self {
        let mut pickle = Self::new().raw(b"}").text("state_dict").raw(b"}(");
        for (key, value) in tensors {
            pickle = pickle.text(key).raw(&value.0);
        }
        pickle = pickle.raw(b"us");
        for (key, value) in rest {
            pickle = pickle.text(key).raw(&value.0).raw(b"s");
        }
        pickle.raw(b".")
    }
}

/// A pickle without a protocol header, for the opcodes of one value.
pub fn op() -> Pickle {
    Pickle(Vec::new())
}

/// A zip in the layout of torch.save: the pickle and the storages.
pub fn torch_file(pickle: &Pickle, storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("archive/data/{key}")).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("archive/data.pkl", &pickle.0)];
    entries.extend(names.iter().zip(storages).map(|(name, (_, data))| (name.as_str(), *data)));
    zip::write(&entries)
}

/// The bytes of `values`.
pub fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
