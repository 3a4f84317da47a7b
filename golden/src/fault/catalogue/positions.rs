//! What goes wrong with relative positions: their terms, their table, their buckets, their projections.

use deberta_reference::{Inputs, Module, Part};

use super::{List, Noise, scores_of};
use crate::fault::{Change, RowRule, Setting};
use crate::trace::inputs::dims;

impl List<'_> {
    pub(super) fn positions(&mut self, inputs: &Inputs) {
        let config = &self.model.config;
        let (c2p, p2c) = (config.c2p(), config.p2c());
        for (term, on, part) in [("c2p", c2p, Part::PositionKey), ("p2c", p2c, Part::PositionQuery)] {
            if on {
                self.term(term, part);
            } else {
                self.absent("pos-att-type", format!("the model has no {term} term"));
            }
        }
        self.unknown_term();
        if !c2p && !p2c {
            for kind in [
                "span",
                "reversed-positions",
                "permuted-rows",
                "position-buckets",
                "norm-rel-ebd",
                "share-att-key",
            ] {
                self.absent(kind, "the model has no relative positions");
            }
            return;
        }
        self.table();
        if self.model.config.position_buckets.is_some() {
            self.buckets(inputs);
        } else {
            self.absent("position-buckets", "the model has no buckets");
        }
        if self.model.config.has_in_proj() {
            self.absent("share-att-key", "positions have projections of their own in version 1");
        } else {
            self.sharing();
        }
    }

    /// A position term that is not computed, or whose projection is lost.
    fn term(&mut self, term: &str, part: Part) {
        let config = &self.model.config;
        let terms = config.pos_att_type.iter().filter(|known| *known != term).cloned().collect();
        let proj = self.model.projection(part);
        self.set("pos-att-type", format!("pos_att_type without {term}"), proj, Setting::Terms(terms));
        if self.model.projecting(part) != proj {
            return; // The tokens share it.
        }
        let weight = self.model.weight(proj, self.layer);
        let description = format!("{weight} all zero: no {term} term");
        let changes = vec![Change::Fill(weight, 0.0)];
        self.add("zero-parameter", description, vec![self.here(proj)], changes);
    }

    fn unknown_term(&mut self) {
        let mut terms = self.model.config.pos_att_type.clone();
        terms.push("p2p".to_owned());
        let mut other = self.model.config.clone();
        other.pos_att_type.clone_from(&terms);
        if other.scale_terms() == self.model.config.scale_terms() {
            self.absent("pos-att-type", "an unknown term does not count in the scale of version 2");
            return;
        }
        let changes = vec![Change::Config(Setting::Terms(terms))];
        self.add(
            "pos-att-type",
            "pos_att_type with an unknown term, which counts in the scale",
            scores_of(self.model, 0),
            changes,
        );
    }

    /// Another span of the table, its rows upside down, its normalisation.
    fn table(&mut self) {
        let config = &self.model.config;
        let table = self.model.weight(Module::RelEmbeddings, 0);
        let place = self.table_places();
        let (heads, span) = (config.num_attention_heads, config.distances().span());
        let (normed, bucketed) = (config.norm_rel_ebd, config.position_buckets.is_some());
        let mut others = vec![(heads, "the number of heads")];
        if span / 2 == heads {
            self.absent("span", format!("half of the table's span {span} is the number of heads"));
        } else {
            others.push((span / 2, "half of it"));
        }
        for (other, what) in others {
            if other < 2 {
                self.absent("span", format!("{what}, {other}, is no span: two is the least"));
                continue;
            }
            if other >= span {
                self.absent("span", format!("the table's span {span} is not more than {what}, {other}"));
                continue;
            }
            let order = (span - other..span + other).collect();
            let setting = if bucketed { Setting::Buckets(Some(other)) } else { Setting::MaxRelative(other) };
            let changes = vec![Change::Rows { name: table.clone(), order }, Change::Config(setting)];
            let key = if bucketed { "buckets" } else { "relative distances up to" };
            let description = format!("{key} {other}, {what}, instead of {span}");
            self.add("span", description, place.clone(), changes);
        }
        let order = (0..2 * span).rev().collect();
        let changes = vec![Change::Rows { name: table.clone(), order }];
        self.add("reversed-positions", "distances j - i for i - j", place.clone(), changes);
        let order = (0..2 * span).map(|row| (row + 1) % (2 * span)).collect();
        let changes = vec![Change::Rows { name: table.clone(), order }];
        self.add("permuted-rows", "the relative position table shifted by one row", place.clone(), changes);
        let order = (0..2 * span).map(|row| (row + span) % (2 * span)).collect();
        let changes = vec![Change::Rows { name: table.clone(), order }];
        self.add(
            "permuted-rows",
            "the halves of the relative position table exchanged",
            place.clone(),
            changes,
        );
        let negate = vec![Change::Scale { name: table, rows: None, factor: -1.0 }];
        self.add(
            "negated-parameter",
            "the relative position table with the other sign",
            place.clone(),
            negate,
        );
        if normed {
            let changes = vec![Change::Config(Setting::NormTable(false))];
            self.add("norm-rel-ebd", "the relative position table is not normalised", place, changes);
        } else {
            self.absent("norm-rel-ebd", "the relative position table is not normalised");
        }
    }

    /// No buckets, or another largest distance.
    fn buckets(&mut self, inputs: &Inputs) {
        let n = dims(inputs).map_or(1, |(_, n)| n);
        let (model, place) = (self.model, scores_of(self.model, 0));
        let own = RowRule::Right.rows(model, n);
        let (span, max) = (model.config.distances().span(), model.config.max_relative());
        let none = vec![Change::Config(Setting::Buckets(None)), Change::Config(Setting::MaxRelative(span))];
        let seen = |changes: &[Change]| {
            model.with(changes).is_some_and(|other| RowRule::Right.rows(&other, n) != own)
        };
        if seen(&none) {
            self.add("position-buckets", "distances not sorted into buckets", place.clone(), none);
        } else {
            self.absent("position-buckets", format!("no two of {n} tokens are so far apart"));
        }
        let others = [2 * max, max / 2, 4 * max]
            .map(|other| (other, vec![Change::Config(Setting::MaxRelative(other))]));
        match others.into_iter().find(|(_, changes)| seen(changes)) {
            Some((other, changes)) => {
                let description = format!("max_relative_positions {other} for {max}");
                self.add("position-buckets", description, place, changes);
            }
            None => self.absent("position-buckets", format!("{n} tokens do not show max_relative_positions")),
        }
    }

    /// Projections of positions that are shared with those of tokens, or not, in all layers.
    fn sharing(&mut self) {
        let config = self.model.config.clone();
        let parts = [(config.c2p(), Part::PositionKey), (config.p2c(), Part::PositionQuery)];
        let parts: Vec<Part> = parts.into_iter().filter(|(on, _)| *on).map(|(_, part)| part).collect();
        let mut changes = vec![Change::Config(Setting::ShareKeys(!config.share_att_key))];
        if config.share_att_key {
            let mut noise = Noise(11);
            let places =
                (0..config.num_hidden_layers).flat_map(|layer| parts.iter().map(move |&part| (layer, part)));
            for (layer, part) in places {
                let path = self.model.path(self.model.projection(part), layer);
                let shape = vec![config.hidden_size, config.hidden_size];
                let values = self.untrained(&mut noise, &shape);
                changes.push(Change::Insert { name: format!("{path}.weight"), shape, values });
                let (shape, values) = (vec![config.hidden_size], vec![0.0; config.hidden_size]);
                changes.push(Change::Insert { name: format!("{path}.bias"), shape, values });
            }
        }
        let description = match config.share_att_key {
            true => "positions have projections of their own, which are as before training",
            false => "positions share the projections of tokens",
        };
        let place = self.table_places();
        self.add("share-att-key", description, place, changes);
    }
}
