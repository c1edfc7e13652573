//! The weights under upstream's keys: claimed by scope, checked for shape, and all accounted for.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use vitstream_checkpoint::{DType, F32Buf, Tensor, excerpt};
use xxhash_rust::xxh3::Xxh3;

use crate::hparams::HParams;
use crate::shapes::Contradiction;

/// Limit on the problems that are collected: with more, the file is another network.
const MAX_PROBLEMS: usize = 200;

/// Lines of each kind in the message, which should fit a terminal.
const MAX_LISTED: usize = 24;

/// Limit on the length of compared names. Comparing takes the product of the lengths, for every pair of a
/// missing and a left-over name. Names of voices stay below this length, and [`MAX_LISTED`] names of each
/// kind are compared in well below a second.
const MAX_COMPARED_BYTES: usize = 96;
const MAX_COMPARED_MISSING: usize = 32;
const MAX_COMPARED_UNEXPECTED: usize = 256;

/// Limit on the zeros that replace missing tensors while the other problems are being collected.
const MAX_STAND_IN: usize = 1 << 24;

/// A tensor, float32, row-major.
#[derive(Clone)]
pub struct Param {
    /// Lengths of the axes.
    pub dims: Vec<usize>,
    elements: Elements,
    /// In a network without values, the run of NaN of which the elements are the start: see [`Weights::blank`].
    blank: Option<Arc<F32Buf>>,
}

#[derive(Clone)]
enum Elements {
    /// In memory; possibly a view of the mapped file.
    Stored(F32Buf),
    /// Computed on each request. Most weights of a file are needed once, one layer after the other; computing
    /// all of them first would take as much memory again as the file has.
    Computed(Arc<dyn Fn() -> Vec<f32> + Send + Sync>),
}

impl Param {
    /// Creates a parameter from computed elements.
    pub(crate) fn new(dims: &[usize], elements: Vec<f32>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), elements.len());
        Self { dims: dims.to_vec(), elements: Elements::Stored(elements.into()), blank: None }
    }

    /// The elements, `dims.iter().product()` of them, borrowed if they are in memory. They may be computed on
    /// each call, so a loop calls this once.
    pub fn elements(&self) -> Cow<'_, [f32]> {
        match &self.elements {
            Elements::Stored(data) => Cow::Borrowed(data),
            Elements::Computed(make) => Cow::Owned(make()),
        }
    }

    /// Returns true if the elements are computed on each request.
    pub fn is_computed(&self) -> bool {
        matches!(self.elements, Elements::Computed(_))
    }

    /// Creates a parameter from elements computed from some of `sources`. If none of these has values,
    /// nothing is computed.
    pub(crate) fn derived<'a>(
        dims: &[usize],
        sources: impl IntoIterator<Item = &'a Self>,
        elements: impl FnOnce() -> Vec<f32>,
    ) -> Self {
        Self::blank_of(dims, sources).unwrap_or_else(|| Self::new(dims, elements()))
    }

    /// All elements NaN, if none of `sources` has values.
    fn blank_of<'a>(dims: &[usize], sources: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let blanks: Option<Vec<&Arc<F32Buf>>> =
            sources.into_iter().map(|source| source.blank.as_ref()).collect();
        blanks.and_then(|blanks| Self::blank(dims, blanks.first()?))
    }

    /// All elements NaN; `None` if `run` is too short.
    fn blank(dims: &[usize], run: &Arc<F32Buf>) -> Option<Self> {
        let elements = Elements::Stored(run.prefix(dims.iter().product())?);
        Some(Self { dims: dims.to_vec(), elements, blank: Some(run.clone()) })
    }

    /// Every element times `factor`.
    pub(crate) fn scaled(&self, factor: f32) -> Self {
        Self::derived(&self.dims, [self], || self.elements().iter().map(|v| v * factor).collect())
    }

    /// A constant for the graph, without copying the elements.
    pub(crate) fn tensor(&self) -> vitstream_onnx::Tensor {
        self.reshaped(&self.dims)
    }

    /// The same elements as a constant with another shape.
    pub(crate) fn reshaped(&self, dims: &[usize]) -> vitstream_onnx::Tensor {
        let data = match &self.elements {
            Elements::Stored(data) => data.clone(),
            Elements::Computed(make) => make().into(),
        };
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        vitstream_onnx::Tensor {
            dtype: vitstream_onnx::DType::F32,
            dims: dims.to_vec(),
            data: data.into_bytes(),
        }
    }
}

/// The reason why a network could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// All keys and shapes that do not match the hyper-parameters.
    #[error("{}", .0)]
    Mismatch(Mismatch),
    /// A tensor that could not be read.
    #[error(transparent)]
    Tensor(#[from] vitstream_checkpoint::Error),
}

