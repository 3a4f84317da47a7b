//! Heads, layers and rows that change places.

use deberta_reference::{Module, Part, Role};

use super::{Random, RandomFault};
use crate::fault::{Change, Setting};

impl Random<'_> {
    /// Heads in another order in some of what is made of them.
    pub(super) fn heads(&mut self) -> Option<RandomFault> {
        let model = self.list.model;
        let (h, d) = (model.config.num_attention_heads, model.config.head_size());
        if h < 2 {
            return None;
        }
        let order = self.dice.order(h);
        let of_heads: Vec<_> = model.of_heads(self.list.layer).collect();
        let is = |parts: &[Part], wanted: &[Part]| parts.iter().all(|part| wanted.contains(part));
        let tokens = [Part::Query, Part::Key, Part::Value];
        let (name, wanted, biases): (&str, &[Part], bool) = match self.dice.below(6) {
            0 => ("queries and keys", &[Part::Query, Part::Key], true),
            1 => ("queries, keys and values", &tokens, true),
            2 => ("values", &[Part::Value], true),
            3 => ("queries", &[Part::Query], false),
            4 => ("keys of positions", &[Part::PositionKey], true),
            _ => ("queries, keys and values without their biases", &tokens, false),
        };
        let chosen: Vec<_> = of_heads
            .iter()
            .filter(|(param, parts)| is(parts, wanted) && (biases || param.role != Role::Bias))
            .collect();
        let rows = |parts: usize| {
            order.iter().flat_map(move |head| (0..parts * d).map(move |at| head * parts * d + at)).collect()
        };
        let changes = chosen
            .iter()
            .map(|(param, parts)| Change::Rows { name: param.name.clone(), order: rows(parts.len()) });
        let changes: Vec<Change> = changes.collect();
        let params: Vec<_> = chosen.iter().map(|(param, _)| param).collect();
        let description = format!("heads of {name} of layer {} in the order {order:?}", self.list.layer);
        if params.is_empty() {
            return None;
        }
        self.in_params(&["permuted-heads"], description, &params, changes)
    }

    /// Columns of what takes the heads in another order.
    pub(super) fn columns(&mut self) -> Option<RandomFault> {
        let model = self.list.model;
        let (h, d) = (model.config.num_attention_heads, model.config.head_size());
        let param =
            self.param(|param| param.module == Module::AttentionDense && param.role == Role::LinearWeight)?;
        let heads = self.dice.order(h);
        let order = heads.iter().flat_map(|head| (0..d).map(move |at| head * d + at)).collect();
        let changes = vec![Change::Columns { name: param.name.clone(), order }];
        let description = format!("heads of {} in the order {heads:?}", param.name);
        self.in_params(&["permuted-heads"], description, &[&param], changes)
    }

    /// Layers in another order.
    pub(super) fn layers(&mut self) -> Option<RandomFault> {
        let layers = self.list.model.config.num_hidden_layers;
        if layers < 2 {
            return None;
        }
        let order = self.dice.order(layers);
        let first = order.iter().enumerate().position(|(at, &other)| at != other)?;
        let description = format!("layers in the order {order:?}");
        self.at(&["permuted-layers"], description, self.of_layer(first), vec![Change::Layers(order)])
    }

    /// A layer more or less.
    pub(super) fn other_layers(&mut self) -> Option<RandomFault> {
        let layers = self.list.model.config.num_hidden_layers;
        let (at, from) = (self.dice.below(layers + 1), self.dice.below(layers));
        let mut order: Vec<usize> = (0..layers).collect();
        let (kind, description, at) = if self.dice.chance(2) && layers > 1 {
            let at = at.min(layers - 1);
            order.remove(at);
            ("dropped-layer", format!("layer {at} of {layers} dropped"), at)
        } else {
            order.insert(at, from);
            // The first of two equal layers is where it belongs.
            let at = if at == from { at + 1 } else { at };
            ("inserted-layer", format!("a layer as {from} inserted before {at} of {layers}"), at)
        };
        let mut changes = vec![Change::Layers(order)];
        if kind == "inserted-layer" && self.dice.chance(2) {
            let mut other = self.list.model.with(&changes)?;
            other.config.num_hidden_layers = layers + 1;
            let params = other
                .params()
                .into_iter()
                .filter(|param| param.layer == Some(at) && param.role == Role::LinearWeight);
            changes.extend(params.map(|param| Change::Scale { name: param.name, rows: None, factor: -0.7 }));
        }
        self.at(&[kind], description, self.of_layer(at), changes)
    }

    /// Rows of the relative position table elsewhere.
    pub(super) fn table(&mut self) -> Option<RandomFault> {
        let param = self.param(|param| param.role == Role::RelativeEmbedding)?;
        if !self.list.model.config.c2p() && !self.list.model.config.p2c() {
            return None;
        }
        let rows = param.shape.first().copied()?;
        let (kind, how, order): (_, _, Vec<usize>) = match self.dice.below(5) {
            0 => ("permuted-rows", "shifted by one row", (0..rows).map(|row| (row + 1) % rows).collect()),
            1 => (
                "permuted-rows",
                "shifted back by one row",
                (0..rows).map(|row| (row + rows - 1) % rows).collect(),
            ),
            2 => (
                "permuted-rows",
                "its halves exchanged",
                (0..rows).map(|row| (row + rows / 2) % rows).collect(),
            ),
            3 => ("reversed-positions", "upside down", (0..rows).rev().collect()),
            _ => ("permuted-rows", "in some order", self.dice.order(rows)),
        };
        let changes = vec![Change::Rows { name: param.name.clone(), order }];
        self.in_params(&[kind], format!("the relative position table: {how}"), &[&param], changes)
    }

    /// Rows of the words elsewhere.
    pub(super) fn words(&mut self) -> Option<RandomFault> {
        let param = self.param(|param| param.role == Role::WordEmbedding)?;
        self.inputs.input_ids.as_ref()?;
        let rows = param.shape.first().copied()?;
        let (how, order): (_, Vec<usize>) = match self.dice.below(4) {
            0 => {
                let at = self.dice.below(rows);
                let order = (0..rows).map(|row| if row > at { row - 1 } else { row }).collect();
                (format!("one inserted after {at}"), order)
            }
            1 => {
                let at = self.dice.below(rows);
                let order =
                    (0..rows).map(|row| if row >= at { (row + 1).min(rows - 1) } else { row }).collect();
                (format!("{at} left out"), order)
            }
            2 => {
                let by = 1 + self.dice.below(rows - 1);
                (format!("shifted by {by}"), (0..rows).map(|row| (row + by) % rows).collect())
            }
            _ => ("in some order".to_owned(), self.dice.order(rows)),
        };
        let changes = vec![Change::Rows { name: param.name.clone(), order }];
        self.in_params(&["wrong-token-ids"], format!("rows of the words: {how}"), &[&param], changes)
    }

    /// The first points of a layer; of one behind the last, which a golden of fewer has no point of, none.
    fn of_layer(&self, layer: usize) -> Vec<String> {
        let model = self.list.model;
        if layer >= model.config.num_hidden_layers {
            return Vec::new();
        }
        [Part::Query, Part::Key, Part::Value].map(|part| model.path(model.projection(part), layer)).into()
    }

    /// A line of the configuration and, in one of two, the parameters gone that it does not ask for.
    pub(super) fn setting(&mut self) -> Option<RandomFault> {
        let (kinds, settings, places) = self.edit()?;
        let mut changes: Vec<Change> = settings.iter().cloned().map(Change::Config).collect();
        let lines: Vec<String> = settings.iter().map(Setting::line).collect();
        let gone = self.dice.chance(2);
        if gone {
            changes.push(Change::Forget);
        }
        let description =
            format!("{}{}", lines.join(", "), if gone { ", and what it does not ask for gone" } else { "" });
        self.at(&kinds, description, places, changes)
    }
}
