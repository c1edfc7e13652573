//! Convolutions of three taps with two thirds of the multiplications: Winograd's F(2, 3) (Lavin and Gray 2016).
//!
//! Two neighbouring outputs of taps `w` need the inputs `d_0` to `d_3`. Computed directly, that takes six
//! products; this way it takes four:
//!
//! ```text
//! m_0 = (d_0 - d_2) w_0                     y_0 = m_0 + m_1 + m_2
//! m_1 = (d_1 + d_2) (w_0 + w_1 + w_2) / 2   y_1 = m_1 - m_2 + m_3
//! m_2 = (d_2 - d_1) (w_0 - w_1 + w_2) / 2
//! m_3 = (d_3 - d_1) w_2
//! ```
//!
//! With rows of channels as inputs and matrices as taps, each `m` is one matrix product over all pairs. The
//! sums of the taps are computed in the graph and not stored in the file: the taps stay as trained, and a
//! runtime computes their sums when it loads them. F(4, 3) would need another quarter fewer products, for two
//! to four times the rounding error.

use bytes::Bytes;
use vitstream_onnx::{Dim, GraphBuilder, ValueId};

use crate::elements::transposed_together;
use crate::modules::{Conv1d, dim};
use crate::read_back::{self, ReadBack, key};
use crate::weights::Param;

/// The rows of a value in pairs: `even` holds rows 0, 2, .., `odd` rows 1, 3, .., each `f32[b, 1, pairs, c]`.
#[derive(Clone, Copy)]
pub(crate) struct Pairs {
    even: ValueId,
    odd: ValueId,
}

impl Pairs {
    /// The pairs of `x: f32[b, 1, 2 * pairs, c]`.
    pub(crate) fn of(g: &mut GraphBuilder, x: ValueId, pairs: &Dim) -> Self {
        let (b, c) = (g.dim(x, 0), g.const_dim(x, 3));
        let x = g.reshape(x, &[b, dim(1), pairs.clone(), dim(2 * c)]);
        let parts = g.split(x, 3, &[c, c]);
        Self { even: parts[0], odd: parts[1] }
    }

    /// The value with its rows in order again: `f32[b, 1, 2 * pairs, c]`.
    pub(crate) fn joined(self, g: &mut GraphBuilder) -> ValueId {
        let [b, pairs, c] = [0, 2, 3].map(|axis| g.dim(self.even, axis));
        let x = g.concat(&[self.even, self.odd], 3);
        g.reshape(x, &[b, dim(1), &pairs * &dim(2), c])
    }

    /// ReLU, multiplied by the masks, each `mask: f32[b, 1, pairs, 1]`.
    pub(crate) fn rectified(self, g: &mut GraphBuilder, mask: Self) -> Self {
        let mut rectify = |x, mask| {
            let x = g.relu(x);
            g.mul(x, mask)
        };
        Self { even: rectify(self.even, mask.even), odd: rectify(self.odd, mask.odd) }
    }

    /// The odd rows one pair earlier: row 2i - 1.
    fn before(self, g: &mut GraphBuilder) -> ValueId {
        shifted(g, self.odd, 1)
    }

    /// The even rows one pair later: row 2i + 2.
    fn after(self, g: &mut GraphBuilder) -> ValueId {
        shifted(g, self.even, -1)
    }
}

/// The rows shifted by `by` positions, with zeros in place of those that are cut off.
fn shifted(g: &mut GraphBuilder, x: ValueId, by: i64) -> ValueId {
    let mut amounts = vec![dim(0); 8];
    (amounts[2], amounts[6]) = (Dim::from(by), Dim::from(-by));
    g.pad_dims(x, &amounts, 0.0)
}

impl Conv1d {
    /// Returns true if [`emit_pairs`](Self::emit_pairs) applies: three adjacent taps.
    pub(crate) fn fits_pairs(&self) -> bool {
        (self.kernel(), self.dilation, self.groups) == (3, 1, 1)
    }

    /// Convolves rows of `c_in` channels to rows of `c_out`, with zeros beyond the ends.
    pub(crate) fn emit_pairs(&self, g: &mut GraphBuilder, x: Pairs) -> Pairs {
        let [w_0, w_1, w_2, w_3] = g.scope("weight", |g| self.emit_products(g));
        let (d_0, d_1, d_2, d_3) = (x.before(g), x.even, x.odd, x.after(g));

        let sum = g.add(d_1, d_2);
        let mut m_1 = g.matmul(sum, w_1);
        if let Some(bias) = &self.bias {
            // Both outputs receive the bias through this term.
            let bias = g.initializer("bias", bias.tensor());
            m_1 = g.add(m_1, bias);
        }
        let difference = g.sub(d_2, d_1);
        let m_2 = g.matmul(difference, w_2);
        let (even, odd) = (g.add(m_1, m_2), g.sub(m_1, m_2));
        let difference = g.sub(d_0, d_2);
        let m_0 = g.matmul(difference, w_0);
        let difference = g.sub(d_3, d_1);
        let m_3 = g.matmul(difference, w_3);
        Pairs { even: g.add(even, m_0), odd: g.add(odd, m_3) }
    }

    /// The four matrices `f32[c_in, c_out]`, computed from the taps' own.
    fn emit_products(&self, g: &mut GraphBuilder) -> [ValueId; 4] {
        let (c_in, c_out) = (self.c_in(), self.c_out());
        let [w_0, w_1, w_2] = [0, 1, 2].map(|tap| {
            let matrix = || {
                let kernels = self.weight.elements();
                let at = (0..c_in).flat_map(|i| (0..c_out).map(move |o| (o * c_in + i) * 3 + tap));
                at.map(|at| kernels[at]).collect()
            };
            let matrix = Param::derived(&[c_in, c_out], [&self.weight], matrix);
            g.initializer(&tap.to_string(), matrix.tensor())
        });
        let outer = g.add(w_0, w_2);
        let outer = g.mul_scalar(outer, 0.5);
        let inner = g.mul_scalar(w_1, 0.5);
        [w_0, g.add(outer, inner), g.sub(outer, inner), w_2]
    }

    /// Reads back the result of [`emit_pairs`](Self::emit_pairs). The taps, most of an encoder's size, are in
    /// three matrices, and are interleaved only on request.
    pub(crate) fn read_back_pairs(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        let key = key(path);
        let operand = |name: &str, at| r.operand(&format!("/{path}/{name}"), at);
        let taps = [operand("weight/Add", 0)?, operand("weight/Mul_1", 0)?, operand("weight/Add", 1)?];
        let [c_in, c_out] = r.expect(&format!("{key}.weight"), &taps[0])?;
        let bias = operand("Add_1", 1)?;
        if bias.dims != [c_out] || taps.iter().any(|tap| tap.dims != [c_in, c_out] || tap.data.is_empty()) {
            let found: Vec<_> = taps.iter().chain([&bias]).map(|array| &array.dims).collect();
            let problem = format!("expected three times [in, out] and [out], found {found:?}");
            return Err(r.error(format!("{key}.weight"), problem));
        }
        r.put(format!("{key}.bias"), &bias.dims, bias.data)?;
        let taps = taps.map(|tap| tap.data);
        let interleave = move |taps: &[Bytes]| {
            transposed_together(std::array::from_fn::<_, 3, _>(|tap| &taps[tap][..]), c_in, c_out)
        };
        r.put_rearranged(format!("{key}.weight"), &[c_out, c_in, 3], taps, interleave)
    }
}