/// The difference between the tensors required by the hyper-parameters and those in the file.
#[derive(Clone, Debug, Default)]
pub struct Mismatch {
    /// Hyper-parameters that the tensors contradict.
    pub contradictions: Box<[Contradiction]>,
    /// Required keys that are absent, each with the most similar key that is left over.
    pub missing: Vec<(String, Option<String>)>,
    /// Keys with a wrong shape: key, expected, found.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Keys that are not required and not known to be unneeded.
    pub unexpected: Vec<String>,
    /// Set if there are more problems than listed.
    pub truncated: bool,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::from("the tensors do not match the hyper-parameters");
        for contradiction in &self.contradictions {
            let _ = write!(text, "\n  {contradiction}");
        }
        let shapes = self.wrong_shape.iter();
        list(
            &mut text,
            shapes.map(|(key, expected, found)| format!("{key}: expected {expected:?}, found {found:?}")),
            "with a wrong shape",
        );
        let missing = self.missing.iter().map(|(key, nearest)| match nearest {
            Some(nearest) => format!("{key}: missing (did you mean {nearest}?)"),
            None => format!("{key}: missing"),
        });
        list(&mut text, missing, "missing");
        list(&mut text, self.unexpected.iter().map(|key| format!("{key}: unexpected")), "unexpected");
        if self.truncated {
            text.push_str("\n  and more");
        }
        f.write_str(&text)
    }
}

/// The first few of `lines`, and the number of the others.
fn list(text: &mut String, lines: impl ExactSizeIterator<Item = String>, kind: &str) {
    let more = lines.len().saturating_sub(MAX_LISTED);
    for line in lines.take(MAX_LISTED) {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    if more > 0 {
        let _ = write!(text, "\n  and {more} more {kind}");
    }
}

/// Groups of tensors that training needs and inference does not, by the start of their keys.
const UNNEEDED: [(&str, &str); 10] = [
    ("enc_q.", "posterior encoder (training only)"),
    ("dp.post_", "posterior half of the duration predictor (training only)"),
    ("dp.flows.1.", "the duration predictor's first coupling (dropped at inference)"),
    ("model_d.", "discriminator (training only)"),
    ("discriminator.", "discriminator (training only)"),
    ("speaker_encoder.", "speaker encoder (training only)"),
    ("audio_resampler.", "resampler (training only)"),
    (NO_SPEAKERS, "conditioning on a speaker, of which there is one"),
    (OTHER_SET, "another set of the same weights, trained or averaged"),
    (OUTSIDE, "outside the generator (training only)"),
];

/// Prefix for keys of layers that take a speaker, in a network without a speaker embedding.
pub const NO_SPEAKERS: &str = "(one speaker).";

/// Prefix for keys of the set of weights that was not chosen: averaged or as trained.
pub const OTHER_SET: &str = "(other set).";

/// Prefix for keys of a Lightning module outside the generator, such as metrics, and for keys outside any
/// generator that is only a part of the saved model.
pub const OUTSIDE: &str = "(outside model_g).";

/// The reason why inference does not need the tensor called `key`, if it is known not to.
pub fn unneeded(key: &str) -> Option<&'static str> {
    UNNEEDED.iter().find(|(prefix, _)| key.starts_with(prefix)).map(|&(_, reason)| reason)
}

/// All tensors of a network under upstream's keys, and the set of those already claimed.
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    /// As many NaN as the largest tensor has elements, if no tensor is to be read.
    blank: Option<Arc<F32Buf>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    claimed: BTreeSet<String>,
    missing: BTreeSet<String>,
    wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    non_finite: Vec<String>,
    contradictions: Vec<Contradiction>,
    stand_in: usize,
    fingerprint: Xxh3,
}

/// The uses of the tensors of a network that was built.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Keys with weights that are not finite: the voice will be noise or silence.
    pub non_finite: Vec<String>,
    /// Tensors that were not used, by reason: their number and bytes.
    pub unneeded: BTreeMap<&'static str, (usize, u64)>,
    /// Number of tensors used.
    pub used: usize,
    /// A hash of the keys and elements used: equal for equal networks.
    pub fingerprint: u128,
}

impl Weights {
    /// Takes tensors by their keys in the file, without the prefixes `model_g.` and `_orig_mod.`.
    pub fn new(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        let mut tensors: Vec<(String, Tensor)> =
            tensors.into_iter().map(|(key, tensor)| (key.replace("_orig_mod.", ""), tensor)).collect();
        if tensors.iter().any(|(key, _)| key.starts_with(GENERATOR)) {
            for (key, _) in &mut tensors {
                *key = match key.strip_prefix(GENERATOR) {
                    Some(rest) => rest.to_owned(),
                    None if key.starts_with("model_d.") => std::mem::take(key),
                    None => format!("{OUTSIDE}{key}"),
                };
            }
        }
        Self { tensors: tensors.into_iter().collect(), blank: None, state: RefCell::default() }
    }

