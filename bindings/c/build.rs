//! Gives the library the name by which programs that are linked with it look for it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        // The number is that of VITSTREAM_ABI_VERSION.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libvitstream.so.1");
    }
}
