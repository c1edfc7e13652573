//! Reference values: results of another implementation, in a safetensors file.
//!
//! Names and shapes are those of `crates/vitstream-vits/tests/golden/README.md`: `input`, `input_lengths`,
//! `scales`, `sid`; the draws `noise.dp`, `noise.p`; and the available results among `logw` and `x_mask`,
//! `w_ceil`, `z_p`, `y_mask`, `g`, `z`, `audio`.

use std::path::Path;

use vitstream_checkpoint::{Checkpoint, Format};
use vitstream_synth::{MAX_IDS, MAX_STRETCHED_IDS, Scales};

use crate::Error;
use crate::session::Array;
use crate::voice::{Request, Stages};

/// Limit on the bytes of the tensors that are read: several times the latents and audio of the longest
/// utterance.
const MOST_BYTES: usize = 512 << 20;

/// Names of the tensors that are read.
const NAMES: [&str; 14] = [
    "input",
    "input_lengths",
    "scales",
    "sid",
    "noise.dp",
    "noise.p",
    "logw",
    "x_mask",
    "w_ceil",
    "z_p",
    "y_mask",
    "g",
    "z",
    "audio",
];

fn dims<T>(array: &Option<Array<T>>) -> Option<&[usize]> {
    array.as_ref().map(|array| &*array.dims)
}

/// A case: its inputs and its results.
pub(super) struct Reference {
    pub(super) request: Request,
    pub(super) stages: Stages,
}

