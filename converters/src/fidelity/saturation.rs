//! Products of integers of 8 bits that a processor may add in 16.

use crate::format::onnx::proto::NodeProto;
use crate::lowering::{Codes, Lowered};

/// The largest weight whose products with two numbers of uint8 fit into 16 bits with a sign: 2 · 255 · 64 does.
const LARGEST: f32 = 64.0;

/// Whether a graph multiplies with weights of int8 that need all 8 bits: where ONNX Runtime adds the products with two numbers of
/// uint8 in 16 bits, the sums may saturate.
pub(super) fn is_possible(lowered: &Lowered) -> bool {
    let Some(graph) = &lowered.model.graph else { return false };
    let multiplies = |name: &str| {
        let mut name = name;
        let takes = |node: &&NodeProto, name: &str| node.input.iter().any(|input| input == name);
        if let Some(turned) =
            graph.node.iter().find(|node| node.op_type() == "Transpose" && takes(node, name))
        {
            name = turned.output.first().map_or(name, String::as_str);
        }
        let products = ["MatMul", "Gemm", "Conv"];
        graph.node.iter().any(|node| products.contains(&node.op_type()) && takes(&node, name))
    };
    graph.initializer.iter().any(|tensor| {
        let stored = lowered.stored.get(tensor.name());
        let stored = stored.filter(|stored| stored.codes == Codes::Integers(i8::MIN.into(), i8::MAX.into()));
        let (Some(stored), Some(bytes)) = (stored, &tensor.raw_data) else { return false };
        let numbers = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let code = |(index, number): (usize, f32)| {
            (number / stored.scale_at(index)).round() + stored.zero_at(index) as f32
        };
        multiplies(tensor.name()) && numbers.enumerate().map(code).any(|code| code.abs() > LARGEST)
    })
}
