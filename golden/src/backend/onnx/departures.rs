//! Where `rten` 0.27 departs from the standard: found by `tests/interop/onnx/operators.py`, which runs every operator that
//! tools write by it and by ONNX Runtime. A graph that asks for one of these is not judged by `rten`.

use std::collections::HashMap;

use deberta_converters::format::TensorFile as _;
use deberta_converters::format::onnx::OnnxFile;
use deberta_converters::format::onnx::proto::NodeProto;

/// A node, and what it takes.
struct Operation<'f> {
    node: &'f NodeProto,
    file: &'f OnnxFile,
    tensors: &'f HashMap<&'f str, usize>,
    ranks: &'f HashMap<&'f str, usize>,
}

/// An operator, when `rten` computes it otherwise than the standard, and how.
struct Departure {
    operator: &'static str,
    when: fn(&Operation<'_>) -> bool,
    why: &'static str,
}

/// All departures. Besides them, `rten` computes f16 as f32 (`range.rs` puts the range back), and leaves a number that is cast
/// to a truth value what it is, so that masks must be of 0 and 1.
const DEPARTURES: &[Departure] = &[
    Departure {
        operator: "MatMulInteger",
        when: |of| of.varies(3),
        why: "takes the zero points of the first columns for all columns",
    },
    Departure { operator: "ArgMax", when: |_| true, why: "takes the last of equal numbers, not the first," },
    Departure { operator: "ArgMin", when: |_| true, why: "takes the last of equal numbers, not the first," },
    Departure { operator: "Softmax", when: |of| of.is_flattened(), why: FLATTENED },
    Departure { operator: "LogSoftmax", when: |of| of.is_flattened(), why: FLATTENED },
];

const FLATTENED: &str = "takes one axis where this version of the operators means all axes from it on";

/// The first node of a file that `rten` computes otherwise than the standard, in words.
pub(super) fn departure(file: &OnnxFile) -> Option<String> {
    let graph = file.graph()?;
    let tensors: HashMap<&str, usize> =
        file.tensors().iter().enumerate().map(|(index, info)| (info.name.as_str(), index)).collect();
    let ranks = graph.ranks();
    graph.node.iter().find_map(|node| {
        let of = Operation { node, file, tensors: &tensors, ranks: &ranks };
        let mut known = DEPARTURES.iter().filter(|departure| departure.operator == node.op_type());
        let departure = known.find(|departure| (departure.when)(&of))?;
        Some(format!("node \"{}\": rten {} of a {}", node.name(), departure.why, departure.operator))
    })
}

impl Operation<'_> {
    /// Whether an operand has elements that are not all the same, or that the file does not tell.
    fn varies(&self, operand: usize) -> bool {
        let Some(name) = self.node.input.get(operand).filter(|name| !name.is_empty()) else { return false };
        let stored = self.tensors.get(name.as_str()).and_then(|&index| {
            let size = self.file.tensors().get(index)?.dtype.size();
            Some((size, self.file.read(index).ok()?))
        });
        let Some((size, bytes)) = stored else { return true };
        let mut elements = bytes.chunks(size);
        let first = elements.next();
        elements.any(|element| Some(element) != first)
    }

    /// Whether the version of ONNX's operators is one in which a softmax is over all axes from its own on, and there is more
    /// than one.
    fn is_flattened(&self) -> bool {
        const OVER_ONE_AXIS: i64 = 13;
        if self.file.opset() >= OVER_ONE_AXIS {
            return false;
        }
        let axis = self.node.attribute.iter().find(|attribute| attribute.name() == "axis");
        let axis = axis.map_or(1, |attribute| attribute.i());
        let values = self.node.input.first().into_iter().chain(self.node.output.first());
        let rank = values.filter_map(|name| self.ranks.get(name.as_str())).next();
        match rank.and_then(|&rank| i64::try_from(rank).ok()) {
            Some(rank) => axis != -1 && axis != rank - 1,
            // The scores of attention have four axes.
            None => axis != -1 && axis != 3,
        }
    }
}
