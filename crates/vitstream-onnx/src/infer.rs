//! Shape inference shared by several operators. Errors are plain texts, to which the builder adds the node's
//! name.

use crate::dim::{Dim, Shape, show};

/// Numpy broadcasting. Two symbolic lengths must be equal polynomials, or one of them the constant 1.
pub(crate) fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Shape, String> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1i64);
    let from_end =
        |shape: &[Dim], i: usize| shape.len().checked_sub(i + 1).map_or(one.clone(), |at| shape[at].clone());
    let mut result: Shape = Vec::with_capacity(rank);
    for i in 0..rank {
        let (da, db) = (from_end(a, i), from_end(b, i));
        result.push(match () {
            () if da == db || db == one => da,
            () if da == one => db,
            () => return Err(format!("{} and {} do not broadcast", show(a), show(b))),
        });
    }
    result.reverse();
    Ok(result)
}

/// `[.., m, k] @ [.., k, n]`, both of rank 2 or more.
pub(crate) fn matmul(a: &[Dim], b: &[Dim]) -> Result<Shape, String> {
    let ([batch_a @ .., m, ka], [batch_b @ .., kb, n]) = (a, b) else {
        return Err("both factors of a matrix product need two axes".to_owned());
    };
    if ka != kb {
        return Err(format!("inner lengths {ka} and {kb} differ"));
    }
    let mut shape = broadcast(batch_a, batch_b)?;
    shape.extend([m.clone(), n.clone()]);
    Ok(shape)
}

/// Length of a convolution's output along one spatial axis.
pub(crate) fn conv_length(input: &Dim, kernel: usize, spec: &crate::ops::ConvAxis) -> Result<Dim, String> {
    let reach = (kernel.max(1) - 1) * spec.dilation + 1;
    let padded = input + &Dim::from(spec.pad_begin + spec.pad_end);
    let rest = &padded - &Dim::from(reach);
    if rest.as_const().is_some_and(|n| n < 0) {
        return Err(format!("the kernel reaches over {reach}, the padded input has {padded}"));
    }
    if spec.stride == 1 {
        return Ok(&rest + &Dim::from(1i64));
    }
    let stride = i64::try_from(spec.stride).map_err(|_| "stride too large".to_owned())?;
    let steps = match rest.as_const() {
        Some(n) => Some(Dim::from(n / stride)),
        None => rest.exact_div(stride),
    };
    steps.map(|s| &s + &Dim::from(1i64)).ok_or_else(|| format!("stride {stride} does not divide {rest}"))
}

/// All shapes must be equal except along `axis`, where the values are concatenated.
pub(crate) fn concat(shapes: &[&[Dim]], axis: usize) -> Result<Shape, String> {
    let (first, rest) = shapes.split_first().ok_or("nothing to concatenate")?;
    let mut result = first.to_vec();
    if axis >= result.len() {
        return Err(format!("axis {axis} of {}", show(first)));
    }
    for shape in rest {
        let fits = shape.len() == first.len() && (0..first.len()).all(|i| i == axis || shape[i] == first[i]);
        if !fits {
            return Err(format!("{} and {} differ beyond axis {axis}", show(first), show(shape)));
        }
        result[axis] = &result[axis] + &shape[axis];
    }
    Ok(result)
}

/// The product of all lengths.
pub(crate) fn count(shape: &[Dim]) -> Dim {
    shape.iter().fold(Dim::from(1i64), |product, dim| &product * dim)
}
