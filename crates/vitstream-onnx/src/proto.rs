//! The part of ONNX's protobuf schema (`onnx.proto`, proto2) that this crate reads or writes.
//!
//! Fields that are only checked in order to refuse them (sequence types, ...) are declared as `bytes`: a
//! message looks the same on the wire, so its presence is seen without parsing its contents. A subgraph is
//! `bytes` as well, and is parsed only where one is expected. No message therefore contains itself, and a
//! file cannot choose the depth of any recursion.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

/// Defines a message whose fields, in the order of their tags, are read and written by prost's codecs. It
/// stands in for `#[derive(prost::Message)]`, because that macro alone would add five crates to the build of
/// every player.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$field_doc:meta])* $label:ident $codec:ident $field:ident: $ty:ty = $tag:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: $ty,)*
        }

        impl Message for $name {
            fn encode_raw(&self, buf: &mut impl BufMut) {
                $(encode!($label $codec $tag, &self.$field, buf);)*
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: WireType,
                buf: &mut impl Buf,
                ctx: DecodeContext,
            ) -> Result<(), DecodeError> {
                match tag {
                    $($tag => merge!($label $codec wire_type, &mut self.$field, buf, ctx).map_err(|mut error| {
                        error.push(stringify!($name), stringify!($field));
                        error
                    }),)*
                    _ => encoding::skip_field(wire_type, tag, buf, ctx),
                }
            }

            fn encoded_len(&self) -> usize {
                0 $(+ encoded_len!($label $codec $tag, &self.$field))*
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    };
}

macro_rules! encode {
    (optional $codec:ident $tag:literal, $field:expr, $buf:ident) => {
        if let Some(value) = $field {
            encoding::$codec::encode($tag, value, $buf);
        }
    };
    (repeated $codec:ident $tag:literal, $field:expr, $buf:ident) => {
        $field.iter().for_each(|value| encoding::$codec::encode($tag, value, $buf))
    };
    (packed $codec:ident $tag:literal, $field:expr, $buf:ident) => {
        encoding::$codec::encode_packed($tag, $field, $buf)
    };
}

macro_rules! merge {
    (optional $codec:ident $wire_type:ident, $field:expr, $buf:ident, $ctx:ident) => {
        encoding::$codec::merge($wire_type, $field.get_or_insert_default(), $buf, $ctx)
    };
    ($label:ident $codec:ident $wire_type:ident, $field:expr, $buf:ident, $ctx:ident) => {
        encoding::$codec::merge_repeated($wire_type, $field, $buf, $ctx)
    };
}

macro_rules! encoded_len {
    (optional $codec:ident $tag:literal, $field:expr) => {
        $field.as_ref().map_or(0, |value| encoding::$codec::encoded_len($tag, value))
    };
    (repeated $codec:ident $tag:literal, $field:expr) => {
        encoding::$codec::encoded_len_repeated($tag, $field)
    };
    (packed $codec:ident $tag:literal, $field:expr) => {
        encoding::$codec::encoded_len_packed($tag, $field)
    };
}

message! {
    /// `ModelProto`.
    Model {
        optional int64 ir_version: Option<i64> = 1;
        optional string producer_name: Option<String> = 2;
        optional string producer_version: Option<String> = 3;
        optional message graph: Option<Graph> = 7;
        repeated message opset_import: Vec<OperatorSetId> = 8;
        repeated message metadata_props: Vec<StringStringEntry> = 14;
        repeated message functions: Vec<Function> = 25;
    }
}

message! {
    /// `OperatorSetIdProto`.
    OperatorSetId {
        optional string domain: Option<String> = 1;
        optional int64 version: Option<i64> = 2;
    }
}

message! {
    /// `StringStringEntryProto`.
    StringStringEntry {
        optional string key: Option<String> = 1;
        optional string value: Option<String> = 2;
    }
}

message! {
    /// `FunctionProto`; only its name is read.
    Function {
        optional string name: Option<String> = 1;
    }
}

message! {
    /// `GraphProto`.
    Graph {
        repeated message node: Vec<Node> = 1;
        optional string name: Option<String> = 2;
        repeated message initializer: Vec<Tensor> = 5;
        repeated message input: Vec<ValueInfo> = 11;
        repeated message output: Vec<ValueInfo> = 12;
        repeated message value_info: Vec<ValueInfo> = 13;
        repeated message quantization_annotation: Vec<TensorAnnotation> = 14;
        repeated message sparse_initializer: Vec<SparseTensor> = 15;
    }
}

message! {
    /// `TensorAnnotation`; only its name is read.
    TensorAnnotation {
        optional string tensor_name: Option<String> = 1;
    }
}

message! {
    /// `SparseTensorProto`; only the name of its values is read.
    SparseTensor {
        optional message values: Option<TensorName> = 1;
    }
}

message! {
    /// `TensorProto`; only its name is read.
    TensorName {
        optional string name: Option<String> = 8;
    }
}

message! {
    /// `NodeProto`.
    Node {
        repeated string input: Vec<String> = 1;
        repeated string output: Vec<String> = 2;
        optional string name: Option<String> = 3;
        optional string op_type: Option<String> = 4;
        repeated message attribute: Vec<Attribute> = 5;
        optional string domain: Option<String> = 7;
        optional string overload: Option<String> = 8;
    }
}

