//! Tensors: their description in the file, and their elements on request.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};

use crate::error::{Error, ErrorKind};
use crate::limits::MAX_GATHER_BYTES;
use crate::origin::Origin;
use crate::text::excerpt;

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// `torch.float32`
    F32,
    /// `torch.float16`
    F16,
    /// `torch.bfloat16`
    BF16,
    /// `torch.float64`
    F64,
    /// `torch.int64`
    I64,
    /// `torch.int32`
    I32,
    /// `torch.int16`
    I16,
    /// `torch.int8`
    I8,
    /// `torch.uint8`
    U8,
    /// `torch.bool`, one byte
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F64 => "float64",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        })
    }
}

/// A tensor as described by the file, not yet checked against the storage. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRef(Arc<Layout>);

#[derive(Debug, PartialEq)]
struct Layout {
    dtype: DType,
    shape: Vec<usize>,
    /// Strides in elements, one per axis.
    stride: Vec<usize>,
    /// Offset in elements.
    offset: usize,
    numel: usize,
    /// Elements from the start of the storage to the end of the last one used; 0 for an empty tensor.
    reach: usize,
    storage: Storage,
}

/// Location of the elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Storage {
    /// In the zip, as entry `data/KEY`; `claimed` is its length in bytes according to the pickle.
    Entry { key: String, claimed: u64 },
    /// In the pickle itself, or already located by a reader.
    Inline(Bytes),
    /// Not stored: `nbytes` bytes are computed on request, from the elements of `sources` in another order if
    /// there are any.
    Computed { nbytes: usize, make: Computation, sources: Arc<[Bytes]> },
}

/// A function that computes a tensor's elements.
#[derive(Clone)]
pub(crate) struct Computation(Arc<dyn Fn() -> Bytes + Send + Sync>);

impl PartialEq for Computation {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Computation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computation")
    }
}

impl TensorRef {
    /// Fails with a reason when the numbers contradict each other or overflow.
    pub(crate) fn new(
        dtype: DType,
        shape: Vec<usize>,
        stride: Vec<usize>,
        offset: usize,
        storage: Storage,
    ) -> Result<Self, String> {
        if shape.len() != stride.len() {
            return Err(format!("{} lengths but {} strides", shape.len(), stride.len()));
        }
        let numel = checked_product(&shape).filter(|numel| numel.checked_mul(dtype.size()).is_some());
        let numel = numel.ok_or_else(|| format!("the shape {shape:?} overflows"))?;
        let reach = if numel == 0 { Some(0) } else { reach(&shape, &stride, offset) };
        let reach = reach.filter(|reach| reach.checked_mul(dtype.size()).is_some()).ok_or_else(|| {
            format!("the view of shape {shape:?}, stride {stride:?} and offset {offset} overflows")
        })?;
        Ok(Self(Arc::new(Layout { dtype, shape, stride, offset, numel, reach, storage })))
    }

    /// The same tensor, if `dtype` is its element type.
    pub(crate) fn with_dtype(self, dtype: DType) -> Result<Self, String> {
        if self.0.dtype == dtype { Ok(self) } else { Err(format!("{} data as {dtype}", self.0.dtype)) }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Lengths of the axes, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Distance between neighbours along each axis, in elements.
    pub fn stride(&self) -> &[usize] {
        &self.0.stride
    }

    /// Offset of the first element in the storage, in elements.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// Number of elements: the product of the shape, which is known not to overflow.
    pub fn numel(&self) -> usize {
        self.0.numel
    }

    /// Size in bytes of the elements without gaps.
    pub fn nbytes(&self) -> usize {
        self.0.numel * self.0.dtype.size()
    }

    /// The storage's key, which is equal for tensors that share memory. `None` for a storage inside the
    /// pickle, or one located by a reader.
    pub fn storage_key(&self) -> Option<&str> {
        match &self.0.storage {
            Storage::Entry { key, .. } => Some(key),
            Storage::Inline(_) | Storage::Computed { .. } => None,
        }
    }

    /// Returns true if the elements are in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1usize;
        for (&len, &stride) in self.0.shape.iter().zip(&self.0.stride).rev() {
            if len == 0 {
                return true;
            }
            if len != 1 {
                if stride != expected {
                    return false;
                }
                expected = expected.saturating_mul(len);
            }
        }
        true
    }
}

fn checked_product(shape: &[usize]) -> Option<usize> {
    // A zero length makes the product zero, even if the other lengths overflow.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, &len| product.checked_mul(len))
}

/// Computes `offset + sum((len - 1) * stride) + 1`. No length may be zero.
fn reach(shape: &[usize], stride: &[usize], offset: usize) -> Option<usize> {
    let last = shape
        .iter()
        .zip(stride)
        .try_fold(offset, |last, (&len, &stride)| last.checked_add((len - 1).checked_mul(stride)?))?;
    last.checked_add(1)
}

