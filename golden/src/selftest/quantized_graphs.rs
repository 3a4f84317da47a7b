//! What the selftest changes in a quantized graph: the matrices of its layers are stored as integers of 8 bits, and then one thing
//! is wrong.

use std::collections::HashSet;

use deberta_converters::format::onnx::proto::tensor_proto::DataType;
use deberta_converters::format::onnx::proto::{GraphProto, TensorProto};
use deberta_reference::Head;

use super::graph_changes::{ANY, Change, Expected, edit, floats, node, of};

/// The tensor that is broken, and another of its shape.
const TENSOR: &str = "encoder.layer.0.output.dense.weight";
const OTHER: &str = "encoder.layer.1.output.dense.weight";

const HAS_LABELS: fn(Head) -> bool =
    |head| matches!(head, Head::SequenceClassification | Head::TokenClassification);

/// All changes.
pub(super) const QUANTIZED: &[Change] = &[
    of("good-int8", "matrices stored as integers", ANY, Expected::Pass, |graph| quantize(graph, 0)),
    of("good-uint8", "matrices stored as integers with a zero point", ANY, Expected::Pass, |graph| {
        quantize(graph, 128)
    }),
    of(
        "good-int8-dynamic",
        "activations rounded by the scale of their batch",
        ANY,
        Expected::Pass,
        |graph| {
            quantize(graph, 0)?;
            let made = ["q", "s", "z"].map(str::to_owned);
            let (at, taken) = product(graph)?;
            let mut rounding = node("DynamicQuantizeLinear", vec![taken], "q".to_owned());
            rounding.output = made.to_vec();
            graph.node.insert(at, node("DequantizeLinear", made.to_vec(), ROUNDED.to_owned()));
            graph.node.insert(at, rounding);
            Some(())
        },
    ),
    of(
        "int8-scale",
        "a scale half as large again",
        ANY,
        Expected::Named(&[TENSOR, "the scale", "1.5"]),
        |graph| {
            quantize(graph, 0)?;
            edit(tensor(graph, TENSOR, SCALE)?, |numbers| numbers.iter_mut().for_each(|scale| *scale *= 1.5))
        },
    ),
    of(
        "int8-zero-point",
        "a zero point off by 9",
        ANY,
        Expected::Named(&[TENSOR, "the zero point is 9"]),
        |graph| {
            quantize(graph, 128)?;
            tensor(graph, TENSOR, ZERO)?.raw_data = Some(vec![128 + 9].into());
            Some(())
        },
    ),
    of(
        "int8-layer",
        "the matrices of two layers exchanged",
        ANY,
        Expected::Named(&[TENSOR, "these are the numbers of", OTHER]),
        |graph| {
            quantize(graph, 0)?;
            for end in [STORED, SCALE] {
                let other = tensor(graph, OTHER, end)?.raw_data.take();
                let own = std::mem::replace(&mut tensor(graph, TENSOR, end)?.raw_data, other);
                tensor(graph, OTHER, end)?.raw_data = own;
            }
            Some(())
        },
    ),
    of(
        "int8-weights",
        "other weights in a matrix",
        ANY,
        Expected::Named(&[TENSOR, "other weights"]),
        |graph| {
            quantize(graph, 0)?;
            let stored = tensor(graph, TENSOR, STORED)?;
            let mut codes = bytes(stored)?;
            codes.iter_mut().enumerate().for_each(|(at, code)| *code = (at * 37 % 251) as u8);
            stored.raw_data = Some(codes.into());
            Some(())
        },
    ),
    of(
        "int8-order",
        "the rows or columns of a matrix in another order",
        ANY,
        Expected::Named(&[TENSOR, "another order"]),
        |graph| {
            quantize(graph, 0)?;
            let stored = tensor(graph, TENSOR, STORED)?;
            let columns = usize::try_from(*stored.dims.last()?).ok()?;
            let mut codes = bytes(stored)?;
            // Of a transpose these are the columns.
            codes.rotate_left(columns);
            stored.raw_data = Some(codes.into());
            Some(())
        },
    ),
    of(
        "int8-labels",
        "the labels in another order",
        HAS_LABELS,
        Expected::Named(&["classifier.weight", "another order"]),
        |graph| {
            quantize(graph, 0)?;
            let weight =
                graph.initializer.iter_mut().find(|tensor| tensor.name().ends_with("classifier.weight"))?;
            let rows = usize::try_from(*weight.dims.first()?).ok().filter(|&rows| rows > 1)?;
            edit(weight, |numbers| {
                let row = numbers.len() / rows;
                numbers.rotate_left(row);
            })
        },
    ),
    of(
        "int8-graph",
        "an Erf made a Tanh beside matrices of integers",
        ANY,
        Expected::Named(&["the graph is wrong, not the weights"]),
        |graph| {
            quantize(graph, 0)?;
            graph.node.iter_mut().find(|node| node.op_type() == "Erf")?.op_type = Some("Tanh".to_owned());
            Some(())
        },
    ),
    of(
        "int8-static-range",
        "activations rounded by a constant scale that is far too large",
        ANY,
        Expected::Named(&["costs more than a quantization does"]),
        |graph| {
            quantize(graph, 0)?;
            graph.initializer.push(initializer("s", &[], DataType::Float, 30.0_f32.to_le_bytes().to_vec()));
            graph.initializer.push(initializer("z", &[], DataType::Uint8, vec![128]));
            let (at, taken) = product(graph)?;
            let names = |value: &str| [value, "s", "z"].map(str::to_owned).to_vec();
            graph.node.insert(at, node("DequantizeLinear", names("q"), ROUNDED.to_owned()));
            graph.node.insert(at, node("QuantizeLinear", names(&taken), "q".to_owned()));
            Some(())
        },
    ),
];

