//! Causes in the relative positions and the terms of the scores.

use deberta_reference::{Module, Part, Stage};

use super::known::negated;
use super::{Search, parameters, setting};
use crate::diagnose::Hypothesis;
use crate::diagnose::attention::query_bias;
use crate::fault::{Change, Setting};
use crate::trace::points::Point;

impl Search<'_> {
    /// Other relative distances than the golden's.
    pub(super) fn distances(&self, point: &Point) -> Vec<Hypothesis> {
        let path = point.name.as_str();
        let name = self.model.weight(Module::RelEmbeddings, 0);
        let Some(&[rows, width]) = self.model.shape(&name).filter(|shape| !shape.contains(&0)) else {
            return Vec::new();
        };
        let h = self.model.config.num_attention_heads;
        let mut found = Vec::new();
        let of_heads = |span: usize| if span == h { ": the number of heads, taken for a length" } else { "" };
        let span_of = |shape: &[usize]| shape.iter().rev().nth(1).map(|rows| rows / 2);
        let bucketed = self.model.config.position_buckets.is_some();
        let key = if bucketed { "position_buckets" } else { "max_relative_positions" };
        let want = self.section.want(path);
        let got = want.and_then(|want| self.free.get(&want.name));
        if let (Some(want), Some(got)) =
            (want.and_then(|want| span_of(&want.shape)), got.and_then(|got| span_of(&got.shape)))
        {
            if want > got {
                found.push(Hypothesis::new(
                    "span",
                    format!(
                        "the model knows relative distances up to {got}, the golden up to {want} or more{}",
                        of_heads(got)
                    ),
                    format!("correct {key}, and take all rows of rel_embeddings from the original model"),
                ));
            } else if want < got {
                let order = (rows / 2 - want.min(rows / 2)..rows / 2 + want.min(rows / 2)).collect();
                let change = Change::Rows { name: name.clone(), order };
                let setting =
                    if bucketed { Setting::Buckets(Some(want)) } else { Setting::MaxRelative(want) };
                found.push(
                    Hypothesis::new(
                        "span",
                        format!(
                            "the golden knows relative distances up to {want}, the model up to {got}{}",
                            of_heads(want)
                        ),
                        format!("{}, if the golden is right", setting.line()),
                    )
                    .undone_by([change, Change::Config(setting)]),
                );
            }
        }
        let reversed: Vec<usize> = (0..rows).rev().collect();
        let shifted = (0..rows).map(|row| (rows - row).min(rows - 1)).collect();
        for order in [reversed, shifted] {
            found.push(
                Hypothesis::new(
                    "reversed-positions",
                    "relative distances are j - i for i - j: the table is upside down",
                    "reverse the rows of rel_embeddings",
                )
                .undone_by([Change::Rows { name: name.clone(), order }]),
            );
        }
        // A golden of few tokens has some rows alone, so that it does not show where the others went.
        for (by, how) in [(1, "by one row"), (rows - 1, "by one row"), (rows / 2, "by half of it")] {
            let order = (0..rows).map(|row| (row + by) % rows).collect();
            let cause = format!("the rows of {name} are shifted {how}");
            let hypothesis = Hypothesis::new("permuted-rows", cause, "restore it from the original model");
            found.push(hypothesis.undone_by([Change::Rows { name: name.clone(), order }]));
        }
        found.extend(self.moved_rows(point, &name));
        if point.module == Module::TableLayerNorm {
            return found;
        }
        // A single row of the table: its projection differs in one row.
        if let Some(pair) = self.section.pair(self.isolated, path) {
            let differing: Vec<usize> = pair
                .want
                .chunks_exact(pair.width)
                .zip(pair.got.chunks_exact(pair.width))
                .enumerate()
                .filter(|(_, (want, got))| {
                    want.iter().zip(*got).any(|(&want, &got)| !pair.allowed.allows(want, got))
                })
                .map(|(row, _)| row)
                .collect();
            let (weight, _) = parameters(self.model, point);
            if let ([row], Some(kernel)) = (differing.as_slice(), self.model.values(&weight)) {
                let at = |values: &[f32]| {
                    values.get(row * pair.width..(row + 1) * pair.width).map(<[f32]>::to_vec)
                };
                let (want, got) = (at(pair.want).unwrap_or_default(), at(pair.got).unwrap_or_default());
                let table_row = rows / 2 + row - pair.want.len() / pair.width / 2;
                for column in 0..width {
                    let k = || kernel.iter().skip(column).step_by(width).map(|&k| f64::from(k));
                    let off = || want.iter().zip(&got).map(|(&want, &got)| f64::from(want) - f64::from(got));
                    let energy: f64 = k().map(|k| k * k).sum();
                    let slope =
                        k().zip(off()).map(|(k, off)| k * off).sum::<f64>() / energy.max(f64::MIN_POSITIVE);
                    let explained = k().zip(off()).zip(&want).all(|((k, off), &want)| {
                        (off - slope * k).abs() <= 2.0 * pair.allowed.allowance(want)
                    });
                    if explained {
                        let changed = Hypothesis::changed_number(
                            &name,
                            table_row * width + column,
                            &[rows, width],
                            slope,
                        );
                        found.push(changed.because(format!("only row {row} of {path} differs")));
                    }
                }
            }
        }
        found
    }

    /// What goes wrong between the projections and the context.
    pub(super) fn scores(&self) -> Vec<Hypothesis> {
        let model = self.model;
        let mut found = Vec::new();
        let layer = match self.section.stage {
            Some(Stage::Layer(layer)) => layer,
            _ => 0,
        };
        // The configuration as it is written is suspected before the weights.
        found.extend(self.terms());
        found.extend(query_bias(model, self.section, self.free, layer).into_iter().flatten());
        // Where the golden does not show the queries, they are suspected before the formula.
        found.extend(self.scales(layer));
        found.extend(self.formulas());
        found.extend(self.unseen().flat_map(|point| self.usual(point)));
        let norm = model.path(Module::TableLayerNorm, 0);
        if model.table_point() == Module::TableLayerNorm && self.section.table(&norm).is_none() {
            found.extend(self.swapped_gamma_beta(&norm));
        }
        let biases = [Part::Query, Part::Value].map(|part| model.bias_of(part, layer));
        found.extend(biases.iter().flatten().map(|bias| negated(bias)));
        if let [Some(query), Some(value)] = biases {
            let cause = format!("{query} and {value} are exchanged");
            let hypothesis = Hypothesis::new("misplaced-parameter", cause, "exchange them");
            found.push(hypothesis.undone_by([Change::Swap(query, value)]));
        }
        for (part, kind) in [(Part::Query, "dropped-q-bias"), (Part::Value, "dropped-v-bias")] {
            let Some(name) = model.bias_of(part, layer) else { continue };
            if model.is_zero(&name) {
                let cause = format!("{name} is all zero: it may have been dropped");
                found.push(Hypothesis::new(kind, cause, "convert the original model again, with this bias"));
            }
        }
        found
    }

    /// The projections that the scores and the context depend on, and that the golden does not show: they come before the
    /// first point that agrees.
    pub(super) fn unseen(&self) -> impl Iterator<Item = &Point> {
        use Module::{PosKeyProj, PosProj, PosQProj, PosQueryProj, ValueProj};
        self.section.points().iter().filter(|point| {
            let projects = matches!(point.module, PosProj | PosQProj | PosKeyProj | PosQueryProj | ValueProj);
            projects && self.section.want(&point.name).is_none()
        })
    }

    /// The position terms that the configuration has, where it says that none are computed.
    pub(super) fn relative_attention(&self) -> Option<Hypothesis> {
        let config = &self.model.config;
        let terms = !config.relative_attention && config.scale_terms() > 1;
        terms
            .then(|| setting("relative-attention", Setting::Relative(true), &Setting::Relative(false).line()))
    }

    /// Other position terms.
    pub(super) fn terms(&self) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let mut found = Vec::new();
        let own = format!("pos_att_type {:?}", config.pos_att_type.join("|"));
        found.extend(self.relative_attention());
        for terms in [&["c2p", "p2c"][..], &["c2p"], &["p2c"], &[]] {
            let terms: Vec<String> = terms.iter().map(|&term| term.to_owned()).collect();
            let mut other = config.clone();
            other.pos_att_type.clone_from(&terms);
            let same = (other.c2p(), other.p2c(), other.scale_terms())
                == (config.c2p(), config.p2c(), config.scale_terms());
            if terms != config.pos_att_type && (!same || config.has_in_proj()) {
                let relative = config.relative_attention || !terms.is_empty();
                if !config.relative_attention {
                    // Terms that only scale.
                    found.push(setting("pos-att-type", Setting::Terms(terms.clone()), &own));
                }
                found.push(
                    setting("pos-att-type", Setting::Terms(terms.clone()), &own)
                        .undone_by([Setting::Terms(terms), Setting::Relative(relative)].map(Change::Config)),
                );
            }
        }
        let mut more = config.pos_att_type.clone();
        more.push("p2p".to_owned());
        let mut other = config.clone();
        other.pos_att_type.clone_from(&more);
        if other.scale_terms() != config.scale_terms() {
            found.push(setting("pos-att-type", Setting::Terms(more), &own));
        }
        found
    }
}