/// A tensor of a checkpoint. Cheap to clone. Its elements are checked, and their pages read, only on request.
#[derive(Clone)]
pub struct Tensor {
    name: Arc<str>,
    layout: TensorRef,
    origin: Origin,
}

impl Tensor {
    pub(crate) fn new(name: Arc<str>, layout: TensorRef, origin: Origin) -> Self {
        Self { name, layout, origin }
    }

    /// A tensor whose elements were located elsewhere, or computed from those of the file at `path`: `data`
    /// holds them in row-major order without gaps, little-endian. Nothing is copied.
    ///
    /// # Errors
    /// When the length of `data` does not match `dtype` and `shape`.
    pub fn from_bytes(
        path: &Arc<Path>,
        name: &str,
        dtype: DType,
        shape: Vec<usize>,
        data: Bytes,
    ) -> Result<Self, Error> {
        let found = data.len();
        Self::without_gaps(path, name, dtype, shape, Storage::Inline(data), found)
    }

    /// As [`Tensor::from_bytes`], but the elements are computed on each request, so memory is used only while
    /// they are in use. `make` returns `nbytes` bytes.
    ///
    /// # Errors
    /// When `nbytes` does not match `dtype` and `shape`.
    pub fn computed(
        path: &Arc<Path>,
        name: &str,
        dtype: DType,
        shape: Vec<usize>,
        nbytes: usize,
        make: impl Fn() -> Bytes + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let storage = Storage::Computed { nbytes, make: Computation(Arc::new(make)), sources: [].into() };
        Self::without_gaps(path, name, dtype, shape, storage, nbytes)
    }

    /// As [`Tensor::computed`], from all elements of `sources`, which `arrange` puts into row-major order.
    ///
    /// # Errors
    /// When the length of `sources` does not match `dtype` and `shape`.
    pub fn rearranged(
        path: &Arc<Path>,
        name: &str,
        dtype: DType,
        shape: Vec<usize>,
        sources: impl Into<Arc<[Bytes]>>,
        arrange: impl Fn(&[Bytes]) -> Bytes + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let sources = sources.into();
        let nbytes = sources.iter().map(Bytes::len).sum();
        let make = {
            let sources = sources.clone();
            move || arrange(&sources)
        };
        let storage = Storage::Computed { nbytes, make: Computation(Arc::new(make)), sources };
        Self::without_gaps(path, name, dtype, shape, storage, nbytes)
    }

    fn without_gaps(
        path: &Arc<Path>,
        name: &str,
        dtype: DType,
        shape: Vec<usize>,
        storage: Storage,
        nbytes: usize,
    ) -> Result<Self, Error> {
        let error = || Error::new(ErrorKind::Length).in_file(path).of(format!("tensor {name}"));
        let mut stride = vec![1usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            stride[axis - 1] = stride[axis].saturating_mul(shape[axis]);
        }
        let layout =
            TensorRef::new(dtype, shape, stride, 0, storage).map_err(|problem| error().found(problem))?;
        if layout.nbytes() != nbytes {
            return Err(error()
                .expected(format!("{} bytes", layout.nbytes()))
                .found(format!("{nbytes} bytes")));
        }
        Ok(Self { name: name.into(), layout, origin: Origin::File(path.clone()) })
    }

    /// The same elements in a shape that differs only in axes of length 1.
    ///
    /// # Errors
    /// When the other axes differ.
    pub fn with_unit_axes(&self, shape: &[usize]) -> Result<Self, Error> {
        let layout = &*self.layout.0;
        let mut axes = layout.shape.iter().zip(&layout.stride).filter(|&(&len, _)| len != 1);
        let stride = |&len: &usize| match len {
            1 => Some(1),
            _ => axes.next().filter(|&(&old, _)| old == len).map(|(_, &stride)| stride),
        };
        let stride: Option<Vec<usize>> = shape.iter().map(stride).collect();
        let stride = stride.filter(|_| axes.next().is_none()).ok_or_else(|| {
            self.error(ErrorKind::Length)
                .expected(format!("{:?} apart from axes of length 1", layout.shape))
                .found(format!("{shape:?}"))
        })?;
        let layout =
            TensorRef::new(layout.dtype, shape.to_vec(), stride, layout.offset, layout.storage.clone())
                .map_err(|problem| self.error(ErrorKind::Length).found(problem))?;
        Ok(Self { name: self.name.clone(), layout, origin: self.origin.clone() })
    }

