//! The order of events: a model is run on a task, then the one that it must agree with, then both are judged.

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::progress::Progress;
use serde_json::Value;

use super::agreement::Agreement;
use super::run::{Evaluation, TaskRequest};
use super::{Task, TaskReport};

/// Runs a model on a task, and another one if it must agree with that. `progress` is told what is being done.
///
/// # Errors
/// Whatever keeps the model from being judged: its files, its configuration, data without examples, NaN.
pub fn evaluate(
    task: &mut dyn Task,
    request: &TaskRequest,
    progress: &dyn Progress,
) -> Result<(TaskReport, Vec<Value>)> {
    progress.step(&format!("loading {}", request.model.name));
    let first = Evaluation::of(task, &request.model, request, progress)?;
    if first.judged.examples == 0 {
        return Err(Error::new(
            Kind::Request,
            "nothing to judge: the data have no example, or none with a label",
        ));
    }
    let agreement = match &request.against {
        Some(place) => {
            progress.step(&format!("loading {}", place.name));
            let second = Evaluation::of(task, place, request, progress)?;
            if second.sequences != first.sequences {
                let message = format!(
                    "{} and {} cannot be compared: their tokenizers make different sequences of the same texts",
                    first.model.name, second.model.name
                );
                return Err(Error::new(Kind::Model, message));
            }
            Some(Agreement::of(&first, &second)?)
        }
        None => None,
    };
    let report = TaskReport::new(request, &first, agreement)?;
    Ok((report, first.judged.predictions))
}
