use super::super::proto::attribute_proto::AttributeType;
use super::super::proto::{AttributeProto, ModelProto, OperatorSetIdProto, TensorProto};
use super::*;
use crate::format::onnx::open;
use crate::mapped::Mapped;
use prost::Message as _;

fn node(domain: &str, operator: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        domain: Some(domain.to_owned()),
        op_type: Some(operator.to_owned()),
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn with(mut node: NodeProto, name: &str, value: i64) -> NodeProto {
    let r#type = Some(AttributeType::Int.into());
    node.attribute.push(AttributeProto {
        name: Some(name.to_owned()),
        i: Some(value),
        r#type,
        ..Default::default()
    });
    node
}

/// What a graph of these nodes is, whose inputs `x` (f32) and initializers `w` and `f` (f32) are.
fn kind(weights: DataType, nodes: Vec<NodeProto>) -> String {
    let of = |name: &str, of: DataType, bytes: usize| TensorProto {
        name: Some(name.to_owned()),
        dims: vec![2],
        data_type: Some(of.into()),
        raw_data: Some(vec![0; bytes].into()),
        ..Default::default()
    };
    let size = match weights {
        DataType::Float => 8,
        DataType::Float16 | DataType::Bfloat16 => 4,
        DataType::Int4 => 1,
        _ => 2,
    };
    let graph = GraphProto {
        node: nodes,
        initializer: vec![of("w", weights, size), of("f", DataType::Float, 8)],
        input: vec![super::super::proto::ValueInfoProto { name: Some("x".to_owned()), ..Default::default() }],
        ..Default::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(21) }];
    let model = ModelProto { ir_version: Some(8), graph: Some(graph), opset_import, ..Default::default() };
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    let file = open(Mapped::open(&path).unwrap()).unwrap();
    GraphKind::of(&file, &Types::infer(&file).unwrap()).to_string()
}

#[test]
fn floating_point_numbers_of_8_bits_are_a_kind() {
    let dequantize = || node("", "DequantizeLinear", &["w", "f"], "d");
    let product = || node("", "MatMul", &["x", "d"], "y");
    for of in [DataType::Float8e4m3fn, DataType::Float8e5m2] {
        assert_eq!(kind(of, vec![dequantize(), product()]), "f8 (weights)");
        let rounds = node("", "QuantizeLinear", &["x", "f", "w"], "q");
        assert_eq!(kind(of, vec![rounds, dequantize(), product()]), "f8 (static, QDQ)");
    }
}

#[test]
fn operators_tell_the_kind() {
    let product = |domain, operator, input: &[&str]| vec![node(domain, operator, input, "y")];
    for (weights, nodes, expected) in [
        (DataType::Float, product("", "MatMul", &["x", "w"]), "f32"),
        (DataType::Int8, product("", "MatMulInteger", &["x", "w"]), "int8 (dynamic)"),
        (DataType::Uint8, product("", "MatMulInteger", &["x", "w"]), "uint8 (dynamic)"),
        (DataType::Int8, product("", "DequantizeLinear", &["w", "f"]), "int8 (weights)"),
        (DataType::Int4, product("", "DequantizeLinear", &["w", "f"]), "4-bit (blocks)"),
        (DataType::Uint8, product("com.microsoft", "MatMulNBits", &["x", "w", "f"]), "4-bit (blocks)"),
        (DataType::Uint8, product("com.microsoft", "MatMulBnb4", &["x", "w", "f"]), "4-bit (NF4)"),
        (DataType::Float, product("com.microsoft", "FusedMatMul", &["x", "w"]), "f32, fused by ONNX Runtime"),
        (DataType::Int8, product("", "QuantizeLinear", &["x", "f", "w"]), "int8 (static, QDQ)"),
        // Pairs on weights alone, as TensorRT has them.
        (
            DataType::Int8,
            [
                product("", "QuantizeLinear", &["f", "f", "w"]),
                vec![node("", "DequantizeLinear", &["y", "f"], "z")],
            ]
            .concat(),
            "int8 (weights)",
        ),
        (
            DataType::Int8,
            product("", "QLinearMatMul", &["x", "f", "w", "w", "f", "w", "f", "w"]),
            "int8 (static, QOperator)",
        ),
    ] {
        assert_eq!(kind(weights, nodes), expected);
    }
    let fp4 = with(node("com.microsoft", "MatMulBnb4", &["x", "w", "f"], "y"), "quant_type", 0);
    assert_eq!(kind(DataType::Uint8, vec![fp4]), "4-bit (FP4)");
    let wide = with(node("com.microsoft", "MatMulNBits", &["x", "w", "f"], "y"), "bits", 8);
    assert_eq!(kind(DataType::Uint8, vec![wide]), "8-bit (blocks)");
    let level = |input: &[&str]| with(node("com.microsoft", "MatMulNBits", input, "y"), "accuracy_level", 4);
    let kind = |input: &[&str]| kind(DataType::Uint8, vec![level(input)]);
    assert_eq!(kind(&["x", "w", "f"]), "4-bit (blocks), activations int8");
    assert_eq!(kind(&["x", "w", "f", "w"]), "4-bit (blocks), activations int8");
    // Zero points that are no integers, and an order of rows.
    assert_eq!([kind(&["x", "w", "f", "f"]), kind(&["x", "w", "f", "", "w"])], ["4-bit (blocks)"; 2]);
}

#[test]
fn halves_are_stored_or_computed_with() {
    let widened = || with(node("", "Cast", &["w"], "v"), "to", 1);
    let product = |input: &[&str], output| node("", "MatMul", input, output);
    assert_eq!(kind(DataType::Float16, vec![product(&["x", "w"], "y")]), "f16");
    assert_eq!(kind(DataType::Bfloat16, vec![product(&["x", "w"], "y")]), "bf16");
    assert_eq!(kind(DataType::Bfloat16, vec![widened(), product(&["x", "v"], "y")]), "f32 (weights in bf16)");
    assert_eq!(
        kind(DataType::Float16, vec![widened(), product(&["w", "w"], "y"), product(&["v", "f"], "z")]),
        "f32 and f16"
    );
}
