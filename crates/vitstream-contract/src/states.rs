//! The states of a stream decoder, as listed in its metadata entry `states`.

use serde::Deserialize;

/// Limit on the elements of all states of a decoder together (64 MiB). Published voices have about 25,000, so
/// a file that asks for more is damaged, or holds a network too large to speak.
pub const MAX_STATE_ELEMENTS: usize = 1 << 24;

/// A state that a stream decoder carries from one call to the next.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct StreamState {
    /// Name of the graph's input.
    pub input: String,
    /// Name of the graph's output, which becomes the input of the next call.
    pub output: String,
    /// Shape at the first call, for which the state is all zeros. An axis may have length 0.
    pub shape: Vec<usize>,
}

impl StreamState {
    /// Refuses states that are too large together.
    ///
    /// # Errors
    /// A description of the problem, to be appended to the file's name.
    pub fn check(states: &[Self]) -> Result<(), String> {
        let mut left = MAX_STATE_ELEMENTS;
        for Self { input, shape, .. } in states {
            let elements = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
            left = elements.and_then(|elements| left.checked_sub(elements)).ok_or_else(|| {
                format!(
                    "metadata `states`: with `{input}` of shape {shape:?} there are more than {MAX_STATE_ELEMENTS} elements \
                     in all: the file is damaged"
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_states_together_are_bounded() {
        let state = |shape: &[usize]| StreamState {
            input: "x.state".to_owned(),
            output: "x.next".to_owned(),
            shape: shape.to_vec(),
        };
        assert_eq!(StreamState::check(&[state(&[1, 64, 1, 0]), state(&[1, 1 << 23, 1, 2])]), Ok(()));
        for shapes in [&[&[1, 1 << 23, 1, 2][..], &[1]][..], &[&[usize::MAX, 2, 0]]] {
            let states: Vec<StreamState> = shapes.iter().map(|shape| state(shape)).collect();
            assert!(StreamState::check(&states).unwrap_err().contains("`x.state`"));
        }
    }
}
