//! Weights that are stored in halves and computed with in f32: a `Cast` for each.

use std::collections::HashSet;

use crate::format::onnx::data_type;
use crate::format::onnx::proto::NodeProto;
use crate::format::onnx::{Attribute, attribute};
use crate::tensor::Dtype;

/// The nodes with every parameter cast to `dtype`: a runtime does it when it loads the model. Rows of a table are cast after they
/// are taken, so that a runtime which does not do so casts few of them. A parameter is what no node makes and `others`, the inputs
/// and the constants, do not name.
pub(super) fn widened<'n>(
    nodes: Vec<NodeProto>,
    others: impl Iterator<Item = &'n str>,
    dtype: Dtype,
) -> Vec<NodeProto> {
    let mut known: HashSet<String> = nodes.iter().flat_map(|node| &node.output).cloned().collect();
    known.extend(others.map(str::to_owned));
    let cast = |input: &str, output: &str| NodeProto {
        input: vec![input.to_owned()],
        output: vec![output.to_owned()],
        name: Some(format!("/{output}/Cast")),
        op_type: Some("Cast".to_owned()),
        attribute: vec![attribute(&Attribute::Int("to", i64::from(i32::from(data_type(dtype)))))],
        ..NodeProto::default()
    };
    let (mut all, mut widened) = (Vec::with_capacity(nodes.len()), HashSet::new());
    for mut node in nodes {
        let is_table = node.op_type() == "Gather";
        let mut after = None;
        for input in node.input.iter_mut().filter(|input| !known.contains(*input)) {
            if is_table && let Some(output) = node.output.first_mut() {
                let stored = format!("{output} as stored");
                after = Some(cast(&stored, output));
                *output = stored;
            } else {
                let wide = format!("{input} as {dtype}");
                if widened.insert(input.clone()) {
                    all.push(cast(input, &wide));
                }
                *input = wide;
            }
        }
        all.push(node);
        all.extend(after);
    }
    all
}
