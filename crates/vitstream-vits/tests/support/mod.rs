//! Code shared by the tests: the checkpoints with reference values, and graphs run in rten.
#![allow(dead_code, reason = "not every test file needs all of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use proptest::test_runner::{Config, TestRunner};
use rten::{NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;
use vitstream_checkpoint::Checkpoint;
use vitstream_onnx::{Graph, encode, passes, validate};
use vitstream_testing::array::Data;
use vitstream_testing::{goldens, shared};
use vitstream_vits::{HParams, SynthesizerTrn, Weights};

#[allow(unused_imports, reason = "not every test file needs all of it")]
pub(crate) use vitstream_testing::array::{Array, Reference, assert_close, difference};
#[allow(unused_imports, reason = "not every test file needs all of it")]
pub(crate) use vitstream_testing::random::Random;

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
        Self { dir: goldens(), name: name.to_owned() }
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
    pub(crate) fn case(&self, case: &str) -> Option<Reference> {
        let path = self.dir.join(format!("{}.{case}.safetensors", self.name));
        path.is_file().then(|| Reference::read(&path))
    }
}

/// The checkpoints of the repository.
pub(crate) fn committed() -> Vec<Fixture> {
    fixtures_in(&goldens())
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

/// Runs a property `cases` times. A failure prints its smallest example; nothing is stored in files.
pub(crate) fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// The inputs of an encoder with noise inputs. Noise that was not recorded was not used.
pub(crate) fn encoder_feeds(case: &Reference, model: &SynthesizerTrn) -> Vec<(&'static str, Array)> {
    let mut feeds: Vec<(&str, Array)> =
        ["input", "input_lengths", "scales"].map(|name| (name, case.get(name).clone())).into();
    let (b, t) = (case.get("input").dims[0], case.get("input").dims[1]);
    if model.hparams.multi_speaker() {
        feeds.push(("sid", case.get("sid").clone()));
    }
    let noise =
        |name: &str, dims: &[usize]| case.find(name).cloned().unwrap_or_else(|| Array::full(dims, 0.0));
    if model.hparams.use_sdp() {
        feeds.push(("noise_dp", noise("noise.dp", &[b, 2, t])));
    }
    feeds.push(("noise_p", noise("noise.p", &case.get("z_p").dims)));
    feeds
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
