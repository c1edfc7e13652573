//! Everything in a checkpoint that is not a weight, as plain data.

use std::fmt;

use bytes::Bytes;

use crate::tensor::{DType, TensorRef};

/// A Python value as inert data.
///
/// It is a tree: an object that the pickle shares appears once for each place that refers to it. It is at
/// most [`MAX_DEPTH`](crate::limits::MAX_DEPTH) deep.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `None`
    None,
    /// `bool`, including NumPy's
    Bool(bool),
    /// `int` that fits, including NumPy's
    Int(i64),
    /// A larger `int`: little-endian two's complement.
    BigInt(Bytes),
    /// `float`, including NumPy's
    Float(f64),
    /// `str`. Surrogates, which represent undecodable bytes of a path, are replaced by U+FFFD.
    Str(String),
    /// `bytes` or `bytearray`
    Bytes(Bytes),
    /// `list`
    List(Vec<Value>),
    /// `tuple` or `torch.Size`
    Tuple(Vec<Value>),
    /// `set` or `frozenset`, in file order
    Set(Vec<Value>),
    /// `dict` or `OrderedDict`, in file order; the last of several equal keys counts
    Dict(Vec<(Value, Value)>),
    /// `pathlib.Path` of any flavour
    Path(String),
    /// An object of a class whose contents are data.
    Object(Box<Object>),
    /// A tensor or parameter. [`Checkpoint::tensor`](crate::Checkpoint::tensor) gives its data.
    Tensor(TensorRef),
    /// A torch element type such as `torch.float32`
    DType(DType),
    /// A class, a function, or the result of calling one. Only its name is known.
    Opaque {
        /// `module.name`
        global: String,
    },
    /// An object of a known class whose arguments are invalid. Using it is an error.
    Malformed(Box<Malformed>),
    /// A reference to a container that contains this value.
    Cycle,
}

/// An instance of a class that only carries data: `argparse.Namespace`, `AttributeDict`, `defaultdict`, `Counter`,
/// `datetime`, `torch.device`, a numpy array, ...
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// `module.name`
    pub class: String,
    /// Arguments of the constructor.
    pub args: Vec<Value>,
    /// Contents of a dict subclass.
    pub items: Vec<(Value, Value)>,
    /// Contents of a list or set subclass.
    pub elements: Vec<Value>,
    /// The attributes: usually a [`Value::Dict`], or [`Value::None`].
    pub state: Value,
}

/// The reason why a value could not be built.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// `module.name` of the class or function.
    pub global: String,
    /// The problem with its arguments.
    pub reason: String,
}

impl Value {
    /// Looks up `key` in a dict, or in the items and then the attributes of an object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        fn find<'a>(items: &'a [(Value, Value)], key: &str) -> Option<&'a Value> {
            let same = |(k, _): &&(Value, Value)| matches!(k, Value::Str(text) if text == key);
            items.iter().rev().find(same).map(|(_, value)| value)
        }
        match self {
            Self::Dict(items) => find(items, key),
            Self::Object(object) => find(&object.items, key).or_else(|| match &object.state {
                Self::Dict(state) => find(state, key),
                _ => None,
            }),
            _ => None,
        }
    }

    /// The items of a dict or a dict subclass.
    pub fn items(&self) -> Option<&[(Value, Value)]> {
        match self {
            Self::Dict(items) => Some(items),
            Self::Object(object) if !object.items.is_empty() => Some(&object.items),
            _ => None,
        }
    }

    /// The elements of a list, tuple or set.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => Some(items),
            Self::Object(object) if !object.elements.is_empty() => Some(&object.elements),
            _ => None,
        }
    }

    /// The text of a string or path.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) | Self::Path(text) => Some(text),
            _ => None,
        }
    }

    /// An integer. Returns `None` for a bool.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A float; integers are converted.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Int(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// A bool.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A description for messages: `an integer`, `a dict of 12`, `the Python object torch.optim.Adam`.
    pub fn describe(&self) -> impl fmt::Display + '_ {
        Description(self)
    }
}

struct Description<'a>(&'a Value);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::None => f.write_str("None"),
            Value::Bool(_) => f.write_str("a bool"),
            Value::Int(_) | Value::BigInt(_) => f.write_str("an integer"),
            Value::Float(_) => f.write_str("a float"),
            Value::Str(_) => f.write_str("a string"),
            Value::Bytes(_) => f.write_str("bytes"),
            Value::List(items) => write!(f, "a list of {}", items.len()),
            Value::Tuple(items) => write!(f, "a tuple of {}", items.len()),
            Value::Set(items) => write!(f, "a set of {}", items.len()),
            Value::Dict(items) => write!(f, "a dict of {}", items.len()),
            Value::Path(_) => f.write_str("a path"),
            Value::Object(object) => write!(f, "a {}", object.class),
            Value::Tensor(tensor) => write!(f, "a tensor {} {:?}", tensor.dtype(), tensor.shape()),
            Value::DType(dtype) => write!(f, "the element type {dtype}"),
            Value::Opaque { global } => write!(f, "the Python object {global}"),
            Value::Malformed(malformed) => write!(f, "a malformed {}", malformed.global),
            Value::Cycle => f.write_str("a reference to itself"),
        }
    }
}
