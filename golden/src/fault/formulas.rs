//! What is computed wrongly between the projections and the context, in words and as changes of a model.

use deberta_reference::{Inputs, Part};

use super::{Change, Mistake, Model, RowRule, Setting};
use crate::trace::inputs::dims;

/// A way in which code computes a formula otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Formula {
    /// A word for programs.
    pub(crate) kind: &'static str,
    /// What is computed, in words.
    pub(crate) words: String,
    /// What should be; nothing for a convention, of which none is right.
    pub(crate) right: Option<String>,
    /// The model that computes it so.
    pub(crate) changes: Vec<Change>,
}

/// The rows of the table for the distances of n tokens, for the c2p and for the p2c term; none where there is no such term.
pub(crate) type RowsOfTerms = [Vec<usize>; 2];

impl Formula {
    fn new(kind: &'static str, words: impl Into<String>, right: Option<&str>, mistake: Mistake) -> Formula {
        let changes = vec![Change::Mistake(mistake)];
        Formula { kind, words: words.into(), right: right.map(str::to_owned), changes }
    }
}

/// The other scales that scores may have by mistake.
pub(crate) fn scales(model: &Model) -> Vec<Formula> {
    let (terms, d) = (model.config.scale_terms(), model.config.head_size());
    let right = format!("by √({d} · {terms}), the size of a head times 1 + the number of position terms");
    let mut ways: Vec<(f64, String)> = Vec::new();
    if terms > 1 {
        ways.push(((terms as f64).sqrt(), format!("by √{d}, the size of a head, alone")));
        ways.push((1.0 / ((terms * d) as f64).sqrt(), format!("by {terms} · {d}, not by its root")));
        ways.push(((d as f64).sqrt(), format!("by √{terms} alone")));
    } else {
        ways.push((1.0 / (d as f64).sqrt(), format!("by {d}, the size of a head, not by its root")));
    }
    ways.push((((terms * d) as f64).sqrt(), "by nothing".to_owned()));
    for other in (2..=5).filter(|&other| other != terms) {
        let factor = (terms as f64 / other as f64).sqrt();
        ways.push((
            factor,
            format!("by √({d} · {other}), as if the number of position terms were {}", other - 1),
        ));
    }
    // One of each factor: with heads of size 1, √d alone is nothing.
    let mut found: Vec<(f64, String)> = Vec::new();
    for (factor, how) in ways {
        let same = |known: f64| (factor / known - 1.0).abs() <= 1e-3;
        if !same(1.0) && !found.iter().any(|&(known, _)| same(known)) {
            found.push((factor, how));
        }
    }
    let formula = |(factor, how): (f64, String)| {
        let words = format!("scores are divided {how}");
        Formula::new("missing-scale", words, Some(&right), Mistake::Scale(factor as f32))
    };
    found.into_iter().map(formula).collect()
}

/// The other rows of the table that distances may have, by mistake or by convention, as far as tokens of some inputs show
/// them. Several formulas may have the same rows for these inputs.
pub(crate) fn rows(model: &Model, inputs: &Inputs) -> Vec<(RowsOfTerms, Formula)> {
    let n = dims(inputs).map_or(0, |(_, n)| n);
    let (sorted, right) = if model.config.position_buckets.is_some() {
        ("buckets", "⌈ln(|i - j| / mid) / ln((M - 1) / mid) (mid - 1)⌉ + mid, and half of the table is added")
    } else {
        ("distances", "i - j from -M to M - 1, and half of the table, M, is added")
    };
    let not_added = format!("half of the table is not added to {sorted}");
    let formulas = [
        (
            "mirrored-positions",
            "the p2c term looks up j - i, as the paper prints it",
            Some("i - j, as all code does"),
            [RowRule::Right, RowRule::Mirrored],
        ),
        ("missing-span", &*not_added, Some(right), [RowRule::MissingSpan; 2]),
        ("floor-buckets", "the logarithm of buckets is rounded down", Some(right), [RowRule::Floor; 2]),
        (
            "integer-ratio",
            "(M - 1) / mid of buckets is a division of integers",
            Some(right),
            [RowRule::IntegerRatio; 2],
        ),
        (
            "far-positions",
            "distances are clamped to ±(M - 1) before they are sorted into buckets, as in Microsoft's code of 2023",
            None,
            [RowRule::Clamped; 2],
        ),
        (
            "far-positions",
            "distances beyond ±(M - 1) are sorted into buckets too, as in transformers: the table's first row stands for \
             i - j ≤ -M",
            None,
            [RowRule::Spilled; 2],
        ),
        (
            "bucket-rounding",
            "|i - j| / mid is not rounded to f32 before its logarithm, as in TensorFlow",
            None,
            [RowRule::TensorFlow; 2],
        ),
        (
            "bucket-rounding",
            "(M - 1) / mid is not rounded to f32 before its logarithm, as in Microsoft's code",
            None,
            [RowRule::Microsoft; 2],
        ),
        (
            "bucket-rounding",
            "|i - j| / mid and (M - 1) / mid are rounded to f32 before their logarithms, as in PyTorch",
            None,
            [RowRule::PyTorch; 2],
        ),
    ];
    let own = rows_of_terms(model, [RowRule::Right; 2], n);
    let formulas = formulas.into_iter().map(|(kind, words, right, [c2p, p2c])| {
        let formula = Formula::new(kind, words, right, Mistake::Rows { c2p, p2c });
        (rows_of_terms(model, [c2p, p2c], n), formula)
    });
    formulas.filter(|(rows, _)| *rows != own).collect()
}

