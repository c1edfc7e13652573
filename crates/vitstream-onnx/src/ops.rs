//! The operators, as one method each with its shape rule. ONNX's specification defines what they compute;
//! comments here only state differences from it, or between operator sets.

use crate::builder::GraphBuilder;
use crate::dim::{Dim, Shape, show};
use crate::graph::{Attr, DType, Tensor, ValueId};
use crate::infer;

/// One spatial axis of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvAxis {
    /// Step between outputs.
    pub stride: usize,
    /// Step between taps.
    pub dilation: usize,
    /// Zeros before the input.
    pub pad_begin: usize,
    /// Zeros after the input.
    pub pad_end: usize,
}

impl Default for ConvAxis {
    fn default() -> Self {
        Self { stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 }
    }
}

impl ConvAxis {
    /// Zeros on both sides that keep the input's length for a kernel of odd length.
    pub fn same(kernel: usize, dilation: usize) -> Self {
        let pad = (kernel.max(1) - 1) * dilation / 2;
        Self { dilation, pad_begin: pad, pad_end: pad, ..Self::default() }
    }
}

/// Parameters of a RandomNormalLike node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RandomNormal {
    /// The node's seed; unseeded when absent.
    pub seed: Option<f32>,
}

fn ints(values: impl IntoIterator<Item = usize>) -> Attr {
    Attr::Ints(values.into_iter().map(|v| i64::try_from(v).unwrap_or(i64::MAX)).collect())
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $op:literal;)*) => {
        impl GraphBuilder {
            $(
                $(#[$doc])*
                pub fn $name(&mut self, x: ValueId) -> ValueId {
                    let inferred = Ok((self.dtype(x), self.shape(x).to_vec()));
                    self.node($op, &[Some(x)], &[], inferred)
                }
            )*
        }
    };
}

unary! {
    /// x under another name.
    identity => "Identity";
    /// max(x, 0).
    relu => "Relu";
    /// tanh x.
    tanh => "Tanh";
    /// 1 / (1 + exp(-x)).
    sigmoid => "Sigmoid";
    /// e^x.
    exp => "Exp";
    /// |x|.
    abs => "Abs";
    /// Natural logarithm.
    log => "Log";
    /// -x.
    neg => "Neg";
    /// x rounded up to an integer.
    ceil => "Ceil";
    /// The square root.
    sqrt => "Sqrt";
    /// The Gauss error function.
    erf => "Erf";
    /// ln(1 + e^x).
    softplus => "Softplus";
    /// Logical negation of a boolean.
    not => "Not";
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => $op:literal $(, $dtype:expr)?;)*) => {
        impl GraphBuilder {
            $(
                $(#[$doc])*
                pub fn $name(&mut self, a: ValueId, b: ValueId) -> ValueId {
                    let inferred = self.broadcast(a, b)$(.map(|(_, shape)| ($dtype, shape)))?;
                    self.node($op, &[Some(a), Some(b)], &[], inferred)
                }
            )*
        }
    };
}

binary! {
    /// a + b.
    add => "Add";
    /// a - b.
    sub => "Sub";
    /// a * b.
    mul => "Mul";
    /// a / b; for integers rounded towards zero.
    div => "Div";
    /// The larger of the two, element by element.
    max => "Max";
    /// The smaller of the two, element by element.
    min => "Min";
    /// a < b.
    less => "Less", DType::Bool;
    /// a <= b.
    less_or_equal => "LessOrEqual", DType::Bool;
    /// a > b.
    greater => "Greater", DType::Bool;
    /// a >= b.
    greater_or_equal => "GreaterOrEqual", DType::Bool;
    /// a = b.
    equal => "Equal", DType::Bool;
    /// a and b, both boolean.
    and => "And";
}

impl GraphBuilder {
    fn broadcast(&self, a: ValueId, b: ValueId) -> Result<(DType, Shape), String> {
        if self.dtype(a) != self.dtype(b) {
            return Err(format!("types {} and {} differ", self.dtype(a), self.dtype(b)));
        }
        Ok((self.dtype(a), infer::broadcast(self.shape(a), self.shape(b))?))
    }

