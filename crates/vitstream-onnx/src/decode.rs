//! Reads ONNX files.

use crate::dim::Dim;

/// Longest text that [`parse_dim`] looks into.
const MAX_DIM_TEXT: usize = 1024;
/// Largest coefficient that [`parse_dim`] reads: with as many terms as fit the text, no sum overflows.
const MAX_COEFFICIENT: i64 = 1 << 40;

/// The dimension whose [`Display`](std::fmt::Display) is `text`; of any other text, the symbol of that name.
pub(crate) fn parse_dim(text: &str) -> Dim {
    if text.len() <= MAX_DIM_TEXT
        && let Some(dim) = parse_polynomial(text)
        && dim.as_const().is_none()
        && dim.to_string() == text
    {
        return dim;
    }
    Dim::symbol(text)
}

/// `256*time`, `t*t - 8*t + 1`. `None` for what is no polynomial over identifiers.
fn parse_polynomial(text: &str) -> Option<Dim> {
    let (mut sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1i64, rest),
        None => (1, text),
    };
    let mut sum = Dim::from(0i64);
    loop {
        let next = [(" + ", 1), (" - ", -1)]
            .into_iter()
            .filter_map(|(operator, sign)| rest.split_once(operator).map(|(term, rest)| (term, rest, sign)))
            .min_by_key(|(term, ..)| term.len());
        let (term, tail) = next.map_or((rest, None), |(term, rest, sign)| (term, Some((rest, sign))));
        sum = &sum + &(&parse_term(term)? * &Dim::from(sign));
        match tail {
            Some(tail) => (rest, sign) = tail,
            None => return Some(sum),
        }
    }
}

/// `8`, `t`, `t*t` or `8*t`.
fn parse_term(text: &str) -> Option<Dim> {
    let mut product = Dim::from(1i64);
    for (i, factor) in text.split('*').enumerate() {
        let factor = match factor.parse::<i64>() {
            Ok(number) if i == 0 && (0..=MAX_COEFFICIENT).contains(&number) => Dim::from(number),
            Ok(_) => return None,
            Err(_) if is_identifier(factor) => Dim::symbol(factor),
            Err(_) => return None,
        };
        product = &product * &factor;
    }
    Some(product)
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_survive_their_text() {
        let t = Dim::symbol("time");
        let samples = &(&t * &Dim::from(256i64)) - &Dim::from(3i64);
        for dim in [t.clone(), samples.clone(), &samples * &t, &Dim::from(1i64) - &samples] {
            assert_eq!(parse_dim(&dim.to_string()), dim);
        }
    }

    #[test]
    fn other_texts_are_symbols() {
        let huge = "9223372036854775807*t + 9223372036854775807*t";
        for text in ["floor(t/2 + 1)", "1 + t", "t - t", "7", "-1", "", "*", " + ", huge, "a  + b"] {
            assert_eq!(parse_dim(text), Dim::symbol(text));
        }
    }
}
