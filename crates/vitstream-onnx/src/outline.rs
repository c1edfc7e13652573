//! What a file says of itself, whether or not its graph can be read.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::decode::count_records;
use crate::error::{DecodeError, shown};
use crate::proto::{self, data_type};

/// The contents of an ONNX file as they are written there. Nothing is checked but that it is protobuf of ONNX's schema:
/// this is for people who want to know why [`decode`](crate::decode()) refuses a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Operator sets, by domain; the default one is called by its empty name.
    pub opsets: BTreeMap<String, i64>,
    /// What the graph is fed, constants not included.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// How many nodes there are of each operator, those of other domains with the domain before them.
    pub operators: BTreeMap<String, usize>,
    /// The constants that have names.
    pub tensors: Vec<TensorOutline>,
    /// Files besides this one that hold elements, by their names in the file.
    pub external: Vec<String>,
    /// `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// The program that wrote it.
    pub producer: String,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Element type, if it is declared.
    pub dtype: Option<String>,
    /// Lengths of the axes, if they are declared: numbers, names, or `?`.
    pub shape: Option<Vec<String>>,
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorOutline {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Lengths of the axes, as they are written.
    pub dims: Vec<i64>,
    /// Bytes that type and lengths make; 0 where that makes no sense.
    pub bytes: u64,
}

/// Lists what is in an ONNX file.
///
/// # Errors
/// When `bytes` are no protobuf of ONNX's schema, or more messages than any voice has.
pub fn outline(bytes: Bytes) -> Result<Outline, DecodeError> {
    count_records(&bytes)?;
    let model = proto::Model::decode(bytes)?;
    let graph = model.graph.ok_or_else(|| DecodeError::malformed("model", "expected a graph, found none"))?;
    let mut outline = Outline { producer: model.producer_name.unwrap_or_default(), ..Outline::default() };
    for import in model.opset_import {
        let domain = import.domain.filter(|domain| domain != "ai.onnx").unwrap_or_default();
        outline.opsets.insert(domain, import.version.unwrap_or_default());
    }
    for entry in model.metadata_props {
        outline.metadata.insert(entry.key.unwrap_or_default(), entry.value.unwrap_or_default());
    }
    for node in graph.node {
        let domain = node.domain.filter(|domain| !matches!(domain.as_str(), "" | "ai.onnx"));
        let domain = domain.map(|domain| domain + ".").unwrap_or_default();
        *outline.operators.entry(domain + &node.op_type.unwrap_or_default()).or_default() += 1;
    }
    for tensor in graph.initializer {
        let dtype = data_type::dtype(tensor.data_type.unwrap_or_default());
        let size = dtype.as_ref().map_or(0, |dtype| dtype.size() as u64);
        let length = |product: u64, &dim: &i64| product.checked_mul(u64::try_from(dim).ok()?);
        for entry in tensor.external_data {
            if let (Some("location"), Some(file)) = (entry.key.as_deref(), entry.value)
                && !outline.external.contains(&file)
                && outline.external.len() < MAX_FILES
            {
                outline.external.push(file);
            }
        }
        outline.tensors.push(TensorOutline {
            name: tensor.name.unwrap_or_default(),
            dtype: dtype.map_or_else(|name| name, |dtype| dtype.to_string()),
            bytes: tensor.dims.iter().try_fold(size, length).unwrap_or(0),
            dims: tensor.dims,
        });
    }
    let constants: std::collections::HashSet<&str> =
        outline.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs =
        graph.input.iter().filter(|input| !constants.contains(input.name.as_deref().unwrap_or_default()));
    outline.inputs = inputs.map(port).collect();
    outline.outputs = graph.output.iter().map(port).collect();
    Ok(outline)
}

/// More files than that are not listed.
const MAX_FILES: usize = 64;

fn port(info: &proto::ValueInfo) -> Port {
    let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let dtype = tensor.and_then(|tensor| tensor.elem_type).filter(|&code| code != 0);
    let dim = |dim: &proto::Dimension| match (dim.dim_value, dim.dim_param.as_deref()) {
        (Some(value), _) => value.to_string(),
        (None, None | Some("")) => "?".to_owned(),
        (None, Some(name)) => shown(name),
    };
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    Port {
        name: info.name.clone().unwrap_or_default(),
        dtype: dtype.map(|code| data_type::dtype(code).map_or_else(|name| name, |dtype| dtype.to_string())),
        shape: shape.map(|shape| shape.dim.iter().map(dim).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::to_bytes;
    use crate::test_graphs;
    use crate::validate::validate;

    #[test]
    fn a_graph_is_listed_as_it_is_read() {
        let graph = validate(test_graphs::small()).unwrap();
        let outline = outline(to_bytes(&graph).into()).unwrap();
        let names = |ids: &[crate::ValueId]| -> Vec<String> {
            ids.iter().map(|&id| graph.value(id).name.clone()).collect()
        };
        let listed = |ports: &[Port]| ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
        assert_eq!(listed(&outline.inputs), names(&graph.inputs));
        assert_eq!(listed(&outline.outputs), names(&graph.outputs));
        assert_eq!(outline.operators.values().sum::<usize>(), graph.nodes.len());
        assert_eq!(outline.tensors.len(), graph.initializers.len());
        assert_eq!(outline.opsets[""], graph.opset);
        let bytes: u64 = outline.tensors.iter().map(|tensor| tensor.bytes).sum();
        assert_eq!(bytes, graph.initializers.values().map(|tensor| tensor.data.len() as u64).sum::<u64>());
    }

    /// What cannot be read can be listed.
    #[test]
    fn whatever_is_written_is_listed() {
        let info = |name: &str| proto::ValueInfo { name: Some(name.to_owned()), r#type: None };
        let location = proto::StringStringEntry {
            key: Some("location".to_owned()),
            value: Some("../elsewhere".to_owned()),
        };
        let graph = proto::Graph {
            node: vec![proto::Node {
                op_type: Some("FusedConv".to_owned()),
                domain: Some("com.microsoft".to_owned()),
                ..Default::default()
            }],
            initializer: vec![proto::Tensor {
                dims: vec![-3, i64::MAX],
                data_type: Some(99),
                external_data: vec![location],
                ..Default::default()
            }],
            input: vec![info("x")],
            output: vec![info("y")],
            ..Default::default()
        };
        let bytes = proto::Model { graph: Some(graph), ..Default::default() }.encode_to_vec();
        assert!(crate::decode(bytes.clone().into()).is_err());
        let found = outline(bytes.into()).unwrap();
        assert_eq!(found.operators["com.microsoft.FusedConv"], 1);
        assert_eq!((&found.inputs[0].name[..], &found.outputs[0].name[..]), ("x", "y"));
        assert_eq!((found.tensors[0].bytes, &found.external[..]), (0, &["../elsewhere".to_owned()][..]));
        assert!(outline(Bytes::from_static(b"\x08\x08\xff\xff")).is_err());
    }
}
