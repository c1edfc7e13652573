//! A state dict.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::origin::Origin;
use crate::tensor::Tensor;
use crate::value::Value;

/// The tensors of a state dict, in its order.
#[derive(Clone)]
pub struct Tensors {
    list: Vec<Tensor>,
    index: HashMap<Arc<str>, usize>,
    /// Entries that are not tensors, by name.
    others: HashMap<String, Value>,
    origin: Origin,
}

impl Tensors {
    /// Splits the items of a state dict into tensors and others. The last of several equal keys counts, as in
    /// Python.
    pub(crate) fn new(items: &[(Value, Value)], origin: Origin) -> Self {
        let names = || items.iter().enumerate().filter_map(|(i, (key, _))| Some((i, key.as_str()?)));
        let last: HashMap<&str, usize> = names().map(|(i, name)| (name, i)).collect();
        let mut tensors = Self { list: Vec::new(), index: HashMap::new(), others: HashMap::new(), origin };
        for (i, name) in names().filter(|(i, name)| last.get(name) == Some(i)) {
            match &items[i].1 {
                Value::Tensor(layout) => {
                    let name: Arc<str> = name.into();
                    tensors.index.insert(name.clone(), tensors.list.len());
                    tensors.list.push(Tensor::new(name, layout.clone(), tensors.origin.clone()));
                }
                other => {
                    tensors.others.insert(name.to_string(), other.clone());
                }
            }
        }
        tensors
    }

    /// The tensor called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&at| &self.list[at])
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// When there is no such entry, or the entry is not a tensor, depends on a global that is never loaded,
    /// or is described by invalid arguments.
    pub fn require(&self, name: &str) -> Result<&Tensor, Error> {
        self.get(name).ok_or_else(|| {
            let error = match self.others.get(name) {
                None => Error::new(ErrorKind::MissingTensor),
                Some(Value::Tensor(_)) => Error::new(ErrorKind::MissingTensor),
                Some(other) => unusable(other)
                    .unwrap_or_else(|| Error::new(ErrorKind::NotATensor).found(other.describe())),
            };
            error.in_file(self.origin.path()).of(format!("tensor {name}"))
        })
    }

    /// Names and values of the entries that are not tensors (`_extra_state`, counters, values that could not
    /// be interpreted), in no particular order.
    pub fn others(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.others.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// All tensors, in the state dict's order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tensor> {
        self.list.iter()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns true if there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl<'a> IntoIterator for &'a Tensors {
    type Item = &'a Tensor;
    type IntoIter = std::slice::Iter<'a, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Tensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The error for using a value that has no known meaning.
pub(crate) fn unusable(value: &Value) -> Option<Error> {
    match value {
        Value::Opaque { global } => Some(Error::new(ErrorKind::UnknownGlobal(global.clone()))),
        Value::Malformed(malformed) => Some(Error::new(ErrorKind::Malformed {
            global: malformed.global.clone(),
            reason: malformed.reason.clone(),
        })),
        _ => None,
    }
}
