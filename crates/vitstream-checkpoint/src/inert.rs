//! Interprets described calls: the allow-list.
//!
//! Each name below has a rule that turns arguments into a [`Value`]. Every other name becomes a
//! [`Value::Opaque`]. There is no third case, and no rule does anything but build data.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::Error;
use crate::limits::{MAX_DEPTH, MAX_RANK, MAX_TEXT_BYTES, MAX_VALUES};
use crate::pickle::{Call, Graph, Node, NodeId};
use crate::tensor::{DType, Storage, TensorRef};
use crate::value::{Malformed, Object, Value};

/// Number of items of an object's state that are searched for one attribute. OmegaConf's containers have
/// four.
const MAX_ATTRIBUTES: usize = 64;

/// Extra count for an object, a tensor or a malformed value, which take about five times the memory of a
/// plain value.
const BOXED: usize = 4;

/// Turns the pickle's result into a tree.
pub(crate) fn value(graph: &Graph) -> Result<Value, Error> {
    Resolver { graph, open: Vec::new(), values: 0, text: 0 }.value(graph.root())
}

/// Classes whose instances are kept as an [`Object`].
fn carries_data(class: &str) -> bool {
    let (module, name) = class.rsplit_once('.').unwrap_or(("", class));
    match module {
        "argparse" => name == "Namespace",
        "types" => name == "SimpleNamespace",
        "collections" => matches!(name, "defaultdict" | "Counter" | "deque" | "UserDict" | "UserList"),
        "datetime" => matches!(name, "datetime" | "date" | "time" | "timedelta" | "timezone"),
        "decimal" => name == "Decimal",
        "fractions" => name == "Fraction",
        "uuid" => name == "UUID",
        "builtins" | "__builtin__" => matches!(name, "complex" | "range" | "slice" | "object"),
        "torch" => name == "device",
        "numpy" => matches!(name, "ndarray" | "dtype"),
        "numpy.core.multiarray" | "numpy._core.multiarray" => name == "_reconstruct",
        "easydict" => name == "EasyDict",
        _ => name == "AttributeDict" && (module.contains("lightning") || module.contains("attrdict")),
    }
}

/// The reason why a description is invalid.
type Reason = Cow<'static, str>;

/// The two ways in which a rule can fail: the whole file is refused, or only this value.
enum Failure {
    Refused(Error),
    Malformed(Reason),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<&'static str> for Failure {
    fn from(reason: &'static str) -> Self {
        Self::Malformed(reason.into())
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Malformed(reason.into())
    }
}

struct Resolver<'a> {
    graph: &'a Graph,
    /// The nodes that contain the current one.
    open: Vec<NodeId>,
    values: usize,
    text: usize,
}

