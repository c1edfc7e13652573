//! The JSON next to the weights, for each family that has one: the first byte selects the family, the rest is
//! the text. Each is either refused, or read as a network all of whose graphs can be written.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vitstream::source::{ReadOptions, load};
use vitstream_vits::NoiseSource;

const FAMILIES: [(&str, &str, &[u8]); 4] = [
    ("hf", "model.safetensors", HF_WEIGHTS),
    ("coqui", "model.pth", include_bytes!("../../../vitstream-vits/tests/golden/families/coqui/model.pth")),
    ("original", "G_0.pth", include_bytes!("../../../vitstream-vits/tests/golden/families/original/G_0.pth")),
    ("vocab", "model.safetensors", HF_WEIGHTS),
];

const HF_WEIGHTS: &[u8] =
    include_bytes!("../../../vitstream-vits/tests/golden/families/hf/model.safetensors");
const HF_CONFIG: &[u8] = include_bytes!("../../../vitstream-vits/tests/golden/families/hf/config.json");

/// One folder per process, with one subfolder per family. It is kept, so that findings can be examined.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("a temporary folder").keep();
    for (name, file, weights) in FAMILIES {
        fs::create_dir(root.join(name)).expect("a new folder");
        fs::write(root.join(name).join(file), weights).expect("a new file");
    }
    fs::write(root.join("vocab/config.json"), HF_CONFIG).expect("a new file");
    root
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, text)) = bytes.split_first() else { return };
    let (name, file, _) = FAMILIES[usize::from(choice) % FAMILIES.len()];
    let folder = FOLDER.join(name);
    let json = if name == "vocab" { "vocab.json" } else { "config.json" };
    fs::write(folder.join(json), text).expect("a file");
    let Ok(source) = load(&folder.join(file), &ReadOptions::default()) else { return };
    let noise = NoiseSource::Internal { seed: None };
    source.model.emit_single(15, noise).expect("a network that was loaded has graphs");
    source.model.emit_stream_decoder(15).expect("a network that was loaded has graphs");
});
