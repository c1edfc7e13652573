//! The safetensors container. Its header, a JSON text with names, types, shapes and positions, is read by the
//! crate of the format's authors, which checks that the positions cover the file without gaps or overlaps.

use std::path::Path;

use bytes::Bytes;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError};

use crate::error::{Error, ErrorKind};
use crate::limits::{MAX_ENTRIES, MAX_HEADER_BYTES, MAX_RANK};
use crate::sniff::{LENGTH_LEN, header_len};
use crate::tensor::{DType, Storage, TensorRef};
use crate::value::Value;

/// The tensors in file order, and the strings of `__metadata__`.
pub(crate) fn read(path: &Path, data: &Bytes) -> Result<(Vec<(Value, Value)>, Value), Error> {
    if header_len(data).is_some_and(|length| length > MAX_HEADER_BYTES) {
        return Err(Error::limit("bytes of the header", MAX_HEADER_BYTES));
    }
    let (length, header) = SafeTensors::read_metadata(data).map_err(|error| damaged(&error))?;
    let names = header.offset_keys();
    if names.len() as u64 > MAX_ENTRIES {
        return Err(Error::limit("tensors", MAX_ENTRIES));
    }
    let body = data.slice(LENGTH_LEN + length..);
    let tensor = |name: String| {
        let tensor =
            tensor(&header, &name, &body).map_err(|e| e.in_file(path).of(format!("tensor {name}")))?;
        Ok((Value::Str(name), Value::Tensor(tensor)))
    };
    let tensors = names.into_iter().map(tensor).collect::<Result<_, Error>>()?;
    let mut texts: Vec<(&String, &String)> = header.metadata().iter().flatten().collect();
    texts.sort();
    let texts = texts.into_iter().map(|(key, text)| (Value::Str(key.clone()), Value::Str(text.clone())));
    Ok((tensors, Value::Dict(texts.collect())))
}

fn tensor(header: &Metadata, name: &str, body: &Bytes) -> Result<TensorRef, Error> {
    let malformed = |reason: String| ErrorKind::Safetensors(reason);
    let info = header.info(name).ok_or_else(|| Error::new(ErrorKind::MissingTensor))?;
    let dtype = dtype(info.dtype).ok_or_else(|| {
        Error::new(ErrorKind::DType)
            .expected("float32, float16, bfloat16, float64, or signed integers")
            .found(format!("{:?}", info.dtype))
            .remedy("Save it in float32")
    })?;
    if info.shape.len() > MAX_RANK {
        return Err(Error::limit("axes of a tensor", MAX_RANK));
    }
    let (start, end) = info.data_offsets;
    if start > end || end > body.len() {
        return Err(Error::new(malformed(format!("bytes {start} to {end} of {}", body.len()))));
    }
    let stride = row_major(&info.shape);
    let storage = Storage::Inline(body.slice(start..end));
    TensorRef::new(dtype, info.shape.clone(), stride, 0, storage).map_err(|e| Error::new(malformed(e)))
}

/// Strides of elements without gaps. The strides of an empty tensor are irrelevant.
fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut stride = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        stride[axis - 1] = stride[axis].saturating_mul(shape[axis]);
    }
    stride
}

fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

fn damaged(error: &SafeTensorError) -> Error {
    match error {
        // The header describes more or fewer bytes than the file has.
        SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
            Error::new(ErrorKind::Safetensors("its length does not match its header".to_owned()))
                .remedy("Probably an incomplete download")
        }
        other => {
            let mut reason = other.to_string();
            if let Some((cut, _)) = reason.char_indices().nth(200) {
                reason.truncate(cut);
                reason.push_str("...");
            }
            Error::new(ErrorKind::Safetensors(reason))
        }
    }
}
