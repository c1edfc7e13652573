//! What the tests share: where fixtures lie, and writers of small zips and pickles.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::path::{Path, PathBuf};

pub mod zip;

/// The committed checkpoint `name`, or that of the shared fixtures.
pub fn tiny(name: &str) -> Option<PathBuf> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-vits/tests/golden").join(name);
    if committed.is_file() {
        return Some(committed);
    }
    shared(&format!("tiny/{name}"))
}

/// A file of the shared fixtures; says that the test is skipped when it is not there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VITSTREAM_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    let path = root.join(name);
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

pub const TINY: [&str; 9] = [
    "single.ckpt",
    "multi.ckpt",
    "nosdp.ckpt",
    "multi-nosdp.ckpt",
    "high.ckpt",
    "high-multi.ckpt",
    "textual.ckpt",
    "legacy-single.ckpt",
    "legacy-multi-nosdp.ckpt",
];

/// Writes pickles, opcode by opcode.
#[derive(Clone, Default)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, text: &str) -> Self {
        let len = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&len).raw(text.as_bytes())
    }

    pub fn int(self, value: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&value.to_le_bytes())
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

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

pub fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