    /// The same keys and shapes with all elements NaN. Every number in the graphs of such a network belongs
    /// to their form and comes from no weight. All elements share one run of memory, so loading and emitting
    /// take no time for the size of the weights.
    #[must_use]
    pub fn blank(&self) -> Self {
        let most = self.tensors.values().map(Tensor::numel).max().unwrap_or(0);
        let tensors = self.tensors.clone();
        Self { tensors, blank: Some(Arc::new(vec![f32::NAN; most].into())), state: RefCell::default() }
    }

    /// The shape of the tensor called `key`.
    pub fn shape(&self, key: &str) -> Option<Vec<usize>> {
        self.tensors.get(key).map(|tensor| tensor.shape().to_vec())
    }

    /// All tensors and their keys, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(key, tensor)| (key.as_str(), tensor))
    }

    /// Drops the tensors that have been claimed. Anything built from them stays valid.
    pub fn drop_claimed(&mut self) {
        let claimed = &self.state.get_mut().claimed;
        self.tensors.retain(|key, _| !claimed.contains(key));
    }

    /// Compares `hparams` as stated by a file with the tensors, so that a mismatch names the number that
    /// differs.
    pub fn hold(&self, hparams: &HParams) {
        self.state.borrow_mut().contradictions = hparams.contradictions(&|key| self.shape(key));
    }

    /// The outermost scope.
    pub fn root(&self) -> Scope<'_> {
        Scope { weights: self, path: String::new() }
    }

    /// Finishes claiming.
    ///
    /// # Errors
    /// When a tensor was missing, had a wrong shape, or is left over without being known as unneeded.
    pub fn finish(&self) -> Result<Audit, WeightsError> {
        let state = self.state.borrow();
        let mut audit = Audit {
            non_finite: state.non_finite.clone(),
            used: state.claimed.len(),
            fingerprint: state.fingerprint.digest128(),
            ..Audit::default()
        };
        let mut unexpected = Vec::new();
        for (key, tensor) in &self.tensors {
            if state.claimed.contains(key) {
                continue;
            }
            match unneeded(key) {
                Some(reason) => {
                    let entry = audit.unneeded.entry(reason).or_default();
                    *entry = (entry.0 + 1, entry.1 + tensor.nbytes() as u64);
                }
                None => unexpected.push((key.as_str(), tensor)),
            }
        }
        if state.missing.is_empty() && state.wrong_shape.is_empty() && unexpected.is_empty() {
            return Ok(audit);
        }
        let comparable = |key: &str| key.len() <= MAX_COMPARED_BYTES;
        let candidates: Vec<&str> =
            unexpected.iter().map(|&(key, _)| key).filter(|key| comparable(key)).collect();
        let candidates = &candidates[..candidates.len().min(MAX_COMPARED_UNEXPECTED)];
        let nearest = |key: &str| {
            let near = candidates.iter().map(|other| (strsim::levenshtein(key, other), other)).min()?;
            (near.0 * 3 <= key.len()).then_some(*near.1)
        };
        let named = |key: &str| {
            let tensor = self.tensors.get(key);
            tensor.map_or_else(|| excerpt(key), |tensor| label(key, tensor))
        };
        let missing = state.missing.iter().take(MAX_PROBLEMS).enumerate().map(|(i, key)| {
            let compared = i < MAX_COMPARED_MISSING && comparable(key);
            let nearest = if compared { nearest(key) } else { None };
            (excerpt(key), nearest.map(named))
        });
        let truncated = unexpected.len() > MAX_PROBLEMS || state.missing.len() > MAX_PROBLEMS;
        Err(WeightsError::Mismatch(Mismatch {
            contradictions: state.contradictions.clone().into(),
            missing: missing.collect(),
            wrong_shape: state.wrong_shape.clone(),
            unexpected: unexpected
                .into_iter()
                .take(MAX_PROBLEMS)
                .map(|(key, tensor)| label(key, tensor))
                .collect(),
            truncated,
        }))
    }
}

/// A key for messages, with its name in the file if a reader renamed it.
fn label(key: &str, tensor: &Tensor) -> String {
    let bare = key.strip_prefix(OUTSIDE).or(key.strip_prefix(NO_SPEAKERS)).unwrap_or(key);
    let name = tensor.name();
    if name.replace("_orig_mod.", "").ends_with(bare) {
        excerpt(key)
    } else {
        format!("{} ({} in the file)", excerpt(key), excerpt(name))
    }
}

/// Prefix under which a Lightning module of piper keeps `SynthesizerTrn`.
const GENERATOR: &str = "model_g.";

/// A place in the tree of weights, similar to candle's `VarBuilder`.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    path: String,
}

