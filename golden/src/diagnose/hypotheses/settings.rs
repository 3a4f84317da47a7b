//! Lines of the configuration that version 2 alone has: buckets, the table's normalisation, shared projections, the
//! convolution.

use std::collections::BTreeSet;

use deberta_reference::config::Activation;
use deberta_reference::{ConvConfig, Module, Part};

use super::formulas::of_convolution;
use super::{Search, setting};
use crate::diagnose::Hypothesis;
use crate::fault::{Change, Model, RowRule, RowsOfTerms, Setting, other_activations, rows_of_terms};
use crate::trace::inputs::dims;

/// Largest distances that models have.
const USUAL_DISTANCES: [usize; 6] = [512, 256, 128, 1024, 64, 32];
/// The most buckets that are tried.
const MOST_BUCKETS: usize = 24;

impl Search<'_> {
    /// The table with or without its normalisation.
    pub(super) fn norm_of_table(&self) -> Option<Hypothesis> {
        let (model, config) = (self.model, &self.model.config);
        let normed = config.norm_rel_ebd;
        let there = normed || model.shape(&model.weight(Module::TableLayerNorm, 0)).is_some();
        let possible = there && config.relative_attention && !config.has_in_proj();
        let own = Setting::NormTable(normed).line();
        possible.then(|| setting("norm-rel-ebd", Setting::NormTable(!normed), &own))
    }

    /// Other buckets of as many rows, as far as the tokens show them, with the rows that they look up.
    pub(super) fn buckets(&self) -> Vec<(RowsOfTerms, Hypothesis)> {
        let (model, config) = (self.model, &self.model.config);
        if config.has_in_proj() || !config.relative_attention {
            return Vec::new();
        }
        let n = dims(self.divergence.inputs).map_or(1, |(_, n)| n);
        let (span, max) = (config.distances().span(), config.max_relative());
        let mut largest = vec![config.max_position_embeddings, max];
        largest.extend(USUAL_DISTANCES);
        largest.extend([2 * span, 4 * span, 2 * max, max / 2, 4 * max]);
        if config.position_buckets.is_none() {
            largest.extend(span / 2 + 2..4 * span);
        }
        let mut tried = BTreeSet::new();
        largest.retain(|&max| tried.insert(max));
        let mut ways: Vec<(Option<usize>, usize)> = vec![(None, span)];
        ways.extend(largest.into_iter().map(|max| (Some(span), max)));
        let own_line = |buckets, max| {
            let lines = [Setting::Buckets(buckets).line(), Setting::MaxRelative(max).line()];
            lines.join(", ")
        };
        let own = own_line(config.position_buckets, max);
        let rows_of = |model: &Model| rows_of_terms(model, [RowRule::Right; 2], n);
        let own_rows = rows_of(model);
        // Of the lines that look up the same rows, the first is tested.
        let mut found: Vec<(RowsOfTerms, [Change; 2], Vec<String>)> = Vec::new();
        for (buckets, max) in ways {
            let changes = [Setting::Buckets(buckets), Setting::MaxRelative(max)].map(Change::Config);
            let Some(other) = model.with(&changes) else { continue };
            let (rows, line) = (rows_of(&other), own_line(buckets, max));
            let full = found.len() == MOST_BUCKETS;
            match found.iter_mut().find(|(known, ..)| *known == rows) {
                Some((.., lines)) => lines.push(line),
                None if full || rows == own_rows => {}
                None => found.push((rows, changes, vec![line])),
            }
        }
        let hypothesis = |changes: [Change; 2], lines: &[String]| {
            let (line, others) = lines.split_first()?;
            let same = same_for(n, others);
            let cause = format!("the configuration has {own}; the golden was computed with {line}{same}");
            Some(Hypothesis::new("position-buckets", cause, line).undone_by(changes))
        };
        found
            .into_iter()
            .filter_map(|(rows, changes, lines)| Some((rows, hypothesis(changes, &lines)?)))
            .collect()
    }

    /// Projections of positions that are those of the tokens, or are not.
    pub(super) fn sharing(&self) -> Option<Hypothesis> {
        let (model, config) = (self.model, &self.model.config);
        let share = config.share_att_key;
        let there = |part| model.shape(&model.weight(model.projection(part), 0)).is_some();
        let terms = [(config.c2p(), Part::PositionKey), (config.p2c(), Part::PositionQuery)];
        let own_there = terms.into_iter().all(|(on, part)| !on || there(part));
        let possible = !config.has_in_proj() && (!share || own_there);
        let own = Setting::ShareKeys(share).line();
        possible.then(|| setting("share-att-key", Setting::ShareKeys(!share), &own))
    }

    /// The convolution: none, or another activation.
    pub(super) fn settings_of_convolution(&self) -> Vec<Hypothesis> {
        let model = self.model;
        let Some(config) = model.config.convolution else {
            let acts = [Activation::Gelu, Activation::Tanh, Activation::GeluTanh, Activation::Relu];
            let Some(&[out, input, kernel]) = model.shape(&model.weight(Module::Conv, 0)) else {
                return Vec::new();
            };
            let groups = out / input.max(1);
            let own = Setting::Convolution(None).line();
            let with = |act| Setting::Convolution(Some(ConvConfig { kernel, groups, act }));
            return acts.into_iter().map(|act| setting("convolution", with(act), &own)).collect();
        };
        let own = Setting::ConvAct(config.act).line();
        let acts = other_activations(config.act).into_iter();
        let mut found: Vec<Hypothesis> =
            acts.map(|act| setting("conv-act", Setting::ConvAct(act), &own)).collect();
        let own = Setting::Convolution(Some(config)).line();
        found.push(setting("convolution", Setting::Convolution(None), &own));
        found.extend(of_convolution(model));
        found
    }
}

/// The lines that look up the same rows as another one for n tokens, in words: three of them at most by name.
fn same_for(n: usize, lines: &[String]) -> String {
    let named = lines.get(..3).unwrap_or(lines);
    if named.is_empty() {
        return String::new();
    }
    let more = match lines.len() - named.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("; the same for {n} tokens: {}{more}", named.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_lines_of_many_are_named() {
        let lines: Vec<String> = (1..=43).map(|line| format!("line {line}")).collect();
        assert_eq!(same_for(9, &[]), "");
        assert_eq!(same_for(9, &lines[..1]), "; the same for 9 tokens: line 1");
        assert_eq!(same_for(9, &lines), "; the same for 9 tokens: line 1 or line 2 or line 3, and 40 more");
    }
}
