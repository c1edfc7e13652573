//! Symbolic dimensions: polynomials with integer coefficients over named axes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Sub};

/// Longest text that [`parse_dim`] looks into.
const MAX_DIM_TEXT: usize = 1024;
/// Largest coefficient that [`parse_dim`] reads: with as many terms as fit the text, no sum overflows.
const MAX_COEFFICIENT: i64 = 1 << 40;

/// A product of axis names, sorted, with repetition (`t*t` is `["t", "t"]`). Empty for the constant term.
type Monomial = Vec<String>;

/// The length of one axis of a tensor: an exact polynomial such as `3`, `time`, `256*time` or `t*t + 8*t`.
///
/// Two dimensions are equal exactly when their polynomials are, so that a mismatch is found while a graph is
/// being built rather than by the first input that does not fit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dim {
    /// Non-zero coefficients only.
    terms: BTreeMap<Monomial, i64>,
}

/// A tensor's shape, outermost axis first.
pub type Shape = Vec<Dim>;

impl Dim {
    /// The axis called `name`.
    pub fn symbol(name: impl Into<String>) -> Self {
        Self { terms: BTreeMap::from([(vec![name.into()], 1)]) }
    }

    /// The value, when it does not depend on any symbol.
    pub fn as_const(&self) -> Option<i64> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get(&Monomial::new()).copied(),
            _ => None,
        }
    }

    /// The symbol's name, when the dimension is nothing but one symbol.
    pub fn as_symbol(&self) -> Option<&str> {
        let (monomial, &coefficient) = self.terms.first_key_value()?;
        match (monomial.as_slice(), coefficient, self.terms.len()) {
            ([name], 1, 1) => Some(name),
            _ => None,
        }
    }

    /// `self / divisor`, when the division leaves no remainder for any value of the symbols.
    pub fn exact_div(&self, divisor: i64) -> Option<Self> {
        if divisor == 0 {
            return None;
        }
        let mut terms = BTreeMap::new();
        for (monomial, &coefficient) in &self.terms {
            if coefficient % divisor != 0 {
                return None;
            }
            terms.insert(monomial.clone(), coefficient / divisor);
        }
        Some(Self { terms })
    }

    /// The value with every symbol replaced by what `lookup` says; `None` when a symbol is unknown or the result
    /// does not fit.
    pub fn eval(&self, lookup: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        let mut sum = 0i64;
        for (monomial, &coefficient) in &self.terms {
            let mut product = coefficient;
            for name in monomial {
                product = product.checked_mul(lookup(name)?)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// The terms, for those who turn a dimension into nodes: coefficient and factors, the constant term first.
    pub fn terms(&self) -> impl Iterator<Item = (i64, &[String])> {
        self.terms.iter().map(|(monomial, &coefficient)| (coefficient, monomial.as_slice()))
    }

    fn insert(&mut self, monomial: Monomial, coefficient: i64) {
        let entry = self.terms.entry(monomial.clone()).or_insert(0);
        *entry += coefficient;
        if *entry == 0 {
            self.terms.remove(&monomial);
        }
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Self {
        let mut dim = Self { terms: BTreeMap::new() };
        dim.insert(Monomial::new(), value);
        dim
    }
}

impl From<usize> for Dim {
    /// # Panics
    /// When `value` exceeds `i64::MAX`, which no tensor in memory can.
    fn from(value: usize) -> Self {
        Self::from(i64::try_from(value).expect("a dimension fits in i64"))
    }
}

impl Add for &Dim {
    type Output = Dim;
    fn add(self, rhs: Self) -> Dim {
        let mut sum = self.clone();
        for (monomial, &coefficient) in &rhs.terms {
            sum.insert(monomial.clone(), coefficient);
        }
        sum
    }
}

impl Sub for &Dim {
    type Output = Dim;
    fn sub(self, rhs: Self) -> Dim {
        self + &(rhs * &Dim::from(-1i64))
    }
}

impl Mul for &Dim {
    type Output = Dim;
    fn mul(self, rhs: Self) -> Dim {
        let mut product = Dim::from(0i64);
        for (a, &ca) in &self.terms {
            for (b, &cb) in &rhs.terms {
                let mut monomial = [a.as_slice(), b.as_slice()].concat();
                monomial.sort();
                product.insert(monomial, ca * cb);
            }
        }
        product
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // Symbols first, the constant last: `2*time + 3` reads better than `3 + 2*time`.
        for (i, (monomial, &coefficient)) in self.terms.iter().rev().enumerate() {
            let magnitude = coefficient.unsigned_abs();
            f.write_str(match (i, coefficient < 0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            })?;
            match (monomial.is_empty(), magnitude) {
                (true, _) => write!(f, "{magnitude}")?,
                (false, 1) => f.write_str(&monomial.join("*"))?,
                (false, _) => write!(f, "{magnitude}*{}", monomial.join("*"))?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `[2, time, 192]`, as it stands in error messages and dumps.
pub(crate) fn show(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

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
    fn arithmetic_is_exact_and_normalised() {
        let t = Dim::symbol("t");
        let a = &(&t + &Dim::from(8i64)) * &t;
        let b = &(&t * &t) + &(&Dim::from(8i64) * &t);
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "t*t + 8*t");
        assert_eq!(&a - &b, Dim::from(0i64));
        assert_eq!((&a - &a).as_const(), Some(0));
        assert_eq!(b.eval(&|_| Some(3)), Some(33));
        assert_eq!(b.eval(&|_| None), None);
        assert_eq!(b.eval(&|_| Some(i64::MAX)), None);
    }

    #[test]
    fn division_only_when_exact() {
        let samples = &Dim::symbol("time") * &Dim::from(256i64);
        assert_eq!(samples.exact_div(8).unwrap().to_string(), "32*time");
        assert_eq!((&samples + &Dim::from(1i64)).exact_div(8), None);
        assert_eq!(samples.exact_div(0), None);
    }

    #[test]
    fn knows_constants_and_symbols() {
        assert_eq!(Dim::from(5i64).as_const(), Some(5));
        assert_eq!(Dim::symbol("time").as_symbol(), Some("time"));
        assert_eq!((&Dim::symbol("time") + &Dim::from(1i64)).as_symbol(), None);
        assert_eq!(Dim::symbol("time").as_const(), None);
    }

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
