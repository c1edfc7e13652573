//! Builds a graph node by node. Scopes provide the names, and every node's shape is inferred as it is added.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::dim::{Dim, Shape, show};
use crate::graph::{Attr, DType, Graph, LOOP_INPUTS, Node, Tensor, ValueId, ValueInfo};

/// An error in a graph under construction: the node, and the mismatch.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{node}: {message}")]
pub struct BuildError {
    /// Path of the node that could not be added.
    pub node: String,
    /// The expected and the actual value.
    pub message: String,
}

/// Builds one [`Graph`].
///
/// # Design
/// Operators are methods ([`crate::ops`]) that take and return [`ValueId`]s, so a model's `emit` reads like
/// its `forward`. They do not return `Result`: the first error is kept, everything after it is ignored, and
/// [`GraphBuilder::finish`] reports it. Straight-line definitions stay straight-line, and no error is lost.
///
/// Integer shapes become nodes only if they must: [`GraphBuilder::dim`] answers from inference, and
/// [`GraphBuilder::dim_value`] creates the few nodes that compute a symbolic length at run time, once each.
pub struct GraphBuilder {
    graph: Graph,
    /// Prefix of all names of nodes and constants: empty, or the node whose body this is.
    prefix: String,
    scope: Vec<String>,
    /// Number of requests for each node name, to number the second and later ones.
    names: HashMap<String, usize>,
    /// Small constants by content, because the same lists of axes occur in many places.
    constants: HashMap<(DType, Vec<usize>, Bytes), ValueId>,
    /// The source of each symbol's value: a value and its axis.
    symbols: BTreeMap<String, (ValueId, usize)>,
    /// Lengths that already exist as int64 `[1]` values.
    dim_values: BTreeMap<Dim, ValueId>,
    error: Option<BuildError>,
}

impl GraphBuilder {
    /// Creates an empty graph for the given version of the default operator set.
    pub fn new(name: &str, opset: i64) -> Self {
        Self {
            graph: Graph::new(name, opset),
            prefix: String::new(),
            scope: Vec::new(),
            names: HashMap::new(),
            constants: HashMap::new(),
            symbols: BTreeMap::new(),
            dim_values: BTreeMap::new(),
            error: None,
        }
    }

    /// The version of the operator set that the graph is built for.
    pub fn opset(&self) -> i64 {
        self.graph.opset
    }

    /// Runs `body` one scope deeper. `name` may consist of several levels: `"encoder.attn_layers.0"`.
    pub fn scope<T>(&mut self, name: &str, body: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(name.to_owned());
        let result = body(self);
        self.scope.pop();
        result
    }

    /// `leaf` qualified by the scope with dots: the name of an initializer, equal to the checkpoint's key.
    pub fn key(&self, leaf: &str) -> String {
        let mut path = self.scope.join(".");
        if !path.is_empty() {
            path.push('.');
        }
        path + leaf
    }

    /// Declares a graph input. A symbol's length is read at run time from the first input that has it.
    pub fn input(&mut self, name: &str, dtype: DType, shape: Shape) -> ValueId {
        for (axis, dim) in shape.iter().enumerate() {
            if let Some(symbol) = dim.as_symbol() {
                let place = (ValueId(self.graph.values().len() as u32), axis);
                self.symbols.entry(symbol.to_owned()).or_insert(place);
            }
        }
        let id = self.add_value(name.to_owned(), dtype, shape);
        self.graph.inputs.push(id);
        id
    }

    /// Declares `value` a graph output called `name`.
    pub fn output(&mut self, name: &str, value: ValueId) {
        if self.error.is_some() {
            return;
        }
        if self.graph.inputs.contains(&value) || self.graph.initializers.contains_key(&value) {
            let copy = self.identity(value);
            return self.output(name, copy);
        }
        self.graph.values[value.index()].name = name.to_owned();
        self.graph.outputs.push(value);
    }

    /// Adds an entry to the model's `metadata_props`.
    pub fn metadata(&mut self, key: &str, value: impl ToString) {
        self.graph.metadata.insert(key.to_owned(), value.to_string());
    }

    /// A weight: a constant named [`key`](Self::key)`(leaf)`.
    pub fn initializer(&mut self, leaf: &str, tensor: Tensor) -> ValueId {
        let name = self.key(leaf);
        if self.names.insert(name.clone(), 1).is_some() {
            self.fail(format!("initializer {name} is defined twice"));
        }
        self.add_initializer(name, tensor)
    }