impl Reference {
    /// Reads the file; `None` if it holds something else.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        if !path.is_file() {
            return Ok(None);
        }
        let Ok(file) = Checkpoint::open(path) else { return Ok(None) };
        let has = |name: &str| file.tensors().get(name).is_some();
        if file.format() != Format::Safetensors || !has("input") || !has("scales") {
            return Ok(None);
        }
        let mut left = MOST_BYTES;
        for name in NAMES {
            let Some(tensor) = file.tensors().get(name) else { continue };
            let elements =
                tensor.shape().iter().try_fold(1usize, |product, &length| product.checked_mul(length));
            // Whatever their type in the file, elements take at most eight bytes in memory.
            let bytes = elements.and_then(|elements| elements.checked_mul(8));
            left = bytes.and_then(|bytes| left.checked_sub(bytes)).ok_or_else(|| Error::Unrecoverable {
                path: path.to_owned(),
                place: format!("tensor {name}"),
                problem: format!(
                    "of shape {:?}: with it there is more than {MOST_BYTES} bytes allow",
                    tensor.shape()
                ),
            })?;
        }
        let ints = |name: &str| -> Result<Option<Array<i64>>, Error> {
            let Some(tensor) = file.tensors().get(name) else { return Ok(None) };
            Ok(Some(Array { dims: tensor.shape().to_vec(), data: tensor.to_i64()? }))
        };
        let floats = |name: &str| -> Result<Option<Array<f32>>, Error> {
            let Some(tensor) = file.tensors().get(name) else { return Ok(None) };
            Ok(Some(Array { dims: tensor.shape().to_vec(), data: tensor.to_f32()?.to_vec() }))
        };
        let wrong = |name: &str, expected: &str, found: &[usize]| Error::Unrecoverable {
            path: path.to_owned(),
            place: format!("tensor {name}"),
            problem: format!("expected {expected}, found the shape {found:?}"),
        };
        let needed = |name: &str| wrong(name, "a tensor of this name", &[]);
        let input = ints("input")?.ok_or_else(|| needed("input"))?;
        let &[batch @ (1..), ids @ (1..)] = input.dims.as_slice() else {
            return Err(wrong("input", "phoneme ids [batch, ids]", &input.dims));
        };
        // A batch takes memory proportional to its items; one item takes memory proportional to the square of
        // its length.
        if ids > MAX_IDS || batch.saturating_mul(ids).saturating_mul(ids) > MAX_IDS * MAX_IDS {
            return Err(wrong(
                "input",
                &format!("at most {MAX_IDS} phoneme ids, fewer in a batch"),
                &input.dims,
            ));
        }
        let input_lengths = ints("input_lengths")?.unwrap_or_else(|| Array::full(&[batch], ids as i64));
        let scales = floats("scales")?.ok_or_else(|| needed("scales"))?;
        let (sid, noise_dp, noise_p) = (ints("sid")?, floats("noise.dp")?, floats("noise.p")?);
        let mut stages = Stages {
            w: None,
            w_ceil: floats("w_ceil")?,
            z_p: floats("z_p")?,
            y_mask: floats("y_mask")?,
            g: floats("g")?,
            z: floats("z")?,
            audio: floats("audio")?,
        };
        let fits = |name: &str, dims: Option<&[usize]>, expected: &[Option<usize>]| -> Result<(), Error> {
            let Some(dims) = dims else { return Ok(()) };
            let mut axes = dims.iter().zip(expected);
            if dims.len() == expected.len() && axes.all(|(dim, axis)| axis.is_none_or(|axis| axis == *dim)) {
                return Ok(());
            }
            let axes: Vec<String> =
                expected.iter().map(|axis| axis.map_or("any".to_owned(), |n| n.to_string())).collect();
            Err(wrong(name, &format!("[{}]", axes.join(", ")), dims))
        };
        let b = Some(batch);
        fits("input_lengths", Some(&input_lengths.dims), &[b])?;
        fits("scales", Some(&scales.dims), &[Some(3)])?;
        fits("sid", dims(&sid), &[b])?;
        fits("noise.dp", dims(&noise_dp), &[b, Some(2), Some(ids)])?;
        fits("noise.p", dims(&noise_p), &[b, None, None])?;
        fits("z_p", dims(&stages.z_p), &[b, None, None])?;
        fits("z", dims(&stages.z), &[b, None, None])?;
        fits("y_mask", dims(&stages.y_mask), &[b, Some(1), None])?;
        fits("g", dims(&stages.g), &[b, None, Some(1)])?;
        if let (Some(logw), Some(x_mask)) = (floats("logw")?, floats("x_mask")?)
            && logw.data.len() == input.data.len()
            && x_mask.data.len() == input.data.len()
        {
            let w = logw.data.iter().zip(&x_mask.data).map(|(logw, mask)| logw.exp() * mask * scales.data[1]);
            stages.w = Some(Array::new(&[batch, ids], w.collect::<Vec<_>>()));
        }
        let request = Request { input, input_lengths, scales, sid, noise_dp, noise_p };
        Ok(Some(Self { request, stages }.masked()))
    }

    /// Checks that the voice can speak the reference and that the reference does not contradict itself:
    /// faults of the reference are not the voice's.
    pub(super) fn check(
        &self,
        path: &Path,
        symbols: Option<usize>,
        speakers: Option<usize>,
    ) -> Result<(), Error> {
        let wrong = |name: &str, problem: String| {
            Err(Error::Unrecoverable { path: path.to_owned(), place: format!("tensor {name}"), problem })
        };
        let Self { request, stages } = self;
        let within = |name: &str, values: &[i64], count: usize| match values
            .iter()
            .position(|&id| !usize::try_from(id).is_ok_and(|id| id < count))
        {
            None => Ok(()),
            Some(at) => wrong(
                name,
                format!("{} at position {at}: expected 0 to {}", values[at], count.saturating_sub(1)),
            ),
        };
        within("input", &request.input.data, symbols.unwrap_or(i32::MAX as usize))?;
        let ids = request.input.dims[1];
        for &length in &request.input_lengths.data {
            if !usize::try_from(length).is_ok_and(|length| (1..=ids).contains(&length)) {
                return wrong("input_lengths", format!("expected 1 to {ids}, found {length}"));
            }
        }
        match (&request.sid, speakers) {
            (Some(sid), Some(count)) => within("sid", &sid.data, count)?,
            (None, Some(_)) => return wrong("sid", "expected a speaker, found none".to_owned()),
            _ => {}
        }
        if let &[noise, length, noise_w] = request.scales.data.as_slice() {
            let scales = Scales { noise, length, noise_w };
            if let Err(error) = scales.check() {
                return wrong("scales", error.to_string());
            }
            if ids as f64 * f64::from(length) > MAX_STRETCHED_IDS {
                return wrong("scales", format!("{ids} phoneme ids are too long at length scale {length}"));
            }
        }
        let floats = [
            ("noise.dp", &request.noise_dp),
            ("noise.p", &request.noise_p),
            ("logw", &stages.w),
            ("w_ceil", &stages.w_ceil),
            ("z_p", &stages.z_p),
            ("y_mask", &stages.y_mask),
            ("g", &stages.g),
            ("z", &stages.z),
            ("audio", &stages.audio),
        ];
        for (name, array) in floats {
            let values = array.as_ref().map_or(&[][..], |array| &array.data);
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return wrong(name, format!("value number {at} is {}, expected finite numbers", values[at]));
            }
        }
        let frames = |array: &Option<Array<f32>>| array.as_ref()?.dims.last().copied();
        if let Some(expected) = frames(&stages.z_p) {
            for (name, array) in [("y_mask", &stages.y_mask), ("z", &stages.z)] {
                if let Some(found) = frames(array).filter(|&found| found != expected) {
                    return wrong(name, format!("expected the {expected} frames of z_p, found {found}"));
                }
            }
        }
        Ok(())
    }

    /// Applies the mask to the latent, which is stored unmasked; a decoder masks its input.
    fn masked(mut self) -> Self {
        if let (Some(z), Some(mask)) = (&mut self.stages.z, &self.stages.y_mask)
            && mask.dims.last() == z.dims.last()
        {
            let (channels, frames) = (z.dims[1].max(1), z.dims[2].max(1));
            for (row, values) in z.data.chunks_exact_mut(frames).enumerate() {
                let mask = &mask.data[row / channels * frames..][..frames];
                values.iter_mut().zip(mask).for_each(|(value, mask)| *value *= mask);
            }
        }
        self
    }
}
