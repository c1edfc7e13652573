//! Recognises safetensors files in a build without the feature `safetensors`, and refuses them by name.

use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::value::Value;

pub(crate) fn read(_: &Path, _: &Bytes) -> Result<(Vec<(Value, Value)>, Value), Error> {
    Err(Error::new(ErrorKind::NotBuilt("safetensors")))
}
