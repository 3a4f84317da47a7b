//! The first question: are the weights in the file those of the model, rounded?

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::fidelity::Fidelity;
use deberta_converters::format::onnx::GraphKind;

use crate::judge::verdict::Outcome;
use crate::report::Answer;

/// How many broken tensors are named.
pub(super) const NAMED: usize = 5;

/// Judges the tensors of integers by how many steps a number may be off, if a case says it.
pub(super) fn limit(fidelity: &mut Fidelity, steps: Option<f64>) {
    let Some(steps) = steps else { return };
    for tensor in fidelity.tensors.iter_mut().filter(|tensor| tensor.stored_as.contains("int")) {
        tensor.limit = steps;
        if tensor.furthest <= steps {
            tensor.cause = None;
        } else if tensor.cause.is_none() {
            let furthest = tensor.furthest;
            tensor.cause =
                Some(format!("a number is {furthest:.3} steps from the model's, {steps} are allowed"));
        }
    }
}

/// The answer, given every tensor against the model's.
pub(super) fn answer(fidelity: &Fidelity, model: &Checkpoint, kind: GraphKind) -> Answer {
    let place = model.source.path.display();
    let broken = fidelity.broken().count();
    let (rounded, all) = (fidelity.rounded().count(), fidelity.tensors.len());
    if broken > 0 {
        let said = format!("{broken} of {all} tensors are not those of {place}, rounded");
        return Answer::new(Outcome::Divergence, said);
    }
    if rounded == 0 && kind.is_quantized() && fidelity.unknown.is_empty() && all == 0 {
        return Answer::new(
            Outcome::Undecided,
            "no tensor of the graph was recognised as a parameter of the model",
        );
    }
    let steps = fidelity.rounded().filter(|tensor| tensor.stored_as.contains("int"));
    let furthest = steps.map(|tensor| tensor.furthest).fold(0.0, f64::max);
    let unknown = match fidelity.unknown.len() {
        0 => String::new(),
        count => format!("; {count} rounded tensors are no parameters, and were not compared"),
    };
    let steps = if furthest > 0.0 { format!(", at most {furthest:.3} steps off") } else { String::new() };
    let said = format!(
        "{rounded} of {all} tensors are those of {place}, rounded{steps}; the others are equal{unknown}"
    );
    Answer::new(Outcome::Pass, said)
}
