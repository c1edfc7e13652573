//! The command line of vitstream.
fn main() {}
