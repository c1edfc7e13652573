//! Code shared by the readers: JSON settings read as a family's own code reads them, and checks of settings
//! against the weights.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use vitstream_checkpoint::{Value, excerpt};
use vitstream_vits::{HParams, HParamsError};

use crate::Error;
use crate::json;

/// A JSON object, or a section of one, and the file that contains it.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    /// Prefix of each name in messages: `model.`, or empty.
    prefix: String,
    pub(crate) map: Map<String, Json>,
}

impl Settings {
    pub(crate) fn new(path: &Path, map: Map<String, Json>) -> Self {
        Self { path: path.to_owned(), prefix: String::new(), map }
    }

    /// Reads a JSON object with Python's extensions.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        json::read_python(path).map(|map| Self::new(path, map))
    }

    /// As [`read`](Self::read), for contents that are already in memory.
    pub(crate) fn parse(path: &Path, contents: &[u8]) -> Result<Self, Error> {
        json::parse_python(path, contents).map(|map| Self::new(path, map))
    }

    /// The object under `name`, or an empty one.
    pub(crate) fn section(&self, name: &str) -> Self {
        let map = self.get(name).and_then(Json::as_object).cloned().unwrap_or_default();
        Self { path: self.path.clone(), prefix: format!("{}{name}.", self.prefix), map }
    }

    /// The value under `name`; null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn read_as<T>(
        &self,
        name: &str,
        expected: &str,
        convert: impl Fn(&Json) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        convert(value)
            .map(Some)
            .ok_or_else(|| self.problem(name, format!("expected {expected}, found {}", short(value))))
    }

    pub(crate) fn problem(&self, name: &str, problem: impl std::fmt::Display) -> Error {
        Error::Config { path: self.path.clone(), problem: format!("{}{name}: {problem}", self.prefix) }
    }

    pub(crate) fn size(&self, name: &str) -> Result<Option<usize>, Error> {
        self.read_as(name, "a whole number", size)
    }

    pub(crate) fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>, Error> {
        self.read_as(name, "a list of whole numbers", sizes)
    }

    pub(crate) fn nested(&self, name: &str) -> Result<Option<Vec<Vec<usize>>>, Error> {
        self.read_as(name, "a list of lists of whole numbers", |value| {
            value.as_array()?.iter().map(sizes).collect()
        })
    }

    pub(crate) fn float(&self, name: &str) -> Result<Option<f64>, Error> {
        self.read_as(name, "a number", Json::as_f64)
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        self.read_as(name, "true or false", Json::as_bool)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.problem(name, format!("expected a string, found {}", short(other)))),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        self.read_as(name, "a list of strings", |value| {
            value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        })
    }

    pub(crate) fn sample_rate(&self, name: &str) -> Result<Option<u32>, Error> {
        self.read_as(name, "a number of samples per second", |value| {
            size(value).and_then(|rate| u32::try_from(rate).ok()).filter(|&rate| rate > 0)
        })
    }

    /// Refuses the setting `name` unless it equals `supported` or is absent.
    pub(crate) fn only(&self, name: &str, supported: impl Into<Json>) -> Result<(), Error> {
        let supported = supported.into();
        match self.get(name) {
            Some(found) if !same(found, &supported) => {
                Err(self.unsupported(name, &format!("only {supported}")))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the setting `name`, if present, agrees with the weights.
    pub(crate) fn expect(&self, name: &str, told: impl Into<Json>) -> Result<(), Error> {
        let told = told.into();
        match self.get(name) {
            Some(claim) if !same(claim, &told) => Err(self.contradiction(name, &told)),
            _ => Ok(()),
        }
    }

    /// The error for a setting that contradicts the weights.
    pub(crate) fn contradiction(&self, name: &str, told: &Json) -> Error {
        let claim = self.get(name).map_or("nothing".to_owned(), short);
        self.problem(name, format!("{claim} contradicts the weights, which have {told}"))
    }

    /// The error for a setting that describes a network other than ours.
    pub(crate) fn unsupported(&self, name: &str, supported: &str) -> Error {
        let found = self.get(name).map_or("nothing".to_owned(), short);
        self.problem(name, format!("{found} is not supported, {supported}"))
    }

    /// Checks settings against the hyper-parameters that the weights determine. `claims` pairs the name of
    /// each hyper-parameter with that of its setting.
    pub(crate) fn agree(&self, hparams: &HParams, claims: &[(&str, &str)]) -> Result<(), Error> {
        let told = serde_json::to_value(hparams).unwrap_or_default();
        for &(name, ours) in claims {
            let told = ours.split('.').try_fold(&told, |value, key| value.get(key)).unwrap_or(&Json::Null);
            // The other kind of duration predictor has no such number.
            if !told.is_null() {
                self.expect(name, told.clone())?;
            }
        }
        Ok(())
    }
}

fn size(value: &Json) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

fn sizes(value: &Json) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(size).collect()
}

/// Compares two values; 2 and 2.0 are equal.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

/// A value shortened for a message.
fn short(value: &Json) -> String {
    excerpt(&value.to_string())
}

/// Wraps the error for hyper-parameters that contradict each other or the weights.
pub(crate) fn hparams_error(path: &Path) -> impl Fn(HParamsError) -> Error {
    move |source| Error::HParams { path: path.to_owned(), source }
}

/// Converts a pickled dict to JSON. Values that JSON cannot express become null.
pub(crate) fn plain(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Str(text) | Value::Path(text) => text.as_str().into(),
        _ => {
            if let Some(items) = value.items() {
                let items =
                    items.iter().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), plain(value))));
                Json::Object(items.collect())
            } else if let Some(elements) = value.elements() {
                elements.iter().map(plain).collect()
            } else {
                Json::Null
            }
        }
    }
}