/// What stands behind the name of a matrix in those of its integers, its scale and its zero point.
const STORED: &str = "_quantized";
const SCALE: &str = "_scale";
const ZERO: &str = "_zero_point";

/// What a product takes whose values are rounded.
const ROUNDED: &str = "rounded";

/// Stores every matrix of the layers as integers of 8 bits, one scale each, in front of a `DequantizeLinear`. With a zero point
/// they have no sign.
fn quantize(graph: &mut GraphProto, zero: u8) -> Option<()> {
    let is_matrix = |tensor: &TensorProto| {
        tensor.dims.len() == 2
            && tensor.name().contains("encoder.layer.")
            && tensor.name().ends_with(".weight")
    };
    let (matrices, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut graph.initializer).into_iter().partition(is_matrix);
    graph.initializer = others;
    for tensor in matrices {
        let numbers = floats(&tensor)?;
        let scale = numbers.iter().fold(f32::MIN_POSITIVE, |most, number| most.max(number.abs())) / 127.0;
        let codes =
            numbers.iter().map(|number| ((number / scale).round() as i8 as u8).wrapping_add(zero)).collect();
        let named = |end: &str| format!("{}{end}", tensor.name());
        let of = if zero == 0 { DataType::Int8 } else { DataType::Uint8 };
        graph.initializer.push(initializer(&named(STORED), &tensor.dims, of, codes));
        graph.initializer.push(initializer(
            &named(SCALE),
            &[],
            DataType::Float,
            scale.to_le_bytes().to_vec(),
        ));
        graph.initializer.push(initializer(&named(ZERO), &[], of, vec![zero]));
        let taken = [STORED, SCALE, ZERO].map(named).to_vec();
        graph.node.insert(0, node("DequantizeLinear", taken, tensor.name().to_owned()));
    }
    Some(())
}

/// Lets the product with the matrix take [`ROUNDED`], and says where it stands and what it took.
fn product(graph: &mut GraphProto) -> Option<(usize, String)> {
    let mut of_matrix: HashSet<String> = graph
        .node
        .iter()
        .flat_map(|node| &node.output)
        .filter(|name| name.ends_with(TENSOR))
        .cloned()
        .collect();
    let at = graph.node.iter().position(|node| {
        let takes = node.input.iter().any(|name| of_matrix.contains(name));
        if takes && node.op_type() == "Transpose" {
            of_matrix.extend(node.output.iter().cloned());
        }
        takes && matches!(node.op_type(), "MatMul" | "Gemm")
    })?;
    let taken = std::mem::replace(graph.node.get_mut(at)?.input.first_mut()?, ROUNDED.to_owned());
    Some((at, taken))
}

/// A tensor of a quantized matrix.
fn tensor<'g>(graph: &'g mut GraphProto, matrix: &str, end: &str) -> Option<&'g mut TensorProto> {
    let end = format!("{matrix}{end}");
    graph.initializer.iter_mut().find(|tensor| tensor.name().ends_with(&end))
}

fn bytes(tensor: &TensorProto) -> Option<Vec<u8>> {
    Some(tensor.raw_data.as_ref()?.to_vec())
}

fn initializer(name: &str, dims: &[i64], of: DataType, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(of.into()),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}
