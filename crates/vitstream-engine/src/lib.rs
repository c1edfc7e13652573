//! The VITS decoder and encoder computed by plain Rust kernels.
