//! Whether what a model computes fits into f16.

use deberta_reference::{Module, Stage, locate};

use super::numbers::grouped;

/// The largest number of f16.
const LARGEST: f32 = 65_504.0;

/// What there is to say about activations, given their largest magnitudes in the order of execution, if any of them is
/// beyond the range of f16.
///
/// Whether a framework overflows depends on more than the result: transformers' classes for versions 2 and 3 divide the
/// position terms by the scale after the product, so that the products overflow earlier than the scores.
pub(crate) fn beyond_f16(magnitudes: &[(String, f32)]) -> Option<String> {
    let beyond: Vec<&(String, f32)> =
        magnitudes.iter().filter(|(_, magnitude)| *magnitude > LARGEST && magnitude.is_finite()).collect();
    let (name, magnitude) = beyond.iter().max_by(|one, other| one.1.total_cmp(&other.1))?;
    let (what, place) = match locate(name) {
        Some((stage, module)) => (kind(module), format!("{} ({name})", in_words(stage))),
        None => ("activations", name.clone()),
    };
    let others = match beyond.as_slice() {
        [(first, _), _, ..] => format!("; {} points do, the first is {first}", beyond.len()),
        _ => String::new(),
    };
    let (magnitude, largest) = (rounded(*magnitude), rounded(LARGEST));
    Some(format!(
        "{what} reach {magnitude} in {place}, above {largest}, the largest number of f16: this model overflows in fp16{others}"
    ))
}

fn kind(module: Module) -> &'static str {
    use Module::{C2c, C2p, HeadLogitsProj, P2c, Scores};
    match module {
        C2c | C2p | P2c | Scores | HeadLogitsProj => "attention scores",
        _ => "activations",
    }
}

fn in_words(stage: Stage) -> String {
    match stage {
        Stage::Head => "the head".to_owned(),
        Stage::Embeddings => "the embeddings".to_owned(),
        other => other.to_string(),
    }
}

/// `81,920`; of a very large number its power of ten: `3.40e38`.
fn rounded(magnitude: f32) -> String {
    if magnitude < 1e12 { grouped(magnitude.ceil() as usize) } else { format!("{magnitude:.2e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(magnitudes: &[(&str, f32)]) -> Option<String> {
        let named: Vec<(String, f32)> =
            magnitudes.iter().map(|(name, magnitude)| ((*name).to_owned(), *magnitude)).collect();
        beyond_f16(&named)
    }

    #[test]
    fn the_largest_number_is_named_with_its_place() {
        let scores = "deberta.encoder.layer.7.attention.self.scores";
        assert_eq!(said(&[(scores, 65_504.0), ("pooler", f32::NAN), ("classifier", f32::INFINITY)]), None);
        assert_eq!(
            said(&[("embeddings", 3.0), (scores, 81_919.5)]).unwrap(),
            "attention scores reach 81,920 in layer 7 (deberta.encoder.layer.7.attention.self.scores), above 65,504, \
             the largest number of f16: this model overflows in fp16"
        );
        let several =
            said(&[("encoder.layer.0.output.dense", 7e4), (scores, 8e4), ("pooler.dense", 2e20)]).unwrap();
        assert!(
            several.starts_with("activations reach 2.00e20 in the head (pooler.dense), above "),
            "{several}"
        );
        assert!(several.ends_with("; 3 points do, the first is encoder.layer.0.output.dense"), "{several}");
    }
}
