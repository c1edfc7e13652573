//! Tests loops, from the builder to the file and back.

use prost::Message;

use crate::builder::GraphBuilder;
use crate::decode::decode;
use crate::dim::Dim;
use crate::dump::Dump;
use crate::encode::to_bytes;
use crate::graph::{Attr, DType, Graph, LOOP_INPUTS, Tensor};
use crate::passes::run_default;
use crate::proto::{self, attribute_type};
use crate::test_graphs::outputs;
use crate::validate::validate;

/// Row by row, `y = x * scale + row`, with an unused scale and a condition of its own.
fn rows() -> Graph {
    let mut builder = GraphBuilder::new("rows", 15);
    let g = &mut builder;
    let count = Dim::symbol("time");
    let x = g.input("x", DType::F32, vec![count.clone(), Dim::from(2i64)]);
    let scale = g.initializer("scale", Tensor::f32(&[2], &[2.0, -3.0]));
    let y = g.repeat(&count, &[scale, x], |g, round, around| {
        let row = g.gather(around[1], round, 0);
        let scaled = g.mul(row, around[0]);
        let number = g.cast(round, DType::F32);
        g.add(scaled, number)
    });
    g.output("y", y);
    builder.finish().unwrap()
}

#[test]
fn the_body_is_done_once_a_round() {
    let graph = rows();
    let expected: Vec<f32> =
        (0..6).map(|i| (i as f32 * 0.7).sin() * [2.0, -3.0][i % 2] + (i / 2) as f32).collect();
    assert_eq!(outputs(&graph), std::slice::from_ref(&expected));
    assert_eq!(outputs(&run_default(graph)), [expected]);
}

#[test]
fn what_is_read_is_what_was_written() {
    let graph = validate(rows()).unwrap();
    let bytes = to_bytes(&graph);
    let again = decode(bytes.clone().into()).unwrap();
    assert_eq!(Dump(&again).to_string(), Dump(&graph).to_string());
    assert_eq!(to_bytes(&validate(again).unwrap()), bytes);
}

/// The error of reading the file of [`rows`] after `damage` to the loop and its body.
fn refused(damage: impl FnOnce(&mut proto::Node, &mut proto::Graph)) -> String {
    let mut model = proto::Model::decode(&to_bytes(&validate(rows()).unwrap())[..]).unwrap();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let node = nodes.iter_mut().find(|node| node.op_type.as_deref() == Some("Loop")).unwrap();
    let mut body = proto::Graph::decode(node.attribute[0].g.take().unwrap()).unwrap();
    damage(node, &mut body);
    node.attribute[0].g = Some(body.encode_to_vec().into());
    decode(model.encode_to_vec().into()).expect_err("the damage is found").to_string()
}

#[test]
fn loops_of_another_kind_are_refused_by_name() {
    let place = "node `/Loop`, attribute `body`";
    assert_eq!(
        refused(|node, _| node.input.push("x".to_owned())),
        format!("{place}: a subgraph is not supported")
    );
    let carried = refused(|_, body| {
        body.input.push(proto::ValueInfo { name: Some("carried".to_owned()), ..body.input[0].clone() });
    });
    assert_eq!(carried, format!("{place}: expected a body of 2 inputs, found 3"));
    assert_eq!(
        refused(|_, body| body.node[0].input[0] = "nowhere".to_owned()),
        "node `/Loop/Gather`: reads `nowhere`, which nothing before it produces"
    );
    let within = refused(|node, body| {
        let attribute = proto::Attribute {
            name: Some("body".to_owned()),
            g: Some(body.encode_to_vec().into()),
            r#type: Some(attribute_type::GRAPH),
            ..Default::default()
        };
        body.node[0].op_type = Some("Loop".to_owned());
        body.node[0].input.truncate(LOOP_INPUTS);
        body.node[0].attribute = vec![attribute];
        node.name = Some("outer".to_owned());
    });
    assert_eq!(within, "node `/Loop/Gather`, attribute `body`: a loop within a loop is not supported");
}

#[test]
fn bodies_that_do_not_fit_are_invalid() {
    let invalid = |damage: &dyn Fn(&mut Graph)| {
        let mut graph = rows();
        let node = graph.nodes.iter_mut().find(|node| node.op == "Loop").unwrap();
        let Some(Attr::Graph(body)) = node.attrs.get_mut("body") else { panic!("a loop has a body") };
        damage(body);
        validate(graph).expect_err("the damage is found").to_string()
    };
    assert_eq!(
        invalid(&|body| body.outputs.truncate(1)),
        "node `/Loop`: its body needs 4 inputs and 2 outputs, found 4 and 1"
    );
    assert_eq!(invalid(&|body| body.opset = 17), "node `/Loop`: its body is of opset 17, the graph of 15");
    let condition = |body: &mut Graph| body.values[body.inputs[1].index()].name = "y".to_owned();
    assert_eq!(invalid(&condition), "node `/Loop`: its body shares the value name `y` with the graph");
    let unnamed = |body: &mut Graph| body.nodes[0].name.clear();
    assert_eq!(invalid(&unnamed), "node number 0 (Gather) has no name");
}

/// An error in the body is reported by the builder.
#[test]
fn mistakes_in_a_body_are_reported() {
    let mut builder = GraphBuilder::new("rows", 15);
    let x = builder.input("x", DType::F32, vec![Dim::symbol("time"), Dim::from(2i64)]);
    let y = builder.repeat(&Dim::symbol("time"), &[x], |g, _, around| g.split(around[0], 1, &[3])[0]);
    builder.output("y", y);
    let error = builder.finish().expect_err("two are not three").to_string();
    assert!(error.starts_with("/Loop/Split: axis 1 cannot be cut into [3]"), "{error}");
}