/// Parses hyper-parameters given as `NAME=VALUE`, whose names must be among `names`.
pub(crate) fn flags<'a>(given: &[String], names: impl Iterator<Item = &'a str>) -> Result<Settings, Error> {
    let names: Vec<&str> = names.collect();
    let mut map = Map::new();
    for text in given {
        let (name, value) = flag(text)?;
        if !names.contains(&name.as_str()) {
            return Err(Error::Option(format!(
                "hyper-parameter {text}: expected one of {}",
                names.join(", ")
            )));
        }
        map.insert(name, value);
    }
    Ok(Settings::new(Path::new("hyper-parameter"), map))
}

/// Parses `NAME=VALUE` as a setting. The value is JSON or a Python literal; the brackets around a list may be
/// omitted.
fn flag(text: &str) -> Result<(String, Json), Error> {
    let problem = || {
        Error::Option(format!(
            "hyper-parameter {text}: expected NAME=VALUE, such as upsample_rates=8,8,4 or resblock_dilation_sizes=(1,2),(2,6),(3,12)"
        ))
    };
    let (name, value) = text.split_once('=').ok_or_else(problem)?;
    let literal: String = value.chars().filter(|c| !c.is_whitespace()).collect();
    let literal = literal.replace('(', "[").replace(')', "]").replace(",]", "]");
    let literal = match literal.as_str() {
        "True" => "true",
        "False" => "false",
        other => other,
    };
    let value = serde_json::from_str(literal).or_else(|_| serde_json::from_str(&format!("[{literal}]")));
    Ok((name.trim().to_owned(), value.map_err(|_| problem())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_json_or_python() {
        let value = |text: &str| flag(text).unwrap().1;
        assert_eq!(value("n_heads=2"), serde_json::json!(2));
        assert_eq!(value("upsample_rates=8,8,4"), serde_json::json!([8, 8, 4]));
        assert_eq!(value("upsample_rates=(8, 8,)"), serde_json::json!([8, 8]));
        assert_eq!(value("resblock_dilation_sizes=(1,2),(2,6)"), serde_json::json!([[1, 2], [2, 6]]));
        assert_eq!(value("resblock_dilation_sizes=[[1,2],[2,6]]"), serde_json::json!([[1, 2], [2, 6]]));
        assert_eq!(value("use_sdp=True"), serde_json::json!(true));
        assert!(flag("n_heads").is_err() && flag("n_heads=two").is_err());
    }
}