message! {
    /// `AttributeProto`.
    Attribute {
        optional string name: Option<String> = 1;
        optional float f: Option<f32> = 2;
        optional int64 i: Option<i64> = 3;
        optional bytes s: Option<Bytes> = 4;
        optional message t: Option<Box<Tensor>> = 5;
        /// Bytes of a [`Graph`].
        optional bytes g: Option<Bytes> = 6;
        repeated float floats: Vec<f32> = 7;
        repeated int64 ints: Vec<i64> = 8;
        optional int32 r#type: Option<i32> = 20;
        optional string ref_attr_name: Option<String> = 21;
    }
}

/// `AttributeProto.AttributeType`.
pub(crate) mod attribute_type {
    pub(crate) const FLOAT: i32 = 1;
    pub(crate) const INT: i32 = 2;
    pub(crate) const STRING: i32 = 3;
    pub(crate) const TENSOR: i32 = 4;
    pub(crate) const GRAPH: i32 = 5;
    pub(crate) const FLOATS: i32 = 6;
    pub(crate) const INTS: i32 = 7;

    /// Describes the value of an attribute whose type [`crate::Attr`] does not have.
    pub(crate) fn describe(code: i32) -> &'static str {
        match code {
            0 => "a value without a type",
            5 => "a subgraph",
            8 => "a list of strings",
            9 => "a list of tensors",
            10 => "a list of subgraphs",
            11 => "a sparse tensor",
            12 => "a list of sparse tensors",
            13 => "a type",
            14 => "a list of types",
            _ => "a value of an unknown type",
        }
    }
}

message! {
    /// `TensorProto`.
    Tensor {
        repeated int64 dims: Vec<i64> = 1;
        optional int32 data_type: Option<i32> = 2;
        optional bytes segment: Option<Bytes> = 3;
        packed float float_data: Vec<f32> = 4;
        packed int32 int32_data: Vec<i32> = 5;
        packed int64 int64_data: Vec<i64> = 7;
        optional string name: Option<String> = 8;
        optional bytes raw_data: Option<Bytes> = 9;
        packed double double_data: Vec<f64> = 10;
        optional string doc_string: Option<String> = 12;
        repeated message external_data: Vec<StringStringEntry> = 13;
        optional int32 data_location: Option<i32> = 14;
    }
}

/// The tag of `TensorProto.raw_data`, which [`crate::encode`] writes without a message.
pub(crate) const RAW_DATA_TAG: u32 = 9;
/// The tag of `GraphProto.initializer`.
pub(crate) const INITIALIZER_TAG: u32 = 5;
/// The tag of `ModelProto.graph`.
pub(crate) const GRAPH_TAG: u32 = 7;

/// `TensorProto.DataType`.
pub(crate) mod data_type {
    use crate::graph::DType;

    pub(crate) fn code(dtype: DType) -> i32 {
        match dtype {
            DType::F32 => 1,
            DType::I32 => 6,
            DType::I64 => 7,
            DType::Bool => 9,
            DType::F16 => 10,
            DType::F64 => 11,
        }
    }

    /// The element type, or as an error the name of a type that [`DType`] does not have.
    pub(crate) fn dtype(code: i32) -> Result<DType, String> {
        Err(match code {
            1 => return Ok(DType::F32),
            6 => return Ok(DType::I32),
            7 => return Ok(DType::I64),
            9 => return Ok(DType::Bool),
            10 => return Ok(DType::F16),
            11 => return Ok(DType::F64),
            0 => "undefined",
            2 => "uint8",
            3 => "int8",
            4 => "uint16",
            5 => "int16",
            8 => "string",
            12 => "uint32",
            13 => "uint64",
            14 => "complex64",
            15 => "complex128",
            16 => "bfloat16",
            17..=20 => "float8",
            21 => "uint4",
            22 => "int4",
            _ => return Err(format!("number {code}")),
        }
        .to_owned())
    }
}

message! {
    /// `ValueInfoProto`.
    ValueInfo {
        optional string name: Option<String> = 1;
        optional message r#type: Option<Box<Type>> = 2;
    }
}

message! {
    /// `TypeProto`. Its `oneof` is spelled as optional fields.
    Type {
        optional message tensor_type: Option<TensorType> = 1;
        optional bytes sequence_type: Option<Bytes> = 4;
        optional bytes map_type: Option<Bytes> = 5;
        optional bytes opaque_type: Option<Bytes> = 7;
        optional bytes sparse_tensor_type: Option<Bytes> = 8;
        optional bytes optional_type: Option<Bytes> = 9;
    }
}

message! {
    /// `TypeProto.Tensor`.
    TensorType {
        optional int32 elem_type: Option<i32> = 1;
        optional message shape: Option<TensorShape> = 2;
    }
}

message! {
    /// `TensorShapeProto`.
    TensorShape {
        repeated message dim: Vec<Dimension> = 1;
    }
}

message! {
    /// `TensorShapeProto.Dimension`. Its `oneof` is spelled as optional fields.
    Dimension {
        optional int64 dim_value: Option<i64> = 1;
        optional string dim_param: Option<String> = 2;
    }
}