impl Scope<'_> {
    /// The scope one or more levels deeper: `"flows.0"`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Self { weights: self.weights, path }
    }

    fn key(&self, leaf: &str) -> String {
        self.pp(leaf).path
    }

    /// Claims the tensor `leaf` with the given shape. A missing tensor or a wrong shape is recorded for
    /// [`Weights::finish`], and zeros are returned instead, so that other problems are found too.
    ///
    /// # Errors
    /// When the tensor cannot be read, or too many tensors are missing to continue.
    pub fn get(&self, dims: &[usize], leaf: &str) -> Result<Param, WeightsError> {
        let key = self.key(leaf);
        let mut state = self.weights.state.borrow_mut();
        let Some(tensor) = self.weights.tensors.get(&key) else {
            state.missing.insert(key);
            return self.stand_in(dims, state);
        };
        state.claimed.insert(key.clone());
        if tensor.shape() != dims {
            state.wrong_shape.push((label(&key, tensor), dims.to_vec(), tensor.shape().to_vec()));
            return self.stand_in(dims, state);
        }
        if let Some(blank) = self.weights.blank.as_ref().and_then(|run| Param::blank(dims, run)) {
            return Ok(blank);
        }
        state.fingerprint.update(key.as_bytes());
        let mut finite = true;
        let mut take = |data: &[u8]| {
            state.fingerprint.update(data);
            // Without an early exit the loop can be vectorised.
            let values = data.as_chunks().0.iter().map(|&value| f32::from_ne_bytes(value));
            finite &= values.fold(true, |finite, value| finite & value.is_finite());
        };
        // What is put together on request is only read here.
        let in_native_order = tensor.dtype() == DType::F32 && cfg!(target_endian = "little");
        let elements = match tensor.sources() {
            Some(sources) if in_native_order => {
                sources.iter().for_each(|source| take(source));
                let tensor = tensor.clone();
                Elements::Computed(Arc::new(move || match tensor.to_f32() {
                    Ok(data) => data.to_vec(),
                    Err(_) => unreachable!("as many elements as the sources have"),
                }))
            }
            _ => {
                let data = tensor.to_f32()?;
                take(&data.clone().into_bytes());
                Elements::Stored(data)
            }
        };
        if !finite {
            state.non_finite.push(key);
        }
        Ok(Param { dims: dims.to_vec(), elements, blank: None })
    }

    fn stand_in(
        &self,
        dims: &[usize],
        mut state: std::cell::RefMut<'_, State>,
    ) -> Result<Param, WeightsError> {
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        state.stand_in = state.stand_in.saturating_add(count);
        let problems = state.missing.len() + state.wrong_shape.len();
        if state.stand_in > MAX_STAND_IN || problems > MAX_PROBLEMS {
            drop(state);
            // Fails, because at least the problem just recorded exists.
            self.weights.finish()?;
        }
        Ok(Param::new(dims, vec![0.0; count]))
    }

    /// Claims a weight to which upstream applies weight norm, in any of its three spellings in files:
    /// `weight_g` and `weight_v`, `parametrizations.weight.original0` and `.original1`, or a folded `weight`.
    /// The norm is over every axis but the first: w = v * g / ||v||.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn weight_norm(&self, dims: &[usize]) -> Result<Param, WeightsError> {
        const SPELLINGS: [(&str, &str); 2] = [
            ("weight_g", "weight_v"),
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ];
        let has = |leaf: &str| self.weights.tensors.contains_key(&self.key(leaf));
        let spelling = SPELLINGS.iter().find(|(g, v)| has(g) || has(v));
        let Some((g, v)) = spelling.or((!has("weight")).then_some(&SPELLINGS[0])) else {
            return self.get(dims, "weight");
        };
        let mut g_dims = vec![1; dims.len()];
        g_dims[0] = dims[0];
        let (g, v) = (self.get(&g_dims, g)?, self.get(dims, v)?);
        if let Some(blank) = Param::blank_of(dims, [&g, &v]) {
            return Ok(blank);
        }
        let fold = move || folded(&g.elements(), &v.elements());
        Ok(Param { dims: dims.to_vec(), elements: Elements::Computed(Arc::new(fold)), blank: None })
    }
}

/// Weight norm for `g: f32[rows]` and `v: f32[rows, ..]`: every row of `v` scaled to the norm in `g`.
fn folded(g: &[f32], v: &[f32]) -> Vec<f32> {
    let row = v.len() / g.len().max(1);
    let mut folded = Vec::with_capacity(v.len());
    for (row, &g) in v.chunks_exact(row.max(1)).zip(g) {
        let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        // A row of zeros has no direction; PyTorch divides by zero there, and so does this code.
        let scale = f64::from(g) / norm;
        folded.extend(row.iter().map(|&x| (f64::from(x) * scale) as f32));
    }
    folded
}