/// The rows that a model looks up for n tokens by a rule for each term.
pub(crate) fn rows_of_terms(model: &Model, [c2p, p2c]: [RowRule; 2], n: usize) -> RowsOfTerms {
    let used = |on: bool, rule: RowRule| if on { rule.rows(model, n) } else { Vec::new() };
    [used(model.config.c2p(), c2p), used(model.config.p2c(), p2c)]
}

/// The projections of relative positions without their biases; nothing if they have none.
pub(crate) fn position_biases_dropped(model: &Model) -> Option<Formula> {
    let config = &model.config;
    let terms = [(config.c2p(), Part::PositionKey), (config.p2c(), Part::PositionQuery)];
    let parts: Vec<Part> = terms.into_iter().filter(|(on, _)| *on).map(|(_, part)| part).collect();
    if config.has_in_proj() || parts.is_empty() {
        return None;
    }
    let mut changes = Vec::new();
    for (layer, part) in
        (0..config.num_hidden_layers).flat_map(|layer| parts.iter().map(move |&part| (layer, part)))
    {
        let [own, source] =
            [model.projection(part), model.projecting(part)].map(|module| model.path(module, layer));
        if config.share_att_key {
            changes.push(Change::Copy { from: format!("{source}.weight"), to: format!("{own}.weight") });
            changes.push(Change::Copy { from: format!("{source}.bias"), to: format!("{own}.bias") });
        }
        changes.push(Change::Fill(format!("{own}.bias"), 0.0));
    }
    changes.push(Change::Config(Setting::ShareKeys(false)));
    Some(Formula {
        kind: "positions-without-bias",
        words: "keys and queries of relative positions have no bias".to_owned(),
        right: Some("the projections of positions have biases in version 2".to_owned()),
        changes,
    })
}

/// The convolution, computed otherwise; nothing if there is none.
pub(crate) fn convolutions(model: &Model) -> Vec<Formula> {
    if model.config.convolution.is_none() {
        return Vec::new();
    }
    let input = "the convolution is one of the output of layer 0";
    let embeddings = Some("a convolution of the embeddings");
    let mask = "the convolution does not look at the mask: rows of padding are not 0 behind it";
    let zero = Some("rows of padding are 0 behind the convolution");
    vec![
        Formula::new("convolution-input", input, embeddings, Mistake::ConvolutionInput),
        Formula::new("unmasked-convolution", mask, zero, Mistake::UnmaskedConvolution),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use deberta_reference::{DebertaConfig, Head, MaskedRows};

    use crate::trace::class::Class;

    fn model(keys: &str) -> Model {
        let json = format!("{{\"model_type\": \"deberta-v2\", \"hidden_size\": 16{keys}}}");
        let config = DebertaConfig::from_json(&json).unwrap();
        let class = Class::of_head(config.family, Head::Base);
        Model::empty(config, class, MaskedRows::Uniform)
    }

    #[test]
    fn scales_without_position_terms_are_those_of_heads() {
        let words = scales(&model(r#", "num_attention_heads": 2"#)).into_iter().map(|formula| formula.words);
        let expected = [
            "scores are divided by 8, the size of a head, not by its root",
            "scores are divided by nothing",
            "scores are divided by √(8 · 2), as if the number of position terms were 1",
        ];
        assert_eq!(words.take(3).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn scales_of_heads_of_one_number_are_all_different() {
        let model = model(
            r#", "num_attention_heads": 16, "relative_attention": true, "pos_att_type": "c2p", "position_buckets": 8"#,
        );
        let factor = |formula: Formula| match formula.changes[..] {
            [Change::Mistake(Mistake::Scale(factor))] => factor,
            _ => panic!("{formula:?}"),
        };
        let factors: Vec<f32> = scales(&model).into_iter().map(factor).collect();
        for (at, one) in factors.iter().enumerate() {
            assert!(
                (one - 1.0).abs() > 1e-3 && factors[at + 1..].iter().all(|other| other != one),
                "{factors:?}"
            );
        }
    }

    #[test]
    fn a_table_without_buckets_is_one_of_distances() {
        let inputs = Inputs { input_ids: Some(ndarray::Array2::zeros((1, 4))), ..Inputs::default() };
        let found = |keys: &str| {
            let keys = format!(
                r#", "num_attention_heads": 2, "relative_attention": true, "pos_att_type": "c2p", "max_relative_positions": 9{keys}"#
            );
            let formulas = rows(&model(&keys), &inputs);
            formulas
                .into_iter()
                .map(|(_, formula)| formula)
                .find(|formula| formula.kind == "missing-span")
                .unwrap()
        };
        assert_eq!(found("").words, "half of the table is not added to distances");
        assert_eq!(found(r#", "position_buckets": 4"#).words, "half of the table is not added to buckets");
    }
}
