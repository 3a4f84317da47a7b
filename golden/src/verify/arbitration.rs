//! The model that is run in f64 to say whose errors are larger.

use deberta_converters::error::Result;
use deberta_converters::loading::Parameters;
use deberta_reference::{Head, MaskedRows};

use super::candidate::WeightFile;
use crate::backend::{Arithmetic, Reference};
use crate::goldens::Golden;
use crate::judge::verdict::Basis;
use crate::trace::class::Class;

/// The model that `golden` was computed with, if its folder has it; else that of the candidate. Nothing if f64 was not
/// asked for.
///
/// # Errors
/// The class cannot be built from the candidate's weights.
pub(super) fn exact_model(
    file: &WeightFile<'_>,
    golden: &Golden,
    candidate: &Parameters,
    class: Class,
    rows: MaskedRows,
) -> Result<Option<(Reference, Basis)>> {
    if file.request.precision == Arithmetic::F32 {
        return Ok(None);
    }
    file.progress.step("computing in f64");
    let own = own_model(golden, class, rows).map(|model| (model, Basis::Golden));
    let (model, basis) = match own {
        Some(own) => own,
        None => (Reference::load(candidate, class, rows)?, Basis::Candidate),
    };
    Ok(Some((model.computing_in(Arithmetic::F64), basis)))
}

/// The model in the golden's folder, if it has the weight digest that the golden states. One that is not there, or not
/// right, is no error: it is the candidate that is verified.
fn own_model(golden: &Golden, class: Class, rows: MaskedRows) -> Option<Reference> {
    Reference::load(&own_parameters(golden, class.head)?, class, rows).ok()
}

/// The parameters of the model in the golden's folder, if it has the weight digest that the golden states.
pub(super) fn own_parameters(golden: &Golden, head: Head) -> Option<Parameters> {
    let folder = golden.model_folder().ok().flatten()?;
    let parameters = Parameters::open(&folder, head).ok()?;
    let checkpoint = parameters.checkpoint();
    let digest = checkpoint.digest(&checkpoint.tensor_digests(&()).ok()?).to_string();
    let stated = golden.digest().is_some_and(|stated| stated.eq_ignore_ascii_case(&digest));
    stated.then_some(parameters)
}