    /// The key in the state dict.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.layout.dtype()
    }

    /// Lengths of the axes, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.layout.numel()
    }

    /// Size in bytes of the elements without gaps.
    pub fn nbytes(&self) -> usize {
        self.layout.nbytes()
    }

    /// The elements in the order in which they are stored, little-endian, of a tensor that is put into order on
    /// each request: see [`Tensor::rearranged`].
    pub fn sources(&self) -> Option<&[Bytes]> {
        match &self.layout.0.storage {
            Storage::Computed { sources, .. } if !sources.is_empty() => Some(sources),
            _ => None,
        }
    }

    /// Stride, offset and storage.
    pub fn layout(&self) -> &TensorRef {
        &self.layout
    }

    /// The elements in row-major order without gaps, little-endian, in their stored type. They are not copied
    /// if the file already holds them in this order.
    ///
    /// # Errors
    /// When the storage is missing, compressed or too short, or a view is too large to be gathered.
    pub fn bytes(&self) -> Result<Bytes, Error> {
        let storage = self.storage()?;
        match self.contiguous(&storage) {
            Some(bytes) => Ok(bytes),
            None => match self.dtype().size() {
                8 => self.gather(&storage, |b: [u8; 8]| b).map(owned_bytes),
                4 => self.gather(&storage, |b: [u8; 4]| b).map(owned_bytes),
                2 => self.gather(&storage, |b: [u8; 2]| b).map(owned_bytes),
                _ => self.gather(&storage, |b: [u8; 1]| b).map(owned_bytes),
            },
        }
    }

    /// The elements as float32, in row-major order.
    ///
    /// Little-endian float32 elements that are contiguous and aligned in the file, as written by
    /// `torch.save`, are not copied. float16 and bfloat16 are widened exactly; float64 is rounded to the
    /// nearest value.
    ///
    /// # Errors
    /// As [`Tensor::bytes`], and when the elements are integers or booleans.
    pub fn to_f32(&self) -> Result<F32Buf, Error> {
        let storage = self.storage()?;
        if self.dtype() == DType::F32
            && cfg!(target_endian = "little")
            && let Some(bytes) = self.contiguous(&storage)
            && let Some(buf) = F32Buf::view(bytes)
        {
            return Ok(buf);
        }
        let values = match self.dtype() {
            DType::F32 => self.gather(&storage, f32::from_le_bytes),
            DType::F16 => self.gather(&storage, |b| f16::from_le_bytes(b).to_f32()),
            DType::BF16 => self.gather(&storage, |b| bf16::from_le_bytes(b).to_f32()),
            DType::F64 => self.gather(&storage, |b| f64::from_le_bytes(b) as f32),
            dtype => {
                Err(self.error(ErrorKind::DType).expected("floating-point numbers").found(dtype.to_string()))
            }
        }?;
        Ok(F32Buf::from(values))
    }

    /// The elements as integers, in row-major order; booleans as 0 and 1.
    ///
    /// # Errors
    /// As [`Tensor::bytes`], and when the elements are floating-point numbers.
    pub fn to_i64(&self) -> Result<Vec<i64>, Error> {
        let storage = self.storage()?;
        match self.dtype() {
            DType::I64 => self.gather(&storage, i64::from_le_bytes),
            DType::I32 => self.gather(&storage, |b| i32::from_le_bytes(b).into()),
            DType::I16 => self.gather(&storage, |b| i16::from_le_bytes(b).into()),
            DType::I8 => self.gather(&storage, |b| i8::from_le_bytes(b).into()),
            DType::U8 => self.gather(&storage, |[b]: [u8; 1]| b.into()),
            DType::Bool => self.gather(&storage, |[b]: [u8; 1]| (b != 0).into()),
            dtype => Err(self.error(ErrorKind::DType).expected("integers").found(dtype.to_string())),
        }
    }

    /// The storage, after checking that it contains the whole tensor.
    fn storage(&self) -> Result<Bytes, Error> {
        let layout = &*self.layout.0;
        let storage = match &layout.storage {
            Storage::Entry { key, .. } => {
                self.origin.storage(key).map_err(|e| e.in_file(self.origin.path()).of(self.label()))?
            }
            Storage::Inline(bytes) => bytes.clone(),
            Storage::Computed { make, .. } => make.0(),
        };
        // Cannot overflow: checked when the layout was created.
        let needed = (layout.reach * layout.dtype.size()) as u64;
        let (key, claimed) = match &layout.storage {
            Storage::Entry { key, claimed } => (key.as_str(), *claimed),
            Storage::Inline(bytes) => ("of its own", bytes.len() as u64),
            Storage::Computed { nbytes, .. } => ("of its own", *nbytes as u64),
        };
        let too_short = |expected: String| {
            self.error(ErrorKind::StorageTooShort(excerpt(key)))
                .expected(expected)
                .found(format!("{} bytes", storage.len().min(usize::try_from(claimed).unwrap_or(usize::MAX))))
                .remedy("The checkpoint is damaged or was edited: download or save it again")
        };
        let found = storage.len() as u64;
        if needed > found || needed > claimed {
            return Err(too_short(format!(
                "at least {needed} bytes for shape {:?}, stride {:?}, offset {}",
                layout.shape, layout.stride, layout.offset
            )));
        }
        if claimed > found {
            return Err(too_short(format!("{claimed} bytes")));
        }
        Ok(storage)
    }

    /// The elements as a slice of the storage, if they are contiguous.
    fn contiguous(&self, storage: &Bytes) -> Option<Bytes> {
        if self.numel() == 0 {
            return Some(Bytes::new());
        }
        let start = self.layout.offset() * self.dtype().size();
        self.layout.is_contiguous().then(|| storage.slice(start..start + self.nbytes()))
    }

    /// Gathers the elements by shape and stride. `storage` is known to contain them; `N` is the size of one.
    fn gather<const N: usize, T>(
        &self,
        storage: &[u8],
        convert: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let layout = &*self.layout.0;
        let size = layout.numel.checked_mul(size_of::<T>());
        let contiguous = layout.numel == 0 || self.layout.is_contiguous();
        let mut out = Vec::new();
        let allowed = size.is_some_and(|size| contiguous || size <= MAX_GATHER_BYTES);
        if !allowed || out.try_reserve_exact(layout.numel).is_err() {
            let found =
                size.map_or("more bytes than fit into memory".to_string(), |size| format!("{size} bytes"));
            let limit = if contiguous {
                "the available memory".to_string()
            } else {
                format!("{MAX_GATHER_BYTES} bytes")
            };
            return Err(self.error(ErrorKind::TooLarge).expected(format!("at most {limit}")).found(found));
        }
        let (elements, _) = storage.as_chunks::<N>();
        if contiguous {
            let start = if layout.numel == 0 { 0 } else { layout.offset };
            out.extend(elements[start..start + layout.numel].iter().map(|&element| convert(element)));
            return Ok(out);
        }
        // The innermost axis is a plain loop; the outer axes count like an odometer.
        let (&inner_len, outer_shape) = layout.shape.split_last().unwrap_or((&1, &[]));
        let (&inner_stride, outer_stride) = layout.stride.split_last().unwrap_or((&0, &[]));
        let mut index = vec![0usize; outer_shape.len()];
        let mut start = layout.offset;
        loop {
            out.extend((0..inner_len).map(|i| convert(elements[start + i * inner_stride])));
            let mut axis = outer_shape.len();
            loop {
                if axis == 0 {
                    return Ok(out);
                }
                axis -= 1;
                index[axis] += 1;
                if index[axis] < outer_shape[axis] {
                    start += outer_stride[axis];
                    break;
                }
                start -= (outer_shape[axis] - 1) * outer_stride[axis];
                index[axis] = 0;
            }
        }
    }

    fn label(&self) -> String {
        format!("tensor {}", self.name)
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind).in_file(self.origin.path()).of(self.label())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {} {:?})", self.name, self.dtype(), self.shape())
    }
}