    /// A small unnamed constant, created once per content.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let key = (tensor.dtype, tensor.dims.clone(), tensor.data.clone());
        if let Some(&id) = self.constants.get(&key) {
            return id;
        }
        let name = format!("const.{}", self.constants.len());
        let name = if self.prefix.is_empty() { name } else { format!("{}/{name}", self.prefix) };
        let id = self.add_initializer(name, tensor);
        self.constants.insert(key, id);
        id
    }

    /// A float32 scalar.
    pub fn scalar(&mut self, value: f32) -> ValueId {
        self.constant(Tensor::f32(&[], &[value]))
    }

    /// An int64 vector.
    pub fn ints(&mut self, values: &[i64]) -> ValueId {
        self.constant(Tensor::i64(&[values.len()], values))
    }

    /// The inferred shape of `value`.
    pub fn shape(&self, value: ValueId) -> &[Dim] {
        self.graph.value(value).shape.as_deref().unwrap_or_default()
    }

    /// Length of one axis of `value`; an unused symbol after an error.
    pub fn dim(&self, value: ValueId, axis: usize) -> Dim {
        self.shape(value).get(axis).cloned().unwrap_or_else(|| Dim::symbol("?"))
    }

    /// Length of an axis that does not depend on the inputs, such as channels.
    pub fn const_dim(&mut self, value: ValueId, axis: usize) -> usize {
        let dim = self.dim(value, axis);
        let length = dim.as_const().and_then(|n| usize::try_from(n).ok());
        length.unwrap_or_else(|| {
            self.fail(format!("axis {axis} has the length {dim}, where a constant is needed"));
            1
        })
    }

    /// Element type of `value`.
    pub fn dtype(&self, value: ValueId) -> DType {
        self.graph.value(value).dtype.unwrap_or(DType::F32)
    }

    /// Replaces the inferred shape by one that the caller knows to be equal, where symbols cannot express it.
    pub fn assume_shape(&mut self, value: ValueId, shape: Shape) -> ValueId {
        let known = self.shape(value);
        let contradiction = known.len() != shape.len()
            || known
                .iter()
                .zip(&shape)
                .any(|(a, b)| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b));
        if contradiction {
            self.fail(format!("{} cannot be taken for {}", show(known), show(&shape)));
        } else {
            self.graph.values[value.index()].shape = Some(shape);
        }
        value
    }

    /// Defines the value from which a length can be read at run time: an int64 `[1]` value.
    pub fn define_dim(&mut self, dim: &Dim, length: ValueId) {
        self.dim_values.insert(dim.clone(), length);
    }

    /// `dim` as an int64 `[1]` value, computed at run time if necessary. Created once for each dimension.
    pub fn dim_value(&mut self, dim: &Dim) -> ValueId {
        if let Some(&value) = self.dim_values.get(dim) {
            return value;
        }
        if let Some(value) = dim.as_const() {
            return self.ints(&[value]);
        }
        let scope = std::mem::replace(&mut self.scope, vec!["dims".to_owned()]);
        let value = self.compute_dim(dim);
        self.scope = scope;
        self.dim_values.insert(dim.clone(), value);
        value
    }

    fn compute_dim(&mut self, dim: &Dim) -> ValueId {
        if let Some(symbol) = dim.as_symbol() {
            let Some(&(value, axis)) = self.symbols.get(symbol) else {
                self.fail(format!("no value carries the length {symbol}"));
                return self.ints(&[0]);
            };
            return self.shape_of(value, axis);
        }
        let terms: Vec<(i64, Vec<String>)> = dim.terms().map(|(c, factors)| (c, factors.to_vec())).collect();
        let mut sum = None;
        for (coefficient, factors) in terms {
            let mut product = (coefficient != 1 || factors.is_empty()).then(|| self.ints(&[coefficient]));
            for factor in factors {
                let factor = self.dim_value(&Dim::symbol(factor));
                product = Some(product.map_or(factor, |p| self.mul(p, factor)));
            }
            let product = product.expect("a term has a coefficient or a factor");
            sum = Some(sum.map_or(product, |s| self.add(s, product)));
        }
        sum.expect("a dimension that is not constant has terms")
    }

    /// Runs `body` `rounds` times and stacks its results: `[rounds]`, followed by the shape that `body`
    /// returns.
    ///
    /// The body is a graph of its own. It receives the number of its round, an int64 scalar, and stand-ins
    /// for `captured`, values of this builder; it must not use any other value. The node lists them in the
    /// order in which the body first reads them, which is the order in which a reader of the file finds them.
    pub fn repeat(
        &mut self,
        rounds: &Dim,
        captured: &[ValueId],
        body: impl FnOnce(&mut Self, ValueId, &[ValueId]) -> ValueId,
    ) -> ValueId {
        let name = self.next_name("Loop");
        let mut inner = Self::new(&name, self.graph.opset);
        inner.prefix.clone_from(&name);
        let round = inner.input(&format!("{name}/round"), DType::I64, Shape::new());
        let condition = inner.input(&format!("{name}/condition"), DType::Bool, Shape::new());
        let outside: Vec<ValueId> = captured
            .iter()
            .map(|&value| {
                let ValueInfo { name, dtype, shape } = self.graph.value(value).clone();
                inner.input(&name, dtype.unwrap_or(DType::F32), shape.unwrap_or_default())
            })
            .collect();
        let result = body(&mut inner, round, &outside);
        let (dtype, shape) = (inner.dtype(result), inner.shape(result).to_vec());
        let condition = inner.identity(condition);
        inner.graph.outputs = vec![condition, result];
        let (body, inferred) = match inner.finish() {
            Ok(mut body) => {
                let mut used: Vec<ValueId> = Vec::new();
                for &input in body.nodes.iter().flat_map(|node| node.inputs.iter().flatten()) {
                    if outside.contains(&input) && !used.contains(&input) {
                        used.push(input);
                    }
                }
                body.inputs.splice(LOOP_INPUTS.., used);
                (body, Ok(vec![(dtype, [vec![rounds.clone()], shape].concat())]))
            }
            Err(error) => {
                self.error.get_or_insert(error);
                return self.stand_in();
            }
        };
        let rounds = self.dim_value(rounds);
        let rounds = self.squeeze(rounds, &[0]);
        let always =
            self.constant(Tensor { dtype: DType::Bool, dims: Vec::new(), data: Bytes::from_static(&[1]) });
        let read = body.inputs[LOOP_INPUTS..].iter().filter_map(|input| {
            let at = outside.iter().position(|stand_in| stand_in == input)?;
            Some(captured[at])
        });
        let inputs: Vec<Option<ValueId>> = [rounds, always].into_iter().chain(read).map(Some).collect();
        self.nodes("Loop", &inputs, &[("body", Attr::Graph(Box::new(body)))], 1, inferred)[0]
    }

    /// Finishes the graph.
    ///
    /// # Errors
    /// The first error that occurred.
    pub fn finish(self) -> Result<Graph, BuildError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.graph),
        }
    }

    /// Records an error, if it is the first.
    pub(crate) fn fail(&mut self, message: impl Into<String>) {
        if self.error.is_none() {
            self.error = Some(BuildError {
                node: format!("{}/{}", self.prefix, self.scope.join("/")),
                message: message.into(),
            });
        }
    }

    /// Adds a node with one output, whose type and shape the caller has inferred.
    pub(crate) fn node(
        &mut self,
        op: &str,
        inputs: &[Option<ValueId>],
        attrs: &[(&str, Attr)],
        inferred: Result<(DType, Shape), String>,
    ) -> ValueId {
        self.nodes(op, inputs, attrs, 1, inferred.map(|one| vec![one]))[0]
    }

    /// Adds a node with `count` outputs. After an error, or if this is one, the outputs are empty stand-ins.
    pub(crate) fn nodes(
        &mut self,
        op: &str,
        inputs: &[Option<ValueId>],
        attrs: &[(&str, Attr)],
        count: usize,
        inferred: Result<Vec<(DType, Shape)>, String>,
    ) -> Vec<ValueId> {
        let name = self.next_name(op);
        *self.names.entry(self.path_to(op)).or_default() += 1;
        if self.error.is_none()
            && let Err(message) = &inferred
        {
            let shapes: Vec<String> = inputs.iter().flatten().map(|&v| show(self.shape(v))).collect();
            self.error = Some(BuildError {
                node: name.clone(),
                message: format!("{message} (inputs {})", shapes.join(", ")),
            });
        }
        let (Ok(inferred), None) = (inferred, &self.error) else {
            return vec![self.stand_in(); count];
        };
        let outputs: Vec<ValueId> = inferred
            .into_iter()
            .enumerate()
            .map(|(i, (dtype, shape))| self.add_value(format!("{name}_output_{i}"), dtype, shape))
            .collect();
        self.graph.nodes.push(Node {
            name,
            op: op.to_owned(),
            inputs: inputs.to_vec(),
            outputs: outputs.iter().copied().map(Some).collect(),
            attrs: attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect(),
        });
        outputs
    }

    /// A value for calls after the first error. It never reaches a finished graph.
    fn stand_in(&mut self) -> ValueId {
        if self.graph.values().len() == 0 {
            self.add_value("?".to_owned(), DType::F32, Shape::new());
        }
        ValueId(0)
    }

    /// The name of the next node of this operator in the current scope.
    fn next_name(&self, op: &str) -> String {
        let path = self.path_to(op);
        match self.names.get(&path) {
            None => path,
            Some(earlier) => format!("{path}_{earlier}"),
        }
    }

    fn path_to(&self, op: &str) -> String {
        let path = [std::slice::from_ref(&self.prefix), &self.scope[..], &[op.to_owned()]].concat();
        path.join("/")
    }

    fn add_value(&mut self, name: String, dtype: DType, shape: Shape) -> ValueId {
        self.graph.add_value(ValueInfo { name, dtype: Some(dtype), shape: Some(shape) })
    }

    fn add_initializer(&mut self, name: String, tensor: Tensor) -> ValueId {
        let shape = tensor.dims.iter().map(|&n| Dim::from(n)).collect();
        let id = self.add_value(name, tensor.dtype, shape);
        self.graph.initializers.insert(id, tensor);
        id
    }
}
