//! How many axes values have: as the file declares it, or as it follows from what makes them.

use std::collections::HashMap;

use crate::format::onnx::proto::GraphProto;

/// The ranks of values, those of elementwise operators and products from their operands.
pub(super) fn ranks(graph: &GraphProto) -> HashMap<String, usize> {
    let declared = graph.ranks().into_iter().map(|(name, rank)| (name.to_owned(), rank));
    let mut ranks: HashMap<String, usize> = declared
        .chain(graph.initializer.iter().map(|tensor| (tensor.name().to_owned(), tensor.dims.len())))
        .collect();
    // How many numbers a list has, as the shapes that `Reshape` takes.
    let mut lengths: HashMap<&str, usize> = HashMap::new();
    for tensor in graph.initializer.iter().filter(|tensor| tensor.dims.len() == 1) {
        let length = tensor.dims.first().and_then(|&length| usize::try_from(length).ok());
        lengths.extend(length.map(|length| (tensor.name(), length)));
    }
    for node in &graph.node {
        let output = node.output.first().map(String::as_str);
        let length = match node.op_type() {
            // Of one number, as exporters make shapes.
            "Unsqueeze" => Some(1),
            "Concat" => node.input.iter().map(|name| lengths.get(name.as_str()).copied()).sum(),
            _ => None,
        };
        lengths.extend(output.zip(length));
        let of = |at: usize| node.input.get(at).and_then(|name| ranks.get(name)).copied();
        let ints = |name: &str| {
            let attribute = node.attribute.iter().find(|attribute| attribute.name() == name)?;
            Some(attribute.ints.len())
        };
        let rank = match node.op_type() {
            "Add" | "Sub" | "Mul" | "Div" | "MatMul" | "FusedMatMul" => {
                of(0).zip(of(1)).map(|(one, other)| one.max(other))
            }
            "Transpose" => ints("perm").or(of(0)),
            "GatherElements"
            | "Softmax"
            | "Tile"
            | "Cast"
            | "Identity"
            | "Slice"
            | "LayerNormalization"
            | "Expand"
            | "DequantizeLinear"
            | "QuantizeLinear"
            | "DynamicQuantizeMatMul"
            | "MatMulNBits"
            | "MatMulBnb4" => of(0),
            "Where" => of(1).into_iter().chain(of(2)).max(),
            "Gather" => of(0).zip(of(1)).map(|(data, indices)| (data + indices).saturating_sub(1)),
            "Reshape" => node.input.get(1).and_then(|shape| lengths.get(shape.as_str())).copied(),
            _ => None,
        };
        if let (Some(rank), Some(output)) = (rank, node.output.first()) {
            ranks.entry(output.clone()).or_insert(rank);
        }
    }
    ranks
}