    /// x + constant.
    pub fn add_scalar(&mut self, x: ValueId, value: f32) -> ValueId {
        let value = self.scalar(value);
        self.add(x, value)
    }

    /// x * constant.
    pub fn mul_scalar(&mut self, x: ValueId, value: f32) -> ValueId {
        let value = self.scalar(value);
        self.mul(x, value)
    }

    /// max(x, slope * x), for slopes below 1.
    pub fn leaky_relu(&mut self, x: ValueId, slope: f32) -> ValueId {
        let inferred = Ok((self.dtype(x), self.shape(x).to_vec()));
        self.node("LeakyRelu", &[Some(x)], &[("alpha", Attr::Float(slope))], inferred)
    }

    /// x limited to `low..=high`.
    pub fn clip(&mut self, x: ValueId, low: f32, high: f32) -> ValueId {
        let (low, high) = (self.scalar(low), self.scalar(high));
        let inferred = Ok((self.dtype(x), self.shape(x).to_vec()));
        self.node("Clip", &[Some(x), Some(low), Some(high)], &[], inferred)
    }

    /// `condition ? a : b`.
    pub fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> ValueId {
        let inferred = self
            .broadcast(a, b)
            .and_then(|(dtype, shape)| Ok((dtype, infer::broadcast(&shape, self.shape(condition))?)));
        self.node("Where", &[Some(condition), Some(a), Some(b)], &[], inferred)
    }

    /// x in another element type.
    pub fn cast(&mut self, x: ValueId, to: DType) -> ValueId {
        let code = match to {
            DType::F32 => 1,
            DType::I32 => 6,
            DType::I64 => 7,
            DType::Bool => 9,
            DType::F16 => 10,
            DType::F64 => 11,
        };
        let inferred = Ok((to, self.shape(x).to_vec()));
        self.node("Cast", &[Some(x)], &[("to", Attr::Int(code))], inferred)
    }

