use super::*;
use crate::format::onnx::encoded;
use crate::format::onnx::open;
use crate::format::onnx::proto::attribute_proto::AttributeType;
use crate::format::onnx::proto::{AttributeProto, GraphProto, TensorProto, ValueInfoProto};

fn node(operator: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let domain =
        if operator.starts_with("MatMulN") || operator.starts_with("Fused") { "com.microsoft" } else { "" };
    NodeProto {
        name: Some(format!("/m/{operator}")),
        domain: Some(domain.to_owned()),
        op_type: Some(operator.to_owned()),
        input: names(input),
        output: names(output),
        ..NodeProto::default()
    }
}

fn with(mut node: NodeProto, integers: &[(&str, i64)]) -> NodeProto {
    node.attribute.extend(integers.iter().map(|(name, value)| attributes::int(name, *value)));
    node
}

fn tensor(name: &str, of: DataType, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(of.into()),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}

fn floats(name: &str, dims: &[i64], numbers: &[f32]) -> TensorProto {
    tensor(name, DataType::Float, dims, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// Lowers a graph of an input `x` and an output `y`.
fn lowered(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>, activations: Activations) -> Lowered {
    lowered_by(nodes, initializer, Options::new(activations))
}

fn lowered_by(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>, options: Options) -> Lowered {
    let value = |name: &str| ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() };
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let model = ModelProto { ir_version: Some(8), graph: Some(graph), ..ModelProto::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, encoded(&model)).unwrap();
    let file = open(Mapped::open(&path).unwrap()).unwrap();
    assert!(is_needed(&file));
    lower(&file, Mapped::open(&path).unwrap(), options).unwrap()
}

fn operators(lowered: &Lowered) -> Vec<&str> {
    lowered.model.graph.iter().flat_map(|graph| &graph.node).map(|node| node.op_type()).collect()
}

fn numbers(lowered: &Lowered, name: &str) -> Vec<f32> {
    let mut tensors = lowered.model.graph.iter().flat_map(|graph| &graph.initializer);
    let tensor = tensors.find(|tensor| tensor.name() == name).unwrap();
    let bytes = tensor.raw_data.as_ref().unwrap();
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn dynamic() -> Vec<NodeProto> {
    vec![
        node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"]),
        node("MatMulInteger", &["q", "w_quantized", "z", "wz"], &["i"]),
        with(node("Cast", &["i"], &["c"]), &[("to", 1)]),
        node("Mul", &["s", "ws"], &["both"]),
        node("Mul", &["c", "both"], &["y"]),
    ]
}

#[test]
fn floating_point_numbers_of_8_bits_have_scales_and_no_zero_points() {
    let nodes = || {
        vec![
            node("QuantizeLinear", &["x", "s", "zero"], &["q"]),
            node("DequantizeLinear", &["q", "s", "zero"], &["d"]),
            node("DequantizeLinear", &["w_quantized", "ws", "wz"], &["dw"]),
            node("MatMul", &["d", "dw"], &["y"]),
        ]
    };
    let of = |zero: u8| {
        vec![
            floats("s", &[], &[0.5]),
            tensor("zero", DataType::Float8e4m3fn, &[], vec![0]),
            // 1, -1.125, 448, the least.
            tensor("w_quantized", DataType::Float8e4m3fn, &[2, 2], vec![0x38, 0xb9, 0x7e, 1]),
            floats("ws", &[], &[2.0]),
            tensor("wz", DataType::Float8e4m3fn, &[], vec![zero]),
        ]
    };
    let exact = lowered(nodes(), of(0), Activations::Exact);
    assert_eq!(operators(&exact), ["MatMul"]);
    assert_eq!(numbers(&exact, "w"), [2.0, -2.25, 896.0, 0.00390625]);
    let stored = exact.stored.get("w").unwrap();
    assert_eq!(
        [2.0, -2.25, 896.0, 0.0].map(|number| stored.step_at(0, number)),
        [0.25, 0.25, 64.0, 0.00390625]
    );
    assert!(stored.is_at_the_end(2, 896.0) && !stored.is_at_the_end(2, 832.0));
    let rounded = lowered(nodes(), of(0), Activations::Rounded);
    let rounding =
        ["Div", "Clip", "Mul", "Sub", "Sub", "Add", "Sub", "Abs", "Less", "Where", "Mul", "MatMul"];
    assert_eq!(operators(&rounded), rounding);
    assert_eq!(operators(&lowered(nodes(), of(1), Activations::Exact)), ["DequantizeLinear", "MatMul"]);
}

fn weights(scales: &[f32]) -> Vec<TensorProto> {
    vec![
        tensor("w_quantized", DataType::Int8, &[2, 2], vec![1, 2, 3, 4]),
        tensor("wz", DataType::Int8, &[2], vec![1, 2]),
        floats("ws", &[2], scales),
    ]
}

#[test]
fn a_product_of_integers_is_one_of_numbers() {
    let exact = lowered(dynamic(), weights(&[0.5, 2.0]), Activations::Exact);
    assert_eq!(operators(&exact), ["MatMul"]);
    assert_eq!(numbers(&exact, "w"), [0.0, 0.0, 1.0, 4.0]);
    let stored = exact.stored.get("w").unwrap();
    assert_eq!(
        (stored.name.as_str(), stored.codes, stored.scales()),
        ("w_quantized", Codes::Integers(-128, 127), 2)
    );
    let rounded = lowered(dynamic(), weights(&[0.5, 2.0]), Activations::Rounded);
    let made = ["DynamicQuantizeLinear", "Div", "Round", "Cast", "Add", "Clip", "Sub", "Mul", "MatMul"];
    assert_eq!(operators(&rounded), made);
}

#[test]
fn a_relu_that_tools_left_out_in_front_of_integers_is_put_back() {
    let operators_of = |zero: u8, relus: usize| {
        let nodes = vec![
            node("MatMul", &["x", "w"], &["p"]),
            node("QuantizeLinear", &["p", "s", "z"], &["q"]),
            node("DequantizeLinear", &["q", "s", "z"], &["d"]),
            node("MatMul", &["d", "w"], &["y"]),
        ];
        let tensors = vec![
            floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            floats("s", &[], &[0.5]),
            tensor("z", DataType::Uint8, &[], vec![zero]),
        ];
        let options = Options { relus, ..Options::new(Activations::Exact) };
        let lowered = lowered_by(nodes, tensors, options);
        operators(&lowered).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(operators_of(0, 1), ["MatMul", "Relu", "MatMul"]);
    // The model has none, and integers that do not start at zero.
    assert_eq!(
        (operators_of(0, 0), operators_of(128, 1)),
        (vec!["MatMul".into(); 2], vec!["MatMul".into(); 2])
    );
}

#[test]
fn a_convolution_with_the_channels_behind_is_turned() {
    let last = |last: i64| {
        let convolution = node("QLinearConv", &["q", "s", "z", "k", "s", "zk", "s", "z"], &["c"]);
        let nodes = vec![
            node("QuantizeLinear", &["x", "s", "z"], &["q"]),
            with(convolution, &[("channels_last", last), ("group", 1)]),
            node("DequantizeLinear", &["c", "s", "z"], &["y"]),
        ];
        let tensors = vec![
            floats("s", &[], &[0.5]),
            tensor("z", DataType::Uint8, &[], vec![128]),
            tensor("zk", DataType::Int8, &[], vec![0]),
            tensor("k", DataType::Int8, &[2, 3, 1], vec![1; 6]),
        ];
        lowered(nodes, tensors, Activations::Exact)
    };
    let turned = last(1);
    assert_eq!(operators(&turned), ["Transpose", "Conv", "Transpose", "Identity"]);
    let attributes = &turned.model.graph.as_ref().unwrap().node[1].attribute;
    assert_eq!(attributes.iter().map(AttributeProto::name).collect::<Vec<_>>(), ["group"]);
    assert_eq!(operators(&last(0)), ["Conv", "Identity"]);
}

#[test]
fn factors_of_channels_go_back_into_the_weights() {
    let smoothed = |factors: TensorProto, activations| {
        let mut nodes = vec![node("Mul", &["x", "f"], &["smooth"])];
        nodes.extend(dynamic());
        nodes[1].input[0] = "smooth".to_owned();
        lowered(nodes, [weights(&[0.5, 2.0]), vec![factors]].concat(), activations)
    };
    let exact = smoothed(floats("f", &[2], &[10.0, 0.5]), Activations::Exact);
    assert_eq!(operators(&exact), ["MatMul"]);
    assert_eq!(exact.model.graph.as_ref().unwrap().node[0].input[0], "x");
    assert_eq!(numbers(&exact, "w"), [0.0, 0.0, 0.5, 2.0]);
    let stored = exact.stored.get("w").unwrap();
    assert_eq!([0, 1, 2, 3].map(|index| stored.scale_at(index)), [5.0, 20.0, 0.25, 1.0]);
    // What is rounded is rounded as it is.
    let rounded = smoothed(floats("f", &[2], &[10.0, 0.5]), Activations::Rounded);
    assert_eq!((operators(&rounded)[0], numbers(&rounded, "w")[2]), ("Mul", 1.0));
    // One number for all is no factor of a channel.
    let scaled = smoothed(floats("f", &[1], &[10.0]), Activations::Exact);
    assert_eq!((operators(&scaled), numbers(&scaled, "w")[2]), (vec!["Mul", "MatMul"], 1.0));
}

#[test]
fn the_scale_that_is_read_counts() {
    // Somebody else's scale is in the place of the activation's.
    let mut nodes = dynamic();
    nodes[3].input[0] = "other".to_owned();
    let mut tensors = weights(&[0.5, 2.0]);
    tensors.push(floats("other", &[], &[7.0]));
    let exact = lowered(nodes, tensors, Activations::Exact);
    assert!(operators(&exact).ends_with(&["MatMul", "Mul"]), "{:?}", operators(&exact));
    assert_eq!(numbers(&exact, "w"), [0.0, 0.0, 2.0, 2.0]);
    // An activation is read with another scale than it was written with.
    let pair = |scale: &str| {
        vec![
            node("QuantizeLinear", &["x", "a", "z"], &["q"]),
            node("DequantizeLinear", &["q", scale, "z"], &["y"]),
        ]
    };
    let constants = || {
        vec![floats("a", &[], &[0.5]), floats("b", &[], &[1.0]), tensor("z", DataType::Uint8, &[], vec![3])]
    };
    assert_eq!(operators(&lowered(pair("a"), constants(), Activations::Exact)), ["Identity"]);
    assert_eq!(operators(&lowered(pair("b"), constants(), Activations::Exact)), ["Div", "Mul", "Identity"]);
}

#[test]
fn blocks_need_not_fill_a_column() {
    // K = 3 in blocks of 2: the last one has a place that nothing is in.
    let product = with(
        node("MatMulNBits", &["x", "w_Q4", "s", "z"], &["y"]),
        &[("K", 3), ("N", 2), ("bits", 4), ("block_size", 2)],
    );
    let tensors = vec![
        tensor("w_Q4", DataType::Uint8, &[2, 2, 1], vec![0x21, 0x03, 0x54, 0x06]),
        floats("s", &[4], &[1.0, 10.0, 100.0, 1000.0]),
        tensor("z", DataType::Uint8, &[2], vec![0x01, 0x20]),
    ];
    let exact = lowered(vec![product], tensors, Activations::Exact);
    assert_eq!(operators(&exact), ["MatMul"]);
    // [K, N]: column 0 has zero points 1 and 0, column 1 has 0 and 2.
    assert_eq!(numbers(&exact, "w"), [0.0, 400.0, 1.0, 500.0, 30.0, 4000.0]);
}

/// A product with [3, 2] in blocks of 2 with scales 1, 10 and 100, 1000; the numbers of the columns are 1, 2, 3 and 4, 5, 6.
fn blocks(more: &[&str], attributes: &[(&str, i64)]) -> NodeProto {
    let input = [&["x", "w_Q4", "s"], more].concat();
    let sizes = [("K", 3), ("N", 2), ("bits", 4), ("block_size", 2)];
    // Of two attributes of one name the first counts.
    with(with(node("MatMulNBits", &input, &["y"]), attributes), &sizes)
}

fn of_blocks() -> Vec<TensorProto> {
    vec![
        tensor("w_Q4", DataType::Uint8, &[2, 2, 1], vec![0x21, 0x03, 0x54, 0x06]),
        floats("s", &[4], &[1.0, 10.0, 100.0, 1000.0]),
        floats("real", &[4], &[0.5, 1.5, 0.0, 2.5]),
        tensor("packed", DataType::Uint8, &[2], vec![0x01, 0x20]),
        tensor("g", DataType::Int32, &[3], [1_i32, 0, 1].iter().flat_map(|of| of.to_le_bytes()).collect()),
        floats("bias", &[2], &[7.0, 8.0]),
    ]
}

#[test]
fn zero_points_of_blocks_need_not_be_integers() {
    let exact = lowered(vec![blocks(&["real"], &[])], of_blocks(), Activations::Exact);
    assert_eq!(numbers(&exact, "w"), [0.5, 400.0, 1.5, 500.0, 15.0, 3500.0]);
    let stored = exact.stored.get("w").unwrap();
    // 15 and 0 are the ends.
    assert!(stored.is_at_the_end(0, 14.5) && stored.is_at_the_end(0, -0.5) && !stored.is_at_the_end(0, 0.5));
}

#[test]
fn rows_have_the_scales_of_the_blocks_that_are_said() {
    let exact = lowered(vec![blocks(&["real", "g"], &[])], of_blocks(), Activations::Exact);
    // Rows 0 and 2 are in block 1, row 1 in block 0.
    assert_eq!(numbers(&exact, "w"), [-5.0, 1500.0, 1.5, 500.0, 15.0, 3500.0]);
    let stored = exact.stored.get("w").unwrap();
    assert_eq!([0, 2, 4].map(|index| stored.group_at(index)), [1, 0, 1]);
    // ONNX Runtime takes 8 in the place of packed zero points, and computes no other bits. What is packed for CUDA is in another order.
    for other in [
        blocks(&["packed", "g"], &[]),
        blocks(&["", "g"], &[("bits", 8)]),
        blocks(&[], &[("weight_prepacked", 1)]),
    ] {
        assert_eq!(operators(&lowered(vec![other], of_blocks(), Activations::Exact)), ["MatMulNBits"]);
    }
    // A block that is not there.
    let mut tensors = of_blocks();
    tensors[4].raw_data =
        Some([2_i32, 0, 1].iter().flat_map(|of| of.to_le_bytes()).collect::<Vec<u8>>().into());
    let exact = lowered(vec![blocks(&["", "g"], &[])], tensors, Activations::Exact);
    assert_eq!(operators(&exact), ["MatMulNBits"]);
}

#[test]
fn what_is_in_front_of_blocks_is_rounded_where_8_bits_are_enough() {
    let of = |more: &[&str], attributes: &[(&str, i64)], activations| {
        let lowered = lowered(vec![blocks(more, attributes)], of_blocks(), activations);
        operators(&lowered).join(" ")
    };
    let level = [("accuracy_level", 4)];
    assert_eq!(of(&["", "", "bias"], &level, Activations::Exact), "MatMul Add");
    assert_eq!(of(&[], &[("accuracy_level", 1)], Activations::Rounded), "MatMul");
    assert_eq!(of(&["real"], &level, Activations::Rounded), "MatMul");
    // The last block has one place that no row is in.
    assert_eq!(
        of(&["packed", "", "bias"], &level, Activations::Rounded),
        "Shape Reshape Pad Reshape Abs TopK Div Max Div Mul Round Mul Reshape Slice Reshape MatMul Add"
    );
    // By 127 / largest, as ONNX Runtime has it; the inverse of the scale is another number.
    let rounded = lowered(vec![blocks(&[], &level)], of_blocks(), Activations::Rounded);
    let mut quotients = rounded.model.graph.iter().flat_map(|graph| &graph.node);
    assert!(quotients.any(|node| node.op_type() == "Div" && node.input[0] == "127"));
    let switched = lowered(vec![blocks(&[], &level)], of_blocks(), Activations::Switched);
    assert_eq!(operators(&switched).iter().filter(|of| **of == "Where").count(), 2);
}

#[test]
fn a_table_is_dequantized_before_it_is_looked_up() {
    let nodes = vec![
        node("Gather", &["t_quantized", "x"], &["rows"]),
        node("DequantizeLinear", &["rows", "s", "z"], &["y"]),
    ];
    let tensors = vec![
        tensor("t_quantized", DataType::Uint8, &[2, 1], vec![5, 9]),
        floats("s", &[], &[0.5]),
        tensor("z", DataType::Uint8, &[], vec![7]),
    ];
    let exact = lowered(nodes, tensors, Activations::Exact);
    assert_eq!(operators(&exact), ["Gather", "Identity"]);
    assert_eq!(numbers(&exact, "t"), [-1.0, 1.0]);
}

#[test]
fn a_branch_keeps_what_it_takes_from_outside() {
    let inner = GraphProto {
        node: vec![node("Identity", &["outside"], &["inside"])],
        output: vec![ValueInfoProto { name: Some("inside".to_owned()), ..ValueInfoProto::default() }],
        ..GraphProto::default()
    };
    let branch = |name: &str| AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph.into()),
        g: Some(inner.clone()),
        ..AttributeProto::default()
    };
    let mut choice = node("If", &["x"], &["y"]);
    choice.attribute = vec![branch("then_branch"), branch("else_branch")];
    // As quantize_dynamic orders them: the branch is in front of what it takes.
    let nodes = vec![choice, with(node("Cast", &["h"], &["outside"]), &[("to", 10)])];
    let exact = lowered(nodes, vec![tensor("h", DataType::Float16, &[1], vec![0, 0x3c])], Activations::Exact);
    assert_eq!(operators(&exact), ["If", "Cast"]);
    assert_eq!(numbers(&exact, "h"), [1.0]);
    let graph = exact.model.graph.as_ref().unwrap();
    assert_eq!(graph.node[1].attribute[0].i, Some(1));
}

#[test]
fn fused_products_are_taken_apart() {
    let mut fused = with(node("FusedMatMul", &["x", "w"], &["y"]), &[("transB", 1)]);
    fused.attribute.push(attributes::float("alpha", 0.5));
    let exact = lowered(vec![fused], vec![floats("w", &[1, 2], &[1.0, 2.0])], Activations::Exact);
    assert_eq!(operators(&exact), ["Transpose", "MatMul", "Mul"]);
}

#[test]
fn what_runtimes_lack_is_taken_apart() {
    let exact = lowered(vec![node("Mish", &["x"], &["y"])], Vec::new(), Activations::Exact);
    assert_eq!(operators(&exact), ["Softplus", "Tanh", "Mul"]);
}

#[test]
fn nodes_round_or_not_as_an_input_says() {
    let switched = lowered(dynamic(), weights(&[0.5, 2.0]), Activations::Switched);
    let [node] = switched.switched.nodes.as_slice() else { panic!("{:?}", switched.switched) };
    assert_eq!((node.name.as_str(), node.before.as_str()), ("/m/MatMulInteger", "/m/MatMulInteger"));
    assert_eq!(node.tensors, ["w_quantized"]);
    let [(exact, of)] = switched.switched.exact.as_slice() else { panic!("{:?}", switched.switched) };
    assert_eq!((numbers(&switched, exact), of.as_str()), (numbers(&switched, "w"), "w_quantized"));
    // Values and weights, each rounded or not.
    assert_eq!(operators(&switched).iter().filter(|of| **of == "Where").count(), 2);
    let inputs = switched.model.graph.iter().flat_map(|graph| &graph.input);
    assert_eq!(inputs.map(|input| input.name()).collect::<Vec<_>>(), ["x", SWITCHES]);
}

#[test]
fn what_several_nodes_take_is_rounded_for_all_of_them() {
    let nodes = vec![
        node("QuantizeLinear", &["x", "a", "z"], &["q"]),
        node("DequantizeLinear", &["q", "a", "z"], &["r"]),
        NodeProto { name: Some("one".to_owned()), ..node("MatMul", &["r", "w"], &["m"]) },
        NodeProto { name: Some("other".to_owned()), ..node("MatMul", &["r", "m"], &["y"]) },
    ];
    let tensors = vec![
        floats("a", &[], &[0.5]),
        floats("w", &[2, 2], &[1.0; 4]),
        tensor("z", DataType::Uint8, &[], vec![3]),
    ];
    let switched = lowered(nodes, tensors, Activations::Switched);
    let names: Vec<&str> = switched.switched.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["one", "other"]);
    assert_eq!(operators(&switched).iter().filter(|of| **of == "Where").count(), 1);
}
