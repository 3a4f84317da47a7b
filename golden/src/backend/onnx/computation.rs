//! What a report says of what a graph computes with.

use deberta_converters::format::onnx::{GraphKind, Numbers};

use crate::backend::BackendName;

/// What is in the file, and what computed it here, if that is more than f32.
pub fn said(kind: GraphKind, by: BackendName) -> Option<String> {
    let here = match (kind.numbers, by) {
        (Numbers::F32, _) if !kind.is_fused => return None,
        (_, BackendName::Onnx) => "computed in f32 here (rten)",
        _ => "computed by ONNX Runtime on this processor",
    };
    Some(format!("{kind} graph, {here}"))
}
