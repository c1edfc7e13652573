//! Phoneme ids on the command line.

use std::str::FromStr;

/// An utterance's phoneme ids, as a list in any of the usual forms: `1,0,20`, `1, 0, 20`, `1 0 20`, `[1, 0,
/// 20]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ids(pub(crate) Vec<i64>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let list = text.trim();
        let list = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(list);
        let ids: Result<Vec<i64>, String> = list
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|id| !id.is_empty())
            .map(|id| {
                id.parse().map_err(|_| {
                    format!(
                        "expected phoneme ids, whole numbers such as 1,0,20,0,2, as `phoneme_id_map` in the voice's JSON has \
                         them, found {:?}; text is given without --ids, and phonemes with --phonemes",
                        id.chars().take(20).collect::<String>()
                    )
                })
            })
            .collect();
        match ids? {
            ids if ids.is_empty() => Err("expected at least one phoneme id".to_owned()),
            ids => Ok(Self(ids)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_spellings_are_read() {
        for text in ["1,0,20", "1, 0, 20", "1 0 20", "[1,0,20]", " [ 1, 0,\t20 ] ", "1,0,20,"] {
            assert_eq!(text.parse(), Ok(Ids(vec![1, 0, 20])), "{text:?}");
        }
        assert_eq!("-1".parse(), Ok(Ids(vec![-1])));
        for text in ["", "[]", " , "] {
            assert!(Ids::from_str(text).unwrap_err().contains("at least one"), "{text:?}");
        }
        let error = Ids::from_str("1,hello").unwrap_err();
        assert!(error.contains("\"hello\"") && error.contains("phoneme_id_map"), "{error}");
        assert!(Ids::from_str("1.5").is_err() && Ids::from_str("[1").is_err());
    }
}