/// Elements of a fixed size as bytes, without a copy.
fn owned_bytes<const N: usize>(elements: Vec<[u8; N]>) -> Bytes {
    struct Owner<const N: usize>(Vec<[u8; N]>);
    impl<const N: usize> AsRef<[u8]> for Owner<N> {
        fn as_ref(&self) -> &[u8] {
            self.0.as_flattened()
        }
    }
    Bytes::from_owner(Owner(elements))
}

/// float32 values, either in the mapped file or in separate memory. Cheap to clone.
#[derive(Clone)]
pub struct F32Buf {
    /// Aligned for `f32`; the length is a multiple of four bytes.
    bytes: Bytes,
}

impl F32Buf {
    /// Wraps the bytes without a copy, if they are aligned.
    fn view(bytes: Bytes) -> Option<Self> {
        let fits = bytes.is_empty() || bytemuck::try_cast_slice::<u8, f32>(&bytes).is_ok();
        fits.then_some(Self { bytes })
    }

    /// The first `count` values, without a copy; `None` if there are fewer.
    pub fn prefix(&self, count: usize) -> Option<Self> {
        let length = count.checked_mul(size_of::<f32>())?;
        (length <= self.bytes.len()).then(|| Self { bytes: self.bytes.slice(..length) })
    }

    /// The values' bytes in native byte order, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl From<Vec<f32>> for F32Buf {
    fn from(values: Vec<f32>) -> Self {
        struct Owner(Vec<f32>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        Self { bytes: Bytes::from_owner(Owner(values)) }
    }
}

impl Deref for F32Buf {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // An empty `Bytes` need not be aligned.
        if self.bytes.is_empty() { &[] } else { bytemuck::cast_slice(&self.bytes) }
    }
}

impl fmt::Debug for F32Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