impl<'a> Resolver<'a> {
    fn node(&self, id: NodeId) -> &'a Node {
        self.graph.node(id)
    }

    fn charge(&mut self, values: usize) -> Result<(), Error> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES {
            Err(Error::limit("values, shared ones counted each time", MAX_VALUES))
        } else {
            Ok(())
        }
    }

    fn charge_text(&mut self, bytes: usize) -> Result<(), Error> {
        self.text = self.text.saturating_add(bytes);
        if self.text > MAX_TEXT_BYTES {
            Err(Error::limit("bytes of text, shared ones counted each time", MAX_TEXT_BYTES))
        } else {
            Ok(())
        }
    }

    fn value(&mut self, id: NodeId) -> Result<Value, Error> {
        self.charge(1)?;
        if self.open.contains(&id) {
            return Ok(Value::Cycle);
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(Error::limit("containers within containers", MAX_DEPTH));
        }
        self.open.push(id);
        let value = match self.node(id) {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::BigInt(bytes) => Value::BigInt(self.copy(bytes)?),
            Node::Float(value) => Value::Float(*value),
            Node::Str(text) => Value::Str(self.text(text)?),
            Node::Bytes(bytes) => Value::Bytes(self.copy(bytes)?),
            Node::List(items) => Value::List(self.values(items)?),
            Node::Tuple(items) => Value::Tuple(self.values(items)?),
            Node::Set(items) => Value::Set(self.values(items)?),
            Node::Dict(items) => Value::Dict(self.items(items)?),
            Node::Global(name) => match dtype_of(name) {
                Some(dtype) => Value::DType(dtype),
                None => self.opaque(name)?,
            },
            Node::Persistent(_) => self.opaque("torch storage")?,
            Node::Call(call) => self.call(call)?,
        };
        self.open.pop();
        Ok(value)
    }

    fn values(&mut self, ids: &[NodeId]) -> Result<Vec<Value>, Error> {
        ids.iter().map(|&id| self.value(id)).collect()
    }

    fn items(&mut self, items: &[(NodeId, NodeId)]) -> Result<Vec<(Value, Value)>, Error> {
        items.iter().map(|&(key, value)| Ok((self.value(key)?, self.value(value)?))).collect()
    }

    fn text(&mut self, text: &[u8]) -> Result<String, Error> {
        self.charge_text(text.len())?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Copies bytes out of the map, so that metadata cannot change after it was checked.
    fn copy(&mut self, bytes: &[u8]) -> Result<Bytes, Error> {
        self.charge_text(bytes.len())?;
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn opaque(&mut self, global: &str) -> Result<Value, Error> {
        self.charge_text(global.len())?;
        Ok(Value::Opaque { global: global.to_string() })
    }

    /// The name of the called global; `None` if the callee is something else.
    fn callee(&self, call: &Call) -> Option<&'a str> {
        match self.node(call.callable) {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }

    fn tuple(&self, id: NodeId) -> Option<&'a [NodeId]> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    fn call(&mut self, call: &'a Call) -> Result<Value, Error> {
        let Some(global) = self.callee(call) else {
            return self.opaque("the result of a computed function");
        };
        let kwargs = call.rest.as_ref().is_some_and(|rest| rest.kwargs.is_some());
        let Some(args) = self.tuple(call.args).filter(|_| !kwargs) else {
            return self.opaque(global);
        };
        match self.known_call(global, args, call) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => self.opaque(global),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Malformed(reason)) => {
                self.charge(BOXED)?;
                self.charge_text(global.len() + reason.len())?;
                let malformed = Malformed { global: global.to_string(), reason: reason.into_owned() };
                Ok(Value::Malformed(Box::new(malformed)))
            }
        }
    }

    /// Builds the value of a call; `None` for a call that is not on the list.
    fn known_call(
        &mut self,
        global: &str,
        args: &'a [NodeId],
        call: &'a Call,
    ) -> Result<Option<Value>, Failure> {
        let rest = call.rest.as_deref();
        let value = match (global, args) {
            ("collections.OrderedDict" | "builtins.dict" | "__builtin__.dict", _) => {
                let mut items = match args {
                    [] => Vec::new(),
                    [contents, ..] => self.contents(*contents)?,
                };
                if let Some(rest) = rest {
                    items.extend(self.items(&rest.items)?);
                }
                Value::Dict(items)
            }
            ("builtins.set" | "builtins.frozenset" | "__builtin__.set" | "__builtin__.frozenset", _) => {
                Value::Set(self.sequence(args)?)
            }
            ("builtins.list" | "__builtin__.list", _) => Value::List(self.sequence(args)?),
            ("builtins.tuple" | "__builtin__.tuple" | "torch.Size", _) => Value::Tuple(self.sequence(args)?),
            (
                "_codecs.encode"
                | "builtins.bytes"
                | "__builtin__.bytes"
                | "builtins.bytearray"
                | "__builtin__.bytearray",
                _,
            ) => Value::Bytes(self.byte_string(args)?),
            ("numpy.core.multiarray.scalar" | "numpy._core.multiarray.scalar", [dtype, bytes]) => {
                self.numpy_scalar(*dtype, *bytes)?
            }
            ("copyreg._reconstructor" | "copy_reg._reconstructor", [class, _base, contents]) => {
                self.reconstructed(*class, *contents, call)?
            }
            ("copyreg.__newobj__" | "copy_reg.__newobj__", [class, args @ ..]) => match self.node(*class) {
                Node::Global(class) if carries_data(class) => self.object(class, args, call)?,
                Node::Global(class) => self.opaque(class)?,
                _ => return Ok(None),
            },
            _ if global.starts_with("pathlib.") => self.path(global, args)?,
            _ if global.starts_with("omegaconf.") => return Ok(self.omegaconf(call)?),
            _ if carries_data(global) => self.object(global, args, call)?,
            _ => match self.tensor(global, args)? {
                Some(tensor) => Value::Tensor(tensor),
                None => return Ok(None),
            },
        };
        Ok(Some(value))
    }

    fn object(&mut self, class: &str, args: &[NodeId], call: &'a Call) -> Result<Value, Error> {
        self.charge(BOXED)?;
        self.charge_text(class.len())?;
        let mut object = Object {
            class: class.to_string(),
            args: self.values(args)?,
            items: Vec::new(),
            elements: Vec::new(),
            state: Value::None,
        };
        if let Some(rest) = call.rest.as_deref() {
            object.items = self.items(&rest.items)?;
            object.elements = self.values(&rest.elements)?;
            if let Some(state) = rest.state {
                object.state = self.value(state)?;
            }
        }
        // Copies of Counter and defaultdict have their contents as an argument.
        if matches!(class, "collections.Counter")
            && let Some(Value::Dict(_)) = object.args.first()
            && let Value::Dict(items) = object.args.remove(0)
        {
            object.items.splice(0..0, items);
        }
        Ok(Value::Object(Box::new(object)))
    }

    /// Protocols 0 and 1: an instance of `class` whose base class received `contents`.
    fn reconstructed(&mut self, class: NodeId, contents: NodeId, call: &'a Call) -> Result<Value, Failure> {
        let Node::Global(class) = self.node(class) else {
            return Err("its class argument is not a class".into());
        };
        if !carries_data(class) {
            return Ok(self.opaque(class)?);
        }
        let mut value = self.object(class, &[], call)?;
        if let Value::Object(object) = &mut value {
            match self.value(contents)? {
                Value::Dict(items) => object.items.splice(0..0, items).for_each(drop),
                Value::List(items) | Value::Tuple(items) | Value::Set(items) => {
                    object.elements.splice(0..0, items).for_each(drop);
                }
                Value::None => {}
                other => object.args.push(other),
            }
        }
        Ok(value)
    }

    /// The contents for a dict: from a dict, or from a sequence of pairs.
    fn contents(&mut self, id: NodeId) -> Result<Vec<(Value, Value)>, Failure> {
        match self.node(id) {
            Node::Dict(items) => Ok(self.items(items)?),
            Node::List(pairs) | Node::Tuple(pairs) => {
                let pairs: Option<Vec<(NodeId, NodeId)>> = pairs
                    .iter()
                    .map(|&pair| match self.tuple(pair)? {
                        [key, value] => Some((*key, *value)),
                        _ => None,
                    })
                    .collect();
                Ok(self.items(&pairs.ok_or("its argument is not a sequence of pairs")?)?)
            }
            _ => Err("its argument is neither a dict nor pairs".into()),
        }
    }

    fn sequence(&mut self, args: &[NodeId]) -> Result<Vec<Value>, Failure> {
        match args {
            [] => Ok(Vec::new()),
            [items] => match self.node(*items) {
                Node::List(items) | Node::Tuple(items) | Node::Set(items) => Ok(self.values(items)?),
                _ => Err("its argument is not a sequence".into()),
            },
            _ => Err("it takes one argument".into()),
        }
    }

    /// `bytes` under protocol 2: text to be encoded as Latin-1.
    fn byte_string(&mut self, args: &[NodeId]) -> Result<Bytes, Failure> {
        match args {
            [] => Ok(Bytes::new()),
            [contents, ..] => match self.node(*contents) {
                Node::Bytes(bytes) => Ok(self.copy(bytes)?),
                Node::Str(text) => {
                    self.charge_text(text.len())?;
                    let text = std::str::from_utf8(text).map_err(|_| "its text is not valid UTF-8")?;
                    let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
                    Ok(bytes.map_err(|_| "its text is not valid Latin-1")?.into())
                }
                Node::Call(call) if self.callee(call).is_some_and(|name| name == "_codecs.encode") => {
                    match self.tuple(call.args) {
                        // One level: bytearray(encode(text, 'latin-1')).
                        Some([text, ..]) if matches!(self.node(*text), Node::Str(_)) => {
                            self.byte_string(&[*text])
                        }
                        _ => Err("its argument is not text".into()),
                    }
                }
                _ => Err("its argument is neither text nor bytes".into()),
            },
        }
    }

    fn path(&mut self, class: &str, args: &[NodeId]) -> Result<Value, Failure> {
        let windows = class.contains("Windows");
        let separator = if windows { '\\' } else { '/' };
        let mut path = String::new();
        for &part in args {
            self.charge(1)?;
            let Node::Str(part) = self.node(part) else { return Err("one of its parts is not text".into()) };
            let part = self.text(part)?;
            if !windows && part.starts_with('/') {
                path.clear();
            } else if !path.is_empty() && !path.ends_with(['/', separator]) {
                path.push(separator);
            }
            path.push_str(&part);
        }
        Ok(Value::Path(if path.is_empty() { ".".to_string() } else { path }))
    }

    /// OmegaConf: the `_content` of a container, or the `_val` of a node; references back to the parent are
    /// left out.
    fn omegaconf(&mut self, call: &'a Call) -> Result<Option<Value>, Error> {
        let contents = self.attribute(call, b"_content").or_else(|| self.attribute(call, b"_val"));
        contents.map(|id| self.value(id)).transpose()
    }

    fn attribute(&self, call: &'a Call, name: &[u8]) -> Option<NodeId> {
        let Node::Dict(state) = self.node(call.rest.as_ref()?.state?) else { return None };
        let mut attributes = state.iter().take(MAX_ATTRIBUTES);
        let found =
            attributes.find(|&&(key, _)| matches!(self.node(key), Node::Str(text) if **text == *name));
        found.map(|&(_, value)| value)
    }

    // numpy

    /// The letter and size of a numpy dtype (`f8`), and true if it is little-endian.
    fn numpy_dtype(&self, id: NodeId) -> Option<(&'a [u8], bool)> {
        let Node::Call(call) = self.node(id) else { return None };
        if self.callee(call)? != "numpy.dtype" {
            return None;
        }
        let Node::Str(name) = self.node(*self.tuple(call.args)?.first()?) else { return None };
        let big = |state: &[NodeId]| match state.get(1).map(|&order| self.node(order)) {
            Some(Node::Str(order) | Node::Bytes(order)) => **order == *b">",
            _ => false,
        };
        let state = call.rest.as_ref().and_then(|rest| rest.state).and_then(|state| self.tuple(state));
        let name = name.strip_prefix(b"<".as_slice()).unwrap_or(name);
        Some((name, !state.is_some_and(big)))
    }

    fn numpy_scalar(&mut self, dtype: NodeId, bytes: NodeId) -> Result<Value, Failure> {
        let (name, little) = self.numpy_dtype(dtype).ok_or("its dtype is not a NumPy dtype")?;
        let mut bytes = self.byte_string(&[bytes])?.to_vec();
        if !little {
            bytes.reverse();
        }
        let kind = name.first().copied().unwrap_or(0);
        let wide = |fill: u8| -> Option<[u8; 8]> {
            let mut wide = [fill; 8];
            wide.get_mut(..bytes.len())?.copy_from_slice(&bytes);
            Some(wide)
        };
        let value = match (kind, bytes.as_slice()) {
            (b'f', &[a, b]) => Value::Float(half::f16::from_le_bytes([a, b]).to_f64()),
            (b'f', &[a, b, c, d]) => Value::Float(f32::from_le_bytes([a, b, c, d]).into()),
            (b'f', bytes) if bytes.len() == 8 => {
                Value::Float(f64::from_bits(u64::from_le_bytes(wide(0).ok_or("size")?)))
            }
            (b'b', &[value]) => Value::Bool(value != 0),
            (b'i', &[.., last]) => {
                let fill = if last & 0x80 == 0 { 0 } else { 0xff };
                Value::Int(i64::from_le_bytes(wide(fill).ok_or("an integer of more than 64 bits")?))
            }
            (b'u', &[_, ..]) => {
                let value = u64::from_le_bytes(wide(0).ok_or("an integer of more than 64 bits")?);
                match i64::try_from(value) {
                    Ok(value) => Value::Int(value),
                    Err(_) => Value::BigInt([bytes.as_slice(), &[0]].concat().into()),
                }
            }
            _ => {
                let name = String::from_utf8_lossy(&name[..name.len().min(32)]);
                return Err(format!("{} bytes of the dtype {name} are not understood", bytes.len()).into());
            }
        };
        Ok(value)
    }

    // torch

    /// The tensor built by a call; `None` if the function is not on the list.
    fn tensor(&mut self, global: &str, args: &'a [NodeId]) -> Result<Option<TensorRef>, Failure> {
        let layout = match (global, args) {
            ("torch._utils._rebuild_tensor", [storage, offset, size, stride]) => {
                self.view(*storage, *offset, *size, *stride, None)?
            }
            ("torch._utils._rebuild_tensor_v2", [storage, offset, size, stride, _, _, metadata @ ..]) => {
                self.refuse_flags(metadata)?;
                self.view(*storage, *offset, *size, *stride, None)?
            }
            (
                "torch._utils._rebuild_tensor_v3",
                [storage, offset, size, stride, _, _, dtype, metadata @ ..],
            ) => {
                self.refuse_flags(metadata)?;
                self.view(*storage, *offset, *size, *stride, Some(*dtype))?
            }
            (
                "torch._utils._rebuild_parameter"
                | "torch._utils._rebuild_parameter_with_state"
                | "torch.nn.parameter.Parameter"
                | "torch.nn.parameter.Buffer",
                [data, ..],
            ) => self.tensor_at(*data)?,
            ("torch._utils._rebuild_device_tensor_from_cpu_tensor", [data, dtype, ..]) => {
                let dtype = self.dtype(*dtype)?;
                self.tensor_at(*data)?.with_dtype(dtype)?
            }
            ("torch._utils._rebuild_device_tensor_from_numpy", [data, dtype, ..]) => {
                let dtype = self.dtype(*dtype)?;
                self.numpy_array(*data)?.with_dtype(dtype)?
            }
            ("torch._tensor._rebuild_from_type_v2", [function, _class, args, ..]) => {
                let (Node::Global(function), Some(args)) = (self.node(*function), self.tuple(*args)) else {
                    return Err("its rebuild function is not a function".into());
                };
                self.deeper(|this| this.tensor(function, args))?
                    .ok_or_else(|| format!("{function} is not understood"))?
            }
            _ if global.starts_with("torch._utils._rebuild_tensor") => return Err("too few arguments".into()),
            _ => return Ok(None),
        };
        Ok(Some(layout))
    }

    fn tensor_at(&mut self, id: NodeId) -> Result<TensorRef, Failure> {
        let Node::Call(call) = self.node(id) else { return Err("its data is not a tensor".into()) };
        let (Some(global), Some(args)) = (self.callee(call), self.tuple(call.args)) else {
            return Err("its data is not a tensor".into());
        };
        let tensor = self.deeper(|this| this.tensor(global, args))?;
        Ok(tensor.ok_or_else(|| format!("its data comes from {global}, which is not understood"))?)
    }

    /// Goes one level deeper, for recursion that does not pass through [`Self::value`].
    fn deeper<T>(&mut self, go: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        self.charge(1)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Error::limit("containers within containers", MAX_DEPTH).into());
        }
        // Only marks the level: nothing below compares with it.
        self.open.push(self.graph.root());
        let result = go(self);
        self.open.pop();
        result
    }

    /// Lazily conjugated or negated views of complex tensors share a storage with the original tensor, so
    /// they are refused.
    fn refuse_flags(&self, metadata: &[NodeId]) -> Result<(), Failure> {
        let Some(Node::Dict(flags)) = metadata.first().map(|&id| self.node(id)) else { return Ok(()) };
        let set =
            flags.iter().take(MAX_ATTRIBUTES).any(|&(_, flag)| matches!(self.node(flag), Node::Bool(true)));
        if set { Err("a lazily conjugated or negated view".into()) } else { Ok(()) }
    }

    fn view(
        &mut self,
        storage: NodeId,
        offset: NodeId,
        size: NodeId,
        stride: NodeId,
        dtype: Option<NodeId>,
    ) -> Result<TensorRef, Failure> {
        let (storage, stored) = self.storage(storage)?;
        let dtype = match dtype {
            Some(dtype) => self.dtype(dtype)?,
            None => stored.ok_or("an untyped storage without an element type")?,
        };
        self.charge(BOXED)?;
        let offset = self.length(offset)?;
        let (shape, stride) = (self.lengths(size)?, self.lengths(stride)?);
        Ok(TensorRef::new(dtype, shape, stride, offset, storage)?)
    }

    /// Reads `('storage', class, key, location, numel)`; also returns the element type if the class has one.
    fn storage(&mut self, id: NodeId) -> Result<(Storage, Option<DType>), Failure> {
        let Node::Persistent(id) = self.node(id) else {
            return Err("its storage argument is not a storage".into());
        };
        let Some([tag, class, key, _location, numel, ..]) = self.tuple(*id) else {
            return Err("its storage's reference is malformed".into());
        };
        let (Node::Str(tag), Node::Global(class), Node::Str(key)) =
            (self.node(*tag), self.node(*class), self.node(*key))
        else {
            return Err("its storage's reference is malformed".into());
        };
        if **tag != *b"storage" {
            return Err("its storage's reference is malformed".into());
        }
        let dtype = match class.as_str() {
            "torch.storage.UntypedStorage" | "torch.UntypedStorage" => None,
            class => Some(
                storage_dtype(class).ok_or_else(|| format!("the storage class {class} is not supported"))?,
            ),
        };
        let claimed = self.length(*numel)?.checked_mul(dtype.map_or(1, DType::size));
        let claimed = claimed.ok_or("its storage's length overflows")? as u64;
        let key = self.text(key)?;
        Ok((Storage::Entry { key, claimed }, dtype))
    }

    fn dtype(&self, id: NodeId) -> Result<DType, Failure> {
        match self.node(id) {
            Node::Global(name) => {
                dtype_of(name).ok_or_else(|| format!("the element type {name} is not supported").into())
            }
            _ => Err("its element type is not a type".into()),
        }
    }

    fn length(&self, id: NodeId) -> Result<usize, Failure> {
        match self.node(id) {
            Node::Int(value) => {
                usize::try_from(*value).map_err(|_| format!("the length {value} is not valid").into())
            }
            _ => Err("one of its lengths is not an integer".into()),
        }
    }

    fn lengths(&mut self, id: NodeId) -> Result<Vec<usize>, Failure> {
        let id = match self.node(id) {
            Node::Call(call) if self.callee(call) == Some("torch.Size") => match self.tuple(call.args) {
                Some([lengths]) => *lengths,
                _ => return Err("a torch.Size without lengths".into()),
            },
            _ => id,
        };
        let lengths = self.tuple(id).ok_or("its shape or stride is not a tuple")?;
        if lengths.len() > MAX_RANK {
            return Err(format!("{} axes, more than {MAX_RANK}", lengths.len()).into());
        }
        self.charge(lengths.len())?;
        lengths.iter().map(|&length| self.length(length)).collect()
    }

    /// A pickled `numpy.ndarray`: `_reconstruct`, then the state (version, shape, dtype, Fortran order, bytes).
    fn numpy_array(&mut self, id: NodeId) -> Result<TensorRef, Failure> {
        let Node::Call(call) = self.node(id) else { return Err("its data is not a NumPy array".into()) };
        let array = matches!(
            self.callee(call),
            Some("numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct")
        );
        let state = call.rest.as_ref().and_then(|rest| rest.state).and_then(|state| self.tuple(state));
        let Some([_version, shape, dtype, fortran, bytes]) = state.filter(|_| array) else {
            return Err("its data is not a NumPy array".into());
        };
        let (name, little) = self.numpy_dtype(*dtype).ok_or("its dtype is not a NumPy dtype")?;
        let dtype = match name {
            b"f4" => DType::F32,
            b"f2" => DType::F16,
            b"f8" => DType::F64,
            b"i8" => DType::I64,
            b"i4" => DType::I32,
            b"i2" => DType::I16,
            b"i1" => DType::I8,
            b"u1" => DType::U8,
            b"b1" => DType::Bool,
            _ => return Err("its dtype is not supported".into()),
        };
        if !little {
            return Err("its data is big-endian".into());
        }
        let shape = self.lengths(*shape)?;
        let mut stride = vec![0; shape.len()];
        let mut next = 1usize;
        let fortran = matches!(self.node(*fortran), Node::Bool(true));
        for i in 0..shape.len() {
            let axis = if fortran { i } else { shape.len() - 1 - i };
            stride[axis] = next;
            next = next.checked_mul(shape[axis].max(1)).ok_or("its shape overflows")?;
        }
        let bytes = self.byte_string(&[*bytes])?;
        Ok(TensorRef::new(dtype, shape, stride, 0, Storage::Inline(bytes))?)
    }
}

/// The element type named by a global such as `torch.float32`.
fn dtype_of(global: &str) -> Option<DType> {
    Some(match global.strip_prefix("torch.")? {
        "float32" | "float" => DType::F32,
        "float16" | "half" => DType::F16,
        "bfloat16" => DType::BF16,
        "float64" | "double" => DType::F64,
        "int64" | "long" => DType::I64,
        "int32" | "int" => DType::I32,
        "int16" | "short" => DType::I16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        _ => return None,
    })
}

/// The element type of a storage class such as `torch.FloatStorage`.
fn storage_dtype(global: &str) -> Option<DType> {
    let name = global.strip_prefix("torch.")?;
    Some(match name.strip_prefix("cuda.").unwrap_or(name) {
        "FloatStorage" => DType::F32,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "DoubleStorage" => DType::F64,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "CharStorage" => DType::I8,
        "ByteStorage" => DType::U8,
        "BoolStorage" => DType::Bool,
        _ => return None,
    })
}
