//! Arrays, and files of reference values.

use std::collections::BTreeMap;
use std::path::Path;

use crate::random::Random;

/// Elements, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `float32`
    F32(Vec<f32>),
    /// `int64`
    I64(Vec<i64>),
}

/// A tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its elements.
    pub data: Data,
}

impl Array {
    /// Of `float32`.
    pub fn f32(dims: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{dims:?}");
        Self { dims: dims.to_vec(), data: Data::F32(values) }
    }

    /// Of `int64`.
    pub fn i64(dims: &[usize], values: &[i64]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{dims:?}");
        Self { dims: dims.to_vec(), data: Data::I64(values.to_vec()) }
    }

    /// Of `float32`, all the same.
    pub fn full(dims: &[usize], value: f32) -> Self {
        Self::f32(dims, vec![value; dims.iter().product()])
    }

    /// Reproducible values that look like noise, of unit variance.
    pub fn noise(dims: &[usize], seed: u64) -> Self {
        let mut random = Random(seed);
        Self::f32(dims, (0..dims.iter().product()).map(|_| random.normal()).collect())
    }

    /// The elements of a `float32` tensor.
    #[track_caller]
    pub fn floats(&self) -> &[f32] {
        match &self.data {
            Data::F32(values) => values,
            Data::I64(_) => panic!("expected float32, found int64"),
        }
    }

    /// The elements of an `int64` tensor.
    #[track_caller]
    pub fn ints(&self) -> &[i64] {
        match &self.data {
            Data::I64(values) => values,
            Data::F32(_) => panic!("expected int64, found float32"),
        }
    }

    /// Steps `range` of one axis.
    pub fn slice(&self, axis: usize, range: std::ops::Range<usize>) -> Self {
        fn cut<T: Copy>(values: &[T], dims: &[usize], axis: usize, range: std::ops::Range<usize>) -> Vec<T> {
            let inner: usize = dims[axis + 1..].iter().product();
            let rows = values.chunks_exact((dims[axis] * inner).max(1));
            rows.flat_map(|row| row[range.start * inner..range.end * inner].iter().copied()).collect()
        }
        let mut dims = self.dims.clone();
        dims[axis] = range.len();
        let data = match &self.data {
            Data::F32(values) => Data::F32(cut(values, &self.dims, axis, range)),
            Data::I64(values) => Data::I64(cut(values, &self.dims, axis, range)),
        };
        Self { dims, data }
    }

    /// One item of a batch, as a batch of one.
    pub fn item(&self, index: usize) -> Self {
        self.slice(0, index..index + 1)
    }

    /// The same elements in another shape.
    pub fn reshaped(&self, dims: &[usize]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), self.dims.iter().product::<usize>());
        Self { dims: dims.to_vec(), data: self.data.clone() }
    }

    /// `[b, t, c]` from `[b, c, t]` and back.
    pub fn swapped(&self) -> Self {
        let [b, c, t] = self.dims[..] else { panic!("expected three axes, found {:?}", self.dims) };
        let values = self.floats();
        let at = |i: usize, j: usize, k: usize| values[(i * c + k) * t + j];
        let swapped = (0..b).flat_map(|i| (0..t).flat_map(move |j| (0..c).map(move |k| at(i, j, k))));
        Self::f32(&[b, t, c], swapped.collect())
    }
}

/// The largest difference between two arrays of one shape; infinite when one has a value that is not finite.
#[track_caller]
pub fn difference(a: &Array, b: &Array) -> f32 {
    assert_eq!(a.dims, b.dims, "shapes differ");
    largest_difference(a.floats(), b.floats())
}

/// The same of as many values.
#[track_caller]
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| if (a - b).is_finite() { (a - b).abs() } else { f32::INFINITY }).fold(0.0, f32::max)
}

/// Fails when two arrays differ by more than `limit`.
#[track_caller]
pub fn assert_close(a: &Array, b: &Array, limit: f32, what: &str) {
    let found = difference(a, b);
    assert!(found <= limit, "{what}: differs by {found}, more than {limit}");
}

/// Reference values of a checkpoint that PyTorch computed, by name.
#[derive(Clone, Debug)]
pub struct Reference(BTreeMap<String, Array>);

impl Reference {
    /// The values of a file.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let array = |view: safetensors::tensor::TensorView<'_>| {
            let data = match view.dtype() {
                safetensors::Dtype::F32 => Data::F32(
                    view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
                ),
                safetensors::Dtype::I64 => Data::I64(
                    view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect(),
                ),
                other => panic!("{}: {other:?} does not occur", path.display()),
            };
            Array { dims: view.shape().to_vec(), data }
        };
        Self(file.iter().map(|(name, view)| (name.to_owned(), array(view))).collect())
    }

    /// The array of this name, which is there.
    #[track_caller]
    pub fn get(&self, name: &str) -> &Array {
        self.find(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// The array of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }
}
