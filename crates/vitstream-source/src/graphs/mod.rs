//! Voices in ONNX graphs: pairs in folders and whole voices in files, written by vitstream or traced by PyTorch.

pub(crate) mod exported;
pub(crate) mod file;
pub(crate) mod folder;
pub(crate) mod traced;
