//! The generator's last convolution, computing several samples at once.

use vitstream_onnx::{ConvAxis, Dim, GraphBuilder, ValueId};

use crate::elements::unscaled;
use crate::modules::{Conv1d, dim};
use crate::read_back::{self, ReadBack, key};
use crate::weights::Param;

/// Limit on the samples computed at once: ONNX Runtime's block of channels.
const BLOCK: usize = 16;

/// A convolution to one channel that computes several neighbouring samples at once.
pub(crate) struct Strided {
    weight: ValueId,
    /// Samples per step.
    pub(crate) samples: usize,
    /// Zeros before the first step and after the last, which keep the length.
    pub(crate) padding: usize,
}

impl Strided {
    /// A convolution to one channel leaves most of a vector register idle. Therefore `n` neighbouring samples
    /// become `n` channels of a convolution with stride `n` (channel r has the kernel shifted by r), which
    /// are interleaved afterwards. `n` divides `multiple`, as the length does.
    pub(crate) fn new(g: &mut GraphBuilder, multiple: usize, conv: &Conv1d) -> Self {
        let n = (1..=BLOCK).rev().find(|n| multiple.is_multiple_of(*n)).unwrap_or(1);
        let (c_in, kernel) = (conv.c_in(), conv.kernel());
        let width = kernel + n - 1;
        let kernels = conv.weight.elements();
        let mut weight = vec![0.0; n * c_in * width];
        for r in 0..n {
            for i in 0..c_in {
                let row = (r * c_in + i) * width + r;
                weight[row..row + kernel].copy_from_slice(&kernels[i * kernel..][..kernel]);
            }
        }
        let weight = g.initializer("weight", Param::new(&[n, c_in, 1, width], weight).tensor());
        Self { weight, samples: n, padding: conv.padding() }
    }

    /// `x: f32[b, c_in, rows, t']`, with `pad` zeros to be added on each side of a row → the Tanh of the
    /// result, `f32[b, 1, rows, length]`.
    pub(crate) fn emit(&self, g: &mut GraphBuilder, x: ValueId, pad: usize, length: &Dim) -> ValueId {
        let n = self.samples;
        let axis = ConvAxis { stride: n, dilation: 1, pad_begin: pad, pad_end: pad };
        let y = g.conv_strided(x, self.weight, &[ConvAxis::default(), axis], &blocks(length, n));
        let y = g.tanh(y);
        let y = g.transpose(y, &[0, 2, 3, 1]);
        let (b, rows) = (g.dim(y, 0), g.dim(y, 1));
        let y = g.reshape(y, &[b.clone(), dim(1), rows.clone(), &blocks(length, n) * &dim(n)]);
        g.assume_shape(y, vec![b, dim(1), rows, length.clone()])
    }

    /// Of several samples computed at once, the first has the kernel unshifted. It was multiplied by `share`.
    pub(crate) fn read_back(r: &mut ReadBack<'_>, path: &str, share: f32) -> read_back::Result<()> {
        let key = format!("{}.weight", key(path));
        let conv = Conv1d::find(r, path)?;
        let [samples, c_in, width] = r.expect(&key, &conv.weight)?;
        let Some(kernel) = (width + 1).checked_sub(samples).filter(|&kernel| kernel > 0) else {
            return Err(r.error(key, format!("expected at least {samples} taps, found {width}")));
        };
        let kernels = |sample: usize| {
            let rows = conv.weight.rows(sample..sample + 1);
            let kernels = rows.chunks_exact(4 * width).flat_map(|row| &row[4 * sample..][..4 * kernel]);
            kernels.copied().collect::<Vec<u8>>()
        };
        let row = kernels(0);
        if let Some(sample) = (1..samples).find(|&sample| kernels(sample) != row) {
            let problem =
                format!("the kernel of sample {sample} contradicts that of the first: the file was changed");
            return Err(r.error(key, problem));
        }
        r.put(key, &[1, c_in, kernel], unscaled(&row, share))
    }
}

/// Number of blocks of `n` steps in a length that is a multiple of n.
fn blocks(length: &Dim, n: usize) -> Dim {
    length.exact_div(n as i64).unwrap_or_else(|| Dim::symbol(format!("blocks.{n}.of.{length}")))
}
