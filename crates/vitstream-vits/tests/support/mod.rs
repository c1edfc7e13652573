//! Code shared by the tests: paths of fixtures, arrays, and running graphs in rten.
#![allow(dead_code, reason = "not every test file needs all of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use proptest::test_runner::{Config, TestRunner};
use rten::{NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;
use vitstream_checkpoint::Checkpoint;
use vitstream_onnx::{Graph, encode, passes, validate};
use vitstream_vits::{HParams, SynthesizerTrn, Weights};

/// Cases for which checkpoints have reference values.
pub(crate) const CASES: [&str; 4] = ["one", "quiet", "batch", "shortest"];

/// A checkpoint with reference values next to it.
pub(crate) struct Fixture {
    dir: PathBuf,
    pub(crate) name: String,
}

impl Fixture {
    /// A checkpoint of the repository.
    pub(crate) fn committed(name: &str) -> Self {
        Self { dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), name: name.to_owned() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.ckpt", self.name))
    }

    /// The weights and hyper-parameters.
    pub(crate) fn parts(&self) -> (Weights, HParams) {
        let checkpoint = Checkpoint::open(self.path()).unwrap();
        let tensors = checkpoint.tensors().iter();
        let weights = Weights::new(tensors.map(|tensor| (tensor.name().to_owned(), tensor.clone())));
        let hyper_parameters = checkpoint.lookup(&["hyper_parameters"]).unwrap().unwrap();
        let hparams = HParams::from_lightning(hyper_parameters, &|key| weights.shape(key)).unwrap();
        (weights, hparams)
    }

    pub(crate) fn model(&self) -> SynthesizerTrn {
        let (weights, hparams) = self.parts();
        SynthesizerTrn::load_weights(&weights, hparams).unwrap().0
    }

    /// The phoneme ids of a text of the real voice.
    pub(crate) fn ids(&self, text: &str) -> Vec<i64> {
        let texts = std::fs::read(self.dir.join("ids.json")).unwrap();
        let texts: BTreeMap<String, Vec<i64>> = serde_json::from_slice(&texts).unwrap();
        texts[text].clone()
    }

    /// PyTorch's values, if the case was computed.
    pub(crate) fn case(&self, case: &str) -> Option<Case> {
        let path = self.dir.join(format!("{}.{case}.safetensors", self.name));
        path.is_file().then(|| Case::read(&path))
    }
}

/// The checkpoints of the repository.
pub(crate) fn committed() -> Vec<Fixture> {
    fixtures_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"))
}

/// The checkpoints of the repository, and those of the larger fixtures if they are on this machine.
pub(crate) fn all() -> Vec<Fixture> {
    let mut fixtures = committed();
    fixtures.extend(shared("tiny").map(|dir| fixtures_in(&dir)).unwrap_or_default());
    fixtures
}

/// As [`all`], but each name only once.
pub(crate) fn distinct() -> Vec<Fixture> {
    let mut fixtures = all();
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    fixtures.dedup_by(|a, b| a.name == b.name);
    fixtures
}

fn fixtures_in(dir: &Path) -> Vec<Fixture> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let checkpoints = entries.filter(|path| path.extension().is_some_and(|extension| extension == "ckpt"));
    let mut names: Vec<String> =
        checkpoints.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names.into_iter().map(|name| Fixture { dir: dir.to_owned(), name }).collect()
}

/// The real voice and its values.
pub(crate) fn joe() -> Option<Fixture> {
    shared("joe").map(|dir| Fixture { dir, name: "joe".to_owned() })
}

/// A folder of the larger fixtures, which are not part of the repository.
fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VITSTREAM_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    let path = root.join(name);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: the fixtures {} are not on this machine", path.display());
    None
}

/// Elements, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

/// A tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Data,
}

impl Array {
    pub(crate) fn f32(dims: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{dims:?}");
        Self { dims: dims.to_vec(), data: Data::F32(values) }
    }

    pub(crate) fn i64(dims: &[usize], values: &[i64]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{dims:?}");
        Self { dims: dims.to_vec(), data: Data::I64(values.to_vec()) }
    }

    pub(crate) fn full(dims: &[usize], value: f32) -> Self {
        Self::f32(dims, vec![value; dims.iter().product()])
    }

    /// Reproducible values that look like noise, of unit variance.
    pub(crate) fn noise(dims: &[usize], seed: u64) -> Self {
        let mut random = Random(seed);
        Self::f32(dims, (0..dims.iter().product()).map(|_| random.normal()).collect())
    }

    pub(crate) fn floats(&self) -> &[f32] {
        match &self.data {
            Data::F32(values) => values,
            Data::I64(_) => panic!("expected float32, found int64"),
        }
    }

    pub(crate) fn ints(&self) -> &[i64] {
        match &self.data {
            Data::I64(values) => values,
            Data::F32(_) => panic!("expected int64, found float32"),
        }
    }

    /// Steps `range` of one axis.
    pub(crate) fn slice(&self, axis: usize, range: std::ops::Range<usize>) -> Self {
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
    pub(crate) fn item(&self, index: usize) -> Self {
        self.slice(0, index..index + 1)
    }

    /// The same elements in another shape.
    pub(crate) fn reshaped(&self, dims: &[usize]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), self.dims.iter().product::<usize>());
        Self { dims: dims.to_vec(), data: self.data.clone() }
    }

    /// `[b, t, c]` from `[b, c, t]` and back.
    pub(crate) fn swapped(&self) -> Self {
        let [b, c, t] = self.dims[..] else { panic!("expected three axes, found {:?}", self.dims) };
        let values = self.floats();
        let at = |i: usize, j: usize, k: usize| values[(i * c + k) * t + j];
        let swapped = (0..b).flat_map(|i| (0..t).flat_map(move |j| (0..c).map(move |k| at(i, j, k))));
        Self::f32(&[b, t, c], swapped.collect())
    }
}

