//! Writes a graph in standard operators on f32: `lower FROM.onnx TO.onnx [rounded]`. For `tests/interop/onnx/lowering.py`, which
//! compares both in ONNX Runtime.

use std::path::Path;

use deberta_converters::format::onnx;
use deberta_converters::lowering::{Activations, Options, lower};
use deberta_converters::mapped::Mapped;
use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, how @ ..] = arguments.as_slice() else {
        return Err("usage: lower FROM.onnx TO.onnx [rounded]".into());
    };
    let activations = if how.is_empty() { Activations::Exact } else { Activations::Rounded };
    let from = Path::new(from);
    let lowered = lower(&onnx::open(Mapped::open(from)?)?, Mapped::open(from)?, Options::new(activations))?;
    std::fs::write(to, lowered.model.encode_to_vec())?;
    let mut stored: Vec<_> = lowered.stored.iter().collect();
    stored.sort_by_key(|(name, _)| name.as_str());
    for (name, stored) in stored {
        println!("{name} <- {} {:?}, {} scales", stored.name, stored.codes, stored.scales());
    }
    Ok(())
}
