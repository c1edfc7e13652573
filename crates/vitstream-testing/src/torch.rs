//! Writers of small checkpoints: pickles opcode by opcode, in the zip that torch.save makes.

use crate::zip;

/// Writes pickles, opcode by opcode.
#[derive(Clone, Default)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    /// Of protocol 2.
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    /// These bytes.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A text.
    pub fn text(self, text: &str) -> Self {
        let len = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&len).raw(text.as_bytes())
    }

    /// A whole number.
    pub fn int(self, value: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&value.to_le_bytes())
    }

    /// A Python global.
    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// A tuple of whole numbers.
    pub fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.raw(b"("), |p, &value| p.int(value)).raw(b"t")
    }

    /// A `_rebuild_tensor_v2` of a storage of `class` with `claimed` elements.
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

    /// A reference to a storage of `claimed` elements.
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

/// A value's opcodes, without the protocol header.
pub fn op() -> Pickle {
    Pickle(Vec::new())
}

/// A zip as torch.save writes it: pickle, storages.
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
