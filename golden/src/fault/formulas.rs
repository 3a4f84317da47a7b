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
    /// What should be.
    pub(crate) right: String,
    /// The model that computes it so.
    pub(crate) changes: Vec<Change>,
}

/// The rows of the table for the distances of n tokens, for the c2p and for the p2c term; none where there is no such term.
pub(crate) type RowsOfTerms = [Vec<usize>; 2];

impl Formula {
    fn new(
        kind: &'static str,
        words: impl Into<String>,
        right: impl Into<String>,
        mistake: Mistake,
    ) -> Formula {
        let changes = vec![Change::Mistake(mistake)];
        Formula { kind, words: words.into(), right: right.into(), changes }
    }
}

/// The other scales that scores may have by mistake.
pub(crate) fn scales(model: &Model) -> Vec<Formula> {
    let (terms, d) = (model.config.scale_terms(), model.config.head_size());
    let right = format!("by √({d} · {terms}), the size of a head times 1 + the number of position terms");
    let mut found: Vec<(f64, String)> = Vec::new();
    if terms > 1 {
        found.push(((terms as f64).sqrt(), format!("by √{d}, the size of a head, alone")));
    }
    found.push((1.0 / ((terms * d) as f64).sqrt(), format!("by {terms} · {d}, not by its root")));
    found.push(((d as f64).sqrt(), format!("by √{terms} alone")));
    found.push((((terms * d) as f64).sqrt(), "by nothing".to_owned()));
    for other in (2..=5).filter(|&other| other != terms) {
        let factor = (terms as f64 / other as f64).sqrt();
        found.push((factor, format!("by √({d} · {other}), as if there were {} position terms", other - 1)));
    }
    found.retain(|(factor, _)| (factor - 1.0).abs() > 1e-3);
    let formula = |(factor, how): (f64, String)| {
        Formula::new(
            "missing-scale",
            format!("scores are divided {how}"),
            &*right,
            Mistake::Scale(factor as f32),
        )
    };
    found.into_iter().map(formula).collect()
}

/// The other rows of the table that distances may have, by mistake or by convention, as far as tokens of some inputs show
/// them. Of those with the same rows for these inputs, the first speaks for all.
pub(crate) fn rows(model: &Model, inputs: &Inputs) -> Vec<(RowsOfTerms, Formula)> {
    let n = dims(inputs).map_or(0, |(_, n)| n);
    let both = |rule| Mistake::Rows { c2p: rule, p2c: rule };
    let only_p2c = Mistake::Rows { c2p: RowRule::Right, p2c: RowRule::Mirrored };
    let right = "⌈ln(|i - j| / mid) / ln((M - 1) / mid) (mid - 1)⌉ + mid, and half of the table is added";
    let table = [
        (
            "mirrored-positions",
            "the p2c term looks up j - i, as the paper prints it",
            "i - j, as all code does",
            only_p2c,
        ),
        ("missing-span", "half of the table is not added to buckets", right, both(RowRule::MissingSpan)),
        ("floor-buckets", "the logarithm of buckets is rounded down", right, both(RowRule::Floor)),
        (
            "integer-ratio",
            "(M - 1) / mid of buckets is a division of integers",
            right,
            both(RowRule::IntegerRatio),
        ),
        (
            "far-positions",
            "distances are clamped to ±(M - 1) before they are sorted into buckets",
            "Microsoft's code of 2023 clamps, transformers does not: the table's first row stands for i - j ≤ -M",
            both(RowRule::Clamped),
        ),
        (
            "bucket-rounding",
            "|i - j| / mid is not rounded to f32 before its logarithm",
            "TensorFlow does not round, PyTorch does",
            both(RowRule::TensorFlow),
        ),
        (
            "bucket-rounding",
            "(M - 1) / mid is not rounded to f32 before its logarithm",
            "Microsoft's code does not round, PyTorch does",
            both(RowRule::Microsoft),
        ),
    ];
    let own = rows_of_terms(model, [RowRule::Right; 2], n);
    let mut known: Vec<(RowsOfTerms, Formula)> = Vec::new();
    for (kind, words, right, mistake) in table {
        let Mistake::Rows { c2p, p2c } = mistake else { continue };
        let rows = rows_of_terms(model, [c2p, p2c], n);
        if rows == own {
            continue;
        }
        match known.iter_mut().find(|(other, _)| *other == rows) {
            Some((_, first)) => {
                let alike = format!("; or {words}, which is the same for {n} tokens ({kind})");
                first.words.push_str(&alike);
            }
            None => known.push((rows, Formula::new(kind, words, right, mistake))),
        }
    }
    known
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
        right: "the projections of positions have biases in version 2".to_owned(),
        changes,
    })
}

/// The convolution, computed otherwise; nothing if there is none.
pub(crate) fn convolutions(model: &Model) -> Vec<Formula> {
    if model.config.convolution.is_none() {
        return Vec::new();
    }
    let input = "the convolution is one of the output of layer 0";
    let mask = "the convolution does not look at the mask: rows of padding are not 0 behind it";
    vec![
        Formula::new("convolution-input", input, "it is one of the embeddings", Mistake::ConvolutionInput),
        Formula::new("unmasked-convolution", mask, "they are 0", Mistake::UnmaskedConvolution),
    ]
}
