//! `include/vitstream.h` is what cbindgen makes of `src/abi.rs`.

use std::fs;
use std::path::Path;

const NOTICE: &str = "/* A trained VITS / Piper voice, streamed. Written by cbindgen from bindings/c/src/abi.rs; `BLESS=1 cargo test -p vitstream-c`\n \
                      * writes it anew. Pointers are NULL where that is allowed, or point to what is said; handles are those that this library\n \
                      * gave and that were not freed. */";

#[test]
fn the_header_is_that_of_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        header: Some(NOTICE.to_owned()),
        include_guard: Some("VITSTREAM_H".to_owned()),
        cpp_compat: true,
        style: cbindgen::Style::Both,
        usize_is_size_t: true,
        ..cbindgen::Config::default()
    };
    config.documentation_style = cbindgen::DocumentationStyle::C99;
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/codes.rs"))
        .with_src(root.join("src/abi.rs"))
        .generate()
        .unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = root.join("include/vitstream.h");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, made, "{} is not what cbindgen makes of src/abi.rs: BLESS=1 writes it", path.display());
}