/// The largest difference between two arrays of one shape; infinite when one has a value that is not finite.
#[track_caller]
pub(crate) fn difference(a: &Array, b: &Array) -> f32 {
    assert_eq!(a.dims, b.dims, "shapes differ");
    let pairs = a.floats().iter().zip(b.floats());
    pairs.map(|(a, b)| if (a - b).is_finite() { (a - b).abs() } else { f32::INFINITY }).fold(0.0, f32::max)
}

/// Fails when two arrays differ by more than `limit`.
#[track_caller]
pub(crate) fn assert_close(a: &Array, b: &Array, limit: f32, what: &str) {
    let found = difference(a, b);
    assert!(found <= limit, "{what}: differs by {found}, more than {limit}");
}

/// A small generator of reproducible numbers (xorshift64*).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.max(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// One of `range`.
    pub(crate) fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + (self.next() >> 33) as usize % range.len()
    }

    /// Between 0 and 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Approximately normal: the sum of twelve uniform numbers.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}

/// Runs a property `cases` times. A failure prints its smallest example; nothing is stored in files.
pub(crate) fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// Reference values by name.
pub(crate) struct Case(BTreeMap<String, Array>);

impl Case {
    fn read(path: &Path) -> Self {
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

    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> &Array {
        self.find(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }

    /// The inputs of an encoder with noise inputs. Noise that was not recorded was not used.
    pub(crate) fn encoder_feeds(&self, model: &SynthesizerTrn) -> Vec<(&'static str, Array)> {
        let mut feeds: Vec<(&str, Array)> =
            ["input", "input_lengths", "scales"].map(|name| (name, self.get(name).clone())).into();
        let (b, t) = (self.get("input").dims[0], self.get("input").dims[1]);
        if model.hparams.multi_speaker() {
            feeds.push(("sid", self.get("sid").clone()));
        }
        let noise =
            |name: &str, dims: &[usize]| self.find(name).cloned().unwrap_or_else(|| Array::full(dims, 0.0));
        if model.hparams.use_sdp() {
            feeds.push(("noise_dp", noise("noise.dp", &[b, 2, t])));
        }
        feeds.push(("noise_p", noise("noise.p", &self.get("z_p").dims)));
        feeds
    }
}

/// A graph loaded in rten, with one thread.
pub(crate) struct Net {
    model: rten::Model,
    outputs: Vec<String>,
}

impl Net {
    /// Loads the graph through the passes, validation and the file's bytes, as an export does.
    #[track_caller]
    pub(crate) fn new(graph: Graph) -> Self {
        let graph = validate(passes::run_default(graph)).unwrap();
        let outputs = graph.outputs.iter().map(|&id| graph.value(id).name.clone()).collect();
        Self { model: rten::Model::load(encode::to_bytes(&graph)).unwrap(), outputs }
    }

    /// All outputs, in order.
    #[track_caller]
    pub(crate) fn run<'a>(&self, feeds: impl IntoIterator<Item = (&'a str, &'a Array)>) -> Vec<Array> {
        self.try_run(feeds).unwrap()
    }

    pub(crate) fn try_run<'a>(
        &self,
        feeds: impl IntoIterator<Item = (&'a str, &'a Array)>,
    ) -> Result<Vec<Array>, String> {
        static THREADS: OnceLock<Arc<ThreadPool>> = OnceLock::new();
        let threads = THREADS.get_or_init(|| Arc::new(ThreadPool::with_num_threads(1)));
        let id = |name: &str| self.model.node_id(name).map_err(|error| error.to_string());
        let mut inputs: Vec<(NodeId, ValueOrView<'_>)> = Vec::new();
        for (name, array) in feeds {
            // rten's only wide integer type is int32: it reads int64 graphs as such.
            let value = match &array.data {
                Data::F32(values) => Value::from_shape(&array.dims, values.clone()).unwrap(),
                Data::I64(values) => {
                    let narrow: Vec<i32> = values.iter().map(|&v| i32::try_from(v).unwrap()).collect();
                    Value::from_shape(&array.dims, narrow).unwrap()
                }
            };
            inputs.push((id(name)?, value.into()));
        }
        let outputs = self.outputs.iter().map(|name| id(name)).collect::<Result<Vec<_>, _>>()?;
        let options = RunOptions::default().with_thread_pool(Some(threads.clone()));
        let results = self.model.run(inputs, &outputs, Some(options)).map_err(|error| error.to_string())?;
        let array = |value: Value| match value {
            Value::FloatTensor(tensor) => {
                Array { dims: tensor.shape().to_vec(), data: Data::F32(tensor.into_data()) }
            }
            Value::Int32Tensor(tensor) => Array {
                dims: tensor.shape().to_vec(),
                data: Data::I64(tensor.into_data().into_iter().map(i64::from).collect()),
            },
            other => panic!("{:?} does not occur", other.dtype()),
        };
        Ok(results.into_iter().map(array).collect())
    }
}

/// The inputs of [`Net::run`], from owned arrays.
pub(crate) fn by_name<'a>(feeds: &'a [(&'a str, Array)]) -> impl Iterator<Item = (&'a str, &'a Array)> {
    feeds.iter().map(|(name, array)| (*name, array))
}

/// The inputs of the decoder.
pub(crate) fn decoder_feeds<'a>(
    z: &'a Array,
    y_mask: &'a Array,
    g: Option<&'a Array>,
) -> Vec<(&'a str, &'a Array)> {
    let mut feeds = vec![("z", z), ("y_mask", y_mask)];
    feeds.extend(g.map(|g| ("g", g)));
    feeds
}
