//! What goes wrong with the projections of the attention: the order of heads, the scale, one projection for another.

use deberta_reference::{Module, Param, Part, Role};

use super::List;
use crate::fault::{Change, by_head_to_parts, exchange, inverse, scaled_part, scaled_queries};

impl List<'_> {
    pub(super) fn attention(&mut self) {
        let (h, d) = (self.model.config.num_attention_heads, self.model.config.head_size());
        if h < 2 {
            self.absent("naive-split", "one head: both orders are the same");
            self.absent("permuted-heads", "one head");
        } else {
            self.heads(h, d);
        }
        self.scale(d);
        self.exchanged_projections();
    }

    /// Rows of everything that is made of heads, and the columns of what takes them.
    fn heads(&mut self, h: usize, d: usize) {
        let of_heads: Vec<_> = self.model.of_heads(self.layer).collect();
        if of_heads.iter().all(|(_, parts)| parts.len() < 2) {
            self.absent("naive-split", "queries, keys and values have projections of their own");
        }
        for (param, parts) in of_heads.into_iter().filter(|(param, _)| param.role == Role::LinearWeight) {
            let (weight, place) = (&param.name, self.feel(&param));
            if parts.len() > 1 {
                let by_part = by_head_to_parts(h, parts.len(), d);
                let back = inverse(&by_part);
                for (order, how) in [
                    (by_part, "all q, all k, all v instead of q, k, v per head"),
                    (back, "q, k, v per head twice"),
                ] {
                    let changes = vec![Change::Rows { name: weight.clone(), order }];
                    self.add("naive-split", format!("rows of {weight}: {how}"), place.clone(), changes);
                }
            }
            let block = parts.len() * d;
            let swap = Change::Rows { name: weight.clone(), order: exchange(h * block, block, 0, h - 1) };
            let description = format!("heads 0 and {} of {weight} exchanged", h - 1);
            self.add("permuted-heads", description, place, vec![swap]);
        }
        let dense = self.here(Module::AttentionDense);
        let name = self.model.weight(Module::AttentionDense, self.layer);
        let swap = Change::Columns { name: name.clone(), order: exchange(h * d, d, 0, 1) };
        let places = vec![dense];
        self.add("permuted-heads", format!("heads 0 and 1 of {name} exchanged"), places.clone(), vec![swap]);
        if h > 2 {
            let rotated = Change::Columns {
                name: name.clone(),
                order: (0..h * d).map(|at| (at + d) % (h * d)).collect(),
            };
            self.add("permuted-heads", format!("heads of {name} rotated by one"), places, vec![rotated]);
        }
        self.queries_and_keys(h, d);
    }

    /// Heads of queries and keys in another order, with their biases, and those of values where they were: of projections of
    /// their own.
    fn queries_and_keys(&mut self, h: usize, d: usize) {
        let of_scores = |parts: &[Part]| matches!(parts, [Part::Query | Part::Key]);
        if self.model.config.has_in_proj() {
            return;
        }
        let params = self.model.of_heads(self.layer).filter(|(_, parts)| of_scores(parts));
        let swap =
            |(param, _): (Param, _)| Change::Rows { name: param.name, order: exchange(h * d, d, 0, h - 1) };
        let changes = params.map(swap).collect();
        let place = vec![self.here(self.model.projection(Part::Query))];
        self.add("permuted-heads", "heads of queries and keys exchanged alike", place, changes);
    }

    fn scale(&mut self, d: usize) {
        let terms = self.model.config.scale_terms();
        let places = vec![self.first(self.model.projection(Part::Query))];
        if terms > 1 {
            let changes = self.unscaled((terms as f32).sqrt());
            let description = format!("queries not divided by √{terms}, for the number of position terms");
            self.add("missing-scale", description, places.clone(), changes);
        } else {
            self.absent("missing-scale", "no position term: 1/√(1 + 0) is 1");
        }
        if terms == 2 {
            let changes = self.unscaled(1.5_f32.sqrt());
            let description = "queries divided by √2 where the scores have √3";
            self.add("missing-scale", description, places.clone(), changes);
        }
        if d > 1 {
            let changes = self.unscaled((d as f32).sqrt());
            self.add("missing-scale", format!("queries not divided by √{d}"), places, changes);
        }
        let keys = self.here(self.model.projection(Part::Key));
        let changes = scaled_part(self.model, self.layer, Part::Key, 0.8);
        self.add("scaled-parameter", "keys 0.8 times what they should be", vec![keys], changes);
    }

    /// Scores times a factor, in every layer.
    fn unscaled(&self, factor: f32) -> Vec<Change> {
        (0..self.model.config.num_hidden_layers)
            .flat_map(|layer| scaled_queries(self.model, layer, factor))
            .collect()
    }

    /// Two projections of their own, one in the place of the other.
    fn exchanged_projections(&mut self) {
        let config = &self.model.config;
        if config.has_in_proj() {
            return;
        }
        let mut pairs = vec![[Part::Query, Part::Key], [Part::Key, Part::Value]];
        if config.c2p() && config.p2c() && !config.share_att_key {
            pairs.push([Part::PositionKey, Part::PositionQuery]);
        }
        for pair in pairs {
            let [one, other] = pair.map(|part| self.here(self.model.projection(part)));
            let swap = |word| Change::Swap(format!("{one}.{word}"), format!("{other}.{word}"));
            let changes = ["weight", "bias"].map(swap).to_vec();
            let description = format!("{one} and {other} exchanged");
            self.add("misplaced-parameter", description, vec![one], changes);
        }
    }
}