    /// The matrix product over the last two axes, both operands of rank 2 or more.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let inferred = infer::matmul(self.shape(a), self.shape(b)).map(|shape| (self.dtype(a), shape));
        self.node("MatMul", &[Some(a), Some(b)], &[], inferred)
    }

    /// A convolution. `x: [b, c_in, spatial..]`, `weight: [c_out, c_in / groups, kernel..]`, `bias: [c_out]`, one
    /// [`ConvAxis`] for each spatial axis.
    pub fn conv(
        &mut self,
        x: ValueId,
        weight: ValueId,
        bias: Option<ValueId>,
        axes: &[ConvAxis],
        groups: usize,
    ) -> ValueId {
        let inferred = self.infer_conv(x, weight, axes, groups);
        self.conv_node(x, weight, bias, axes, groups, inferred)
    }

    /// A convolution without bias. The caller states its length along the last axis, because a stride makes
    /// it a quotient that symbols cannot express.
    pub fn conv_strided(&mut self, x: ValueId, weight: ValueId, axes: &[ConvAxis], length: &Dim) -> ValueId {
        let dense: Vec<ConvAxis> = axes.iter().map(|axis| ConvAxis { stride: 1, ..*axis }).collect();
        let inferred = self.infer_conv(x, weight, &dense, 1).map(|(dtype, mut shape)| {
            if let Some(last) = shape.last_mut() {
                *last = length.clone();
            }
            (dtype, shape)
        });
        self.conv_node(x, weight, None, axes, 1, inferred)
    }

    fn conv_node(
        &mut self,
        x: ValueId,
        weight: ValueId,
        bias: Option<ValueId>,
        axes: &[ConvAxis],
        groups: usize,
        inferred: Result<(DType, Shape), String>,
    ) -> ValueId {
        let kernel = self.shape(weight).iter().skip(2).filter_map(Dim::as_const).collect();
        let mut attrs = vec![("kernel_shape", Attr::Ints(kernel))];
        if axes.iter().any(|a| a.dilation != 1) {
            attrs.push(("dilations", ints(axes.iter().map(|a| a.dilation))));
        }
        if axes.iter().any(|a| a.stride != 1) {
            attrs.push(("strides", ints(axes.iter().map(|a| a.stride))));
        }
        if axes.iter().any(|a| a.pad_begin + a.pad_end != 0) {
            attrs
                .push(("pads", ints(axes.iter().map(|a| a.pad_begin).chain(axes.iter().map(|a| a.pad_end)))));
        }
        if groups != 1 {
            attrs.push(("group", Attr::Int(groups as i64)));
        }
        let mut inputs = vec![Some(x), Some(weight)];
        inputs.extend(bias.map(Some));
        self.node("Conv", &inputs, &attrs, inferred)
    }

    fn infer_conv(
        &self,
        x: ValueId,
        weight: ValueId,
        axes: &[ConvAxis],
        groups: usize,
    ) -> Result<(DType, Shape), String> {
        let (x_shape, w_shape) = (self.shape(x), self.shape(weight));
        let ([batch, channels, spatial @ ..], [c_out, c_in, kernels @ ..]) = (x_shape, w_shape) else {
            return Err("a convolution needs a batch and a channel axis".to_owned());
        };
        if spatial.len() != axes.len() || kernels.len() != axes.len() {
            return Err(format!("{} spatial axes expected", axes.len()));
        }
        if *channels != c_in * &Dim::from(groups) {
            return Err(format!("{channels} channels, the weight takes {groups} times {c_in}"));
        }
        let mut shape = vec![batch.clone(), c_out.clone()];
        for ((length, kernel), axis) in spatial.iter().zip(kernels).zip(axes) {
            let kernel = kernel
                .as_const()
                .and_then(|k| usize::try_from(k).ok())
                .ok_or("a kernel of unknown length")?;
            shape.push(infer::conv_length(length, kernel, axis)?);
        }
        Ok((self.dtype(x), shape))
    }

    /// A transposed convolution over one axis with symmetric padding. `x: [b, c_in, t]`,
    /// `weight: [c_in, c_out, kernel]` → `[b, c_out, (t - 1) * stride - 2 * padding + kernel]`.
    pub fn conv_transpose(
        &mut self,
        x: ValueId,
        weight: ValueId,
        bias: Option<ValueId>,
        stride: usize,
        padding: usize,
    ) -> ValueId {
        let inferred = match (self.shape(x), self.shape(weight)) {
            ([b, c, t], [c_in, c_out, kernel]) if c == c_in => {
                let grown = &(t * &Dim::from(stride)) - &Dim::from(stride + 2 * padding);
                Ok((self.dtype(x), vec![b.clone(), c_out.clone(), &grown + kernel]))
            }
            _ => Err("a transposed convolution takes [b, c_in, t] and [c_in, c_out, k]".to_owned()),
        };
        let kernel = self.shape(weight).iter().skip(2).filter_map(Dim::as_const).collect();
        let attrs = [
            ("kernel_shape", Attr::Ints(kernel)),
            ("strides", ints([stride])),
            ("pads", ints([padding, padding])),
        ];
        let mut inputs = vec![Some(x), Some(weight)];
        inputs.extend(bias.map(Some));
        self.node("ConvTranspose", &inputs, &attrs, inferred)
    }

    /// x with its axes in another order.
    pub fn transpose(&mut self, x: ValueId, order: &[usize]) -> ValueId {
        let shape = self.shape(x);
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        let inferred = if sorted.iter().copied().eq(0..shape.len()) {
            Ok((self.dtype(x), order.iter().map(|&axis| shape[axis].clone()).collect()))
        } else {
            Err(format!("{order:?} is not an order of the axes"))
        };
        self.node("Transpose", &[Some(x)], &[("perm", ints(order.iter().copied()))], inferred)
    }

    /// The same elements in another shape. The number of elements must be provably the same.
    pub fn reshape(&mut self, x: ValueId, shape: &[Dim]) -> ValueId {
        let (from, to) = (infer::count(self.shape(x)), infer::count(shape));
        let inferred = if from == to {
            Ok((self.dtype(x), shape.to_vec()))
        } else {
            Err(format!("{from} elements cannot take the shape {}", show(shape)))
        };
        // ONNX copies a dimension for 0 and infers one for -1, so most symbolic targets need no node.
        let old = self.shape(x).to_vec();
        let mut unknown = 0;
        let literal: Vec<Option<i64>> = shape
            .iter()
            .enumerate()
            .map(|(i, dim)| {
                dim.as_const().filter(|&n| n > 0).or((old.get(i) == Some(dim)).then_some(0)).or_else(|| {
                    unknown += 1;
                    (unknown == 1).then_some(-1)
                })
            })
            .collect();
        let mut parts = Vec::new();
        for run in
            literal.iter().zip(shape).collect::<Vec<_>>().chunk_by(|a, b| a.0.is_some() && b.0.is_some())
        {
            let literals: Option<Vec<i64>> = run.iter().map(|(literal, _)| **literal).collect();
            parts.push(match literals {
                Some(literals) => self.ints(&literals),
                None => self.dim_value(run[0].1),
            });
        }
        let target = match parts[..] {
            [] => self.ints(&[]),
            [one] => one,
            _ => self.concat(&parts, 0),
        };
        self.node("Reshape", &[Some(x), Some(target)], &[], inferred)
    }

    /// `shape` as an int64 `[rank]` value.
    pub fn dims_value(&mut self, shape: &[Dim]) -> ValueId {
        if let Some(literal) = shape.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>() {
            return self.ints(&literal);
        }
        let parts: Vec<ValueId> = shape.iter().map(|dim| self.dim_value(dim)).collect();
        self.concat(&parts, 0)
    }

    /// The length of one axis at run time: int64 `[1]`.
    pub fn shape_of(&mut self, x: ValueId, axis: usize) -> ValueId {
        let attrs = [("start", Attr::Int(axis as i64)), ("end", Attr::Int(axis as i64 + 1))];
        self.node("Shape", &[Some(x)], &attrs, Ok((DType::I64, vec![Dim::from(1i64)])))
    }

    /// x with new axes of length 1; `axes` are positions in the result, ascending.
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[usize]) -> ValueId {
        let mut shape = self.shape(x).to_vec();
        let fits = axes.iter().all(|&axis| {
            let fits = axis <= shape.len();
            if fits {
                shape.insert(axis, Dim::from(1i64));
            }
            fits
        });
        let inferred =
            if fits { Ok((self.dtype(x), shape)) } else { Err(format!("no place for axes {axes:?}")) };
        let axes = self.axes(axes);
        self.node("Unsqueeze", &[Some(x), Some(axes)], &[], inferred)
    }

    /// x without the given axes of length 1; ascending.
    pub fn squeeze(&mut self, x: ValueId, axes: &[usize]) -> ValueId {
        let shape = self.shape(x);
        let one = Dim::from(1i64);
        let inferred = if axes.iter().all(|&axis| shape.get(axis) == Some(&one)) {
            let kept =
                shape.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, dim)| dim.clone());
            Ok((self.dtype(x), kept.collect()))
        } else {
            Err(format!("the axes {axes:?} are not all of length 1"))
        };
        let axes = self.axes(axes);
        self.node("Squeeze", &[Some(x), Some(axes)], &[], inferred)
    }

    /// The values concatenated along `axis`.
    pub fn concat(&mut self, values: &[ValueId], axis: usize) -> ValueId {
        let shapes: Vec<&[Dim]> = values.iter().map(|&v| self.shape(v)).collect();
        let dtype = values.first().map_or(DType::F32, |&v| self.dtype(v));
        let inferred = if values.iter().all(|&v| self.dtype(v) == dtype) {
            infer::concat(&shapes, axis).map(|shape| (dtype, shape))
        } else {
            Err("element types differ".to_owned())
        };
        let inputs: Vec<Option<ValueId>> = values.iter().copied().map(Some).collect();
        self.node("Concat", &inputs, &[("axis", Attr::Int(axis as i64))], inferred)
    }

    /// x split along `axis` into parts of the given lengths.
    pub fn split(&mut self, x: ValueId, axis: usize, lengths: &[usize]) -> Vec<ValueId> {
        let total: usize = lengths.iter().sum();
        let inferred = match self.shape(x).get(axis) {
            Some(dim) if *dim == Dim::from(total) => Ok(lengths
                .iter()
                .map(|&length| {
                    let mut shape = self.shape(x).to_vec();
                    shape[axis] = Dim::from(length);
                    (self.dtype(x), shape)
                })
                .collect()),
            _ => Err(format!("axis {axis} cannot be cut into {lengths:?}")),
        };
        let sizes = self.axes(lengths);
        self.nodes(
            "Split",
            &[Some(x), Some(sizes)],
            &[("axis", Attr::Int(axis as i64))],
            lengths.len(),
            inferred,
        )
    }

    /// `x[.., start..start + length, ..]` along `axis`. Both may be symbolic; the caller must know that the
    /// part exists.
    pub fn slice(&mut self, x: ValueId, axis: usize, start: &Dim, length: &Dim) -> ValueId {
        let end = start + length;
        let (start, end) = (self.dim_value(start), self.dim_value(&end));
        self.slice_at(x, axis, start, end, length)
    }

    /// As [`slice`](Self::slice), along several axes at once: `(axis, start, length)` of each.
    pub fn slices(&mut self, x: ValueId, parts: &[(usize, Dim, Dim)]) -> ValueId {
        let mut shape = self.shape(x).to_vec();
        let mut missing = None;
        for (axis, _, length) in parts {
            match shape.get_mut(*axis) {
                Some(dim) => *dim = length.clone(),
                None => missing = Some(format!("no axis {axis}")),
            }
        }
        let inferred = missing.map_or_else(|| Ok((self.dtype(x), shape)), Err);
        let starts: Vec<Dim> = parts.iter().map(|(_, start, _)| start.clone()).collect();
        let ends: Vec<Dim> = parts.iter().map(|(_, start, length)| start + length).collect();
        let axes: Vec<usize> = parts.iter().map(|(axis, ..)| *axis).collect();
        let (starts, ends, axes) = (self.dims_value(&starts), self.dims_value(&ends), self.axes(&axes));
        self.node("Slice", &[Some(x), Some(starts), Some(ends), Some(axes)], &[], inferred)
    }

    /// A slice between int64 `[1]` bounds known at run time (negative bounds count from the end); its length
    /// is named `length`.
    pub fn slice_at(
        &mut self,
        x: ValueId,
        axis: usize,
        start: ValueId,
        end: ValueId,
        length: &Dim,
    ) -> ValueId {
        let mut shape = self.shape(x).to_vec();
        let inferred = match shape.get_mut(axis) {
            Some(dim) => {
                *dim = length.clone();
                Ok((self.dtype(x), shape))
            }
            None => Err(format!("no axis {axis}")),
        };
        let axes = self.axes(&[axis]);
        self.node("Slice", &[Some(x), Some(start), Some(end), Some(axes)], &[], inferred)
    }

    /// Rows of `x` along `axis`: `x.shape[..axis] + indices.shape + x.shape[axis + 1..]`.
    pub fn gather(&mut self, x: ValueId, indices: ValueId, axis: usize) -> ValueId {
        let shape = self.shape(x);
        let inferred = if axis < shape.len() {
            let dims = [&shape[..axis], self.shape(indices), &shape[axis + 1..]].concat();
            Ok((self.dtype(x), dims))
        } else {
            Err(format!("no axis {axis}"))
        };
        self.node("Gather", &[Some(x), Some(indices)], &[("axis", Attr::Int(axis as i64))], inferred)
    }

    /// One element of `x` along `axis` for each of `indices`, which has x's rank and, but for `axis`, its shape.
    pub fn gather_elements(&mut self, x: ValueId, indices: ValueId, axis: usize) -> ValueId {
        let inferred = if self.shape(x).len() == self.shape(indices).len() {
            Ok((self.dtype(x), self.shape(indices).to_vec()))
        } else {
            Err("the ranks differ".to_owned())
        };
        self.node("GatherElements", &[Some(x), Some(indices)], &[("axis", Attr::Int(axis as i64))], inferred)
    }

    /// x with `updates` at the positions `indices` along `axis`. All three have the same rank, and the last
    /// two the same shape.
    pub fn scatter_elements(
        &mut self,
        x: ValueId,
        indices: ValueId,
        updates: ValueId,
        axis: usize,
    ) -> ValueId {
        let fits =
            self.shape(indices) == self.shape(updates) && self.shape(x).len() == self.shape(indices).len();
        let inferred = if fits {
            Ok((self.dtype(x), self.shape(x).to_vec()))
        } else {
            Err("the updates do not fit the places".to_owned())
        };
        let inputs = [Some(x), Some(indices), Some(updates)];
        self.node("ScatterElements", &inputs, &[("axis", Attr::Int(axis as i64))], inferred)
    }

    /// x with zeros (or `value`) around it: `before` and `after` give their number for each axis.
    pub fn pad(&mut self, x: ValueId, before: &[usize], after: &[usize], value: f32) -> ValueId {
        let amounts: Vec<Dim> = before.iter().chain(after).map(|&n| Dim::from(n)).collect();
        self.pad_dims(x, &amounts, value)
    }

    /// As [`pad`](Self::pad), with amounts that may be symbolic: all `before`, then all `after`.
    pub fn pad_dims(&mut self, x: ValueId, amounts: &[Dim], value: f32) -> ValueId {
        let shape = self.shape(x);
        let rank = shape.len();
        let inferred = if amounts.len() == 2 * rank {
            let dims = (0..rank).map(|i| &(&shape[i] + &amounts[i]) + &amounts[rank + i]).collect();
            Ok((self.dtype(x), dims))
        } else {
            Err("two amounts are needed for each axis".to_owned())
        };
        let amounts = self.dims_value(amounts);
        let mut inputs = vec![Some(x), Some(amounts)];
        if value != 0.0 {
            inputs.push(Some(self.scalar(value)));
        }
        self.node("Pad", &inputs, &[], inferred)
    }

    /// x repeated along axes of length 1 until it has `shape`.
    pub fn expand(&mut self, x: ValueId, shape: &[Dim]) -> ValueId {
        let inferred = infer::broadcast(self.shape(x), shape).map(|shape| (self.dtype(x), shape));
        let shape = self.dims_value(shape);
        self.node("Expand", &[Some(x), Some(shape)], &[], inferred)
    }

    /// A tensor of one value.
    pub fn fill(&mut self, shape: &[Dim], value: Tensor) -> ValueId {
        let inferred = Ok((value.dtype, shape.to_vec()));
        let shape = self.dims_value(shape);
        self.node("ConstantOfShape", &[Some(shape)], &[("value", Attr::Tensor(value))], inferred)
    }

    /// 0, 1, .. up to but not including `limit` (int64 `[1]`); its length is named `length`.
    pub fn range(&mut self, limit: ValueId, length: &Dim) -> ValueId {
        let limit = self.squeeze(limit, &[0]);
        let (zero, one) = (self.constant(Tensor::i64(&[], &[0])), self.constant(Tensor::i64(&[], &[1])));
        let inferred = Ok((DType::I64, vec![length.clone()]));
        self.node("Range", &[Some(zero), Some(limit), Some(one)], &[], inferred)
    }

    /// The cumulative sum along `axis`, including each element.
    pub fn cumsum(&mut self, x: ValueId, axis: usize) -> ValueId {
        let axis = self.constant(Tensor::i64(&[], &[axis as i64]));
        let inferred = Ok((self.dtype(x), self.shape(x).to_vec()));
        self.node("CumSum", &[Some(x), Some(axis)], &[], inferred)
    }

    /// The sum over `axes`, which are kept with length 1 if `keep` is set.
    pub fn reduce_sum(&mut self, x: ValueId, axes: &[usize], keep: bool) -> ValueId {
        self.reduce("ReduceSum", 13, x, axes, keep)
    }

    /// The mean over `axes`, which are kept with length 1 if `keep` is set.
    pub fn reduce_mean(&mut self, x: ValueId, axes: &[usize], keep: bool) -> ValueId {
        self.reduce("ReduceMean", 18, x, axes, keep)
    }

    /// The maximum over `axes`, which are kept with length 1 if `keep` is set.
    pub fn reduce_max(&mut self, x: ValueId, axes: &[usize], keep: bool) -> ValueId {
        self.reduce("ReduceMax", 18, x, axes, keep)
    }

    /// A reduction. Its axes are an input from operator set `since` on, and an attribute before.
    fn reduce(&mut self, op: &str, since: i64, x: ValueId, axes: &[usize], keep: bool) -> ValueId {
        let one = Dim::from(1i64);
        let shape = self.shape(x).iter().enumerate().filter_map(|(i, dim)| match (axes.contains(&i), keep) {
            (false, _) => Some(dim.clone()),
            (true, true) => Some(one.clone()),
            (true, false) => None,
        });
        let inferred = if axes.iter().all(|&axis| axis < self.shape(x).len()) {
            Ok((self.dtype(x), shape.collect()))
        } else {
            Err(format!("no axes {axes:?}"))
        };
        let keep = ("keepdims", Attr::Int(keep.into()));
        if self.opset() >= since {
            let axes = self.axes(axes);
            self.node(op, &[Some(x), Some(axes)], &[keep], inferred)
        } else {
            self.node(op, &[Some(x)], &[keep, ("axes", ints(axes.iter().copied()))], inferred)
        }
    }

    /// exp(x) divided by its sum along `axis`.
    pub fn softmax(&mut self, x: ValueId, axis: usize) -> ValueId {
        let inferred = Ok((self.dtype(x), self.shape(x).to_vec()));
        self.node("Softmax", &[Some(x)], &[("axis", Attr::Int(axis as i64))], inferred)
    }

    /// (x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis; `gamma, beta: [c]`. One node
    /// from operator set 17 on; before that, a sequence of nodes that runtimes fuse.
    pub fn layer_norm(&mut self, x: ValueId, gamma: ValueId, beta: ValueId, epsilon: f32) -> ValueId {
        let last = self.shape(x).len().saturating_sub(1);
        if self.opset() >= 17 {
            let inferred = Ok((self.dtype(x), self.shape(x).to_vec()));
            let attrs = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(epsilon))];
            return self.node("LayerNormalization", &[Some(x), Some(gamma), Some(beta)], &attrs, inferred);
        }
        let mean = self.reduce_mean(x, &[last], true);
        let centred = self.sub(x, mean);
        let two = self.scalar(2.0);
        let inferred = Ok((self.dtype(x), self.shape(x).to_vec()));
        let square = self.node("Pow", &[Some(centred), Some(two)], &[], inferred);
        let variance = self.reduce_mean(square, &[last], true);
        let variance = self.add_scalar(variance, epsilon);
        let deviation = self.sqrt(variance);
        let normal = self.div(centred, deviation);
        let scaled = self.mul(normal, gamma);
        self.add(scaled, beta)
    }

    /// x * (1 + erf(x / sqrt 2)) / 2. One node from operator set 20 on.
    pub fn gelu(&mut self, x: ValueId) -> ValueId {
        if self.opset() >= 20 {
            let inferred = Ok((self.dtype(x), self.shape(x).to_vec()));
            return self.node("Gelu", &[Some(x)], &[], inferred);
        }
        let sqrt_two = self.scalar(std::f32::consts::SQRT_2);
        let scaled = self.div(x, sqrt_two);
        let erf = self.erf(scaled);
        let one_more = self.add_scalar(erf, 1.0);
        let product = self.mul(x, one_more);
        self.mul_scalar(product, 0.5)
    }

    /// Standard normal draws of x's shape, float32.
    pub fn random_normal_like(&mut self, x: ValueId, noise: RandomNormal) -> ValueId {
        let inferred = Ok((DType::F32, self.shape(x).to_vec()));
        let mut attrs = vec![("dtype", Attr::Int(1))];
        attrs.extend(noise.seed.map(|seed| ("seed", Attr::Float(seed))));
        self.node("RandomNormalLike", &[Some(x)], &attrs, inferred)
    }

    fn axes(&mut self, values: &[usize]) -> ValueId {
        let values: Vec<i64> = values.iter().map(|&v| i64::try_from(v).unwrap_or(i64::MAX)).collect();
        self.ints(&values)
    }
}
