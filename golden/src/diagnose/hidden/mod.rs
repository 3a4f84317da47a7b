//! Causes in parameters of which the golden shows no output: what comes of them is all that there is to see.
//!
//! A golden of hidden states has one point a layer. Every parameter of the layer is suspected then: first as a whole (its sign,
//! its place, the order of its heads), then number by number, as the golden responds to them.

use std::time::{Duration, Instant};

use deberta_reference::{Module, Param, Stage};

use super::hypothesis::Hypothesis;
use super::section::Section;
use crate::fault::Model;

mod descent;
mod embedded;
mod linear;
mod numbers;
mod response;
mod whole;

/// The most time that numbers are looked for: in a part of the model, and in all of it, where they are seldom found.
const PATIENCE: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(2)];

/// What is suspected of the first divergence of a section.
pub(super) struct Hidden<'h, 'd> {
    model: &'h Model,
    section: &'h Section<'d>,
    /// The place of the first divergence.
    at: usize,
    /// The parameters that may have caused it.
    params: Vec<Param>,
    until: Instant,
}

impl<'h, 'd> Hidden<'h, 'd> {
    /// The parameters that come between the last state that agrees and the first divergence, and whose own output the golden
    /// does not show to be right.
    pub(super) fn of(model: &'h Model, section: &'h Section<'d>, at: usize) -> Hidden<'h, 'd> {
        let [part, whole] = PATIENCE;
        let start = section.state_before(at);
        let suspected = |param: &Param| {
            let in_stage = match section.stage {
                Some(Stage::Layer(layer)) => {
                    param.layer == Some(layer)
                        || (param.layer.is_none() && Stage::Table.has(param.module))
                        || (layer == 0 && matches!(param.module, Module::Conv | Module::ConvLayerNorm))
                }
                Some(stage) => stage.has(param.module),
                None => true,
            };
            let place = section.place(param.path());
            // The biases of queries and values bear the name of the attention, which comes after the scores.
            let early = matches!(param.module, Module::SelfAttention | Module::RelEmbeddings);
            in_stage
                && model.shape(&param.name).is_some_and(|shape| !shape.contains(&0))
                && place.is_none_or(|place| {
                    start.is_none_or(|start| place > start)
                        && (early || (place <= at && !(place < at && section.shows(place))))
                })
        };
        let params = model.params().into_iter().filter(suspected).collect();
        Hidden {
            model,
            section,
            at,
            params,
            until: Instant::now() + if section.stage.is_some() { part } else { whole },
        }
    }

    fn in_time(&self) -> bool {
        Instant::now() < self.until
    }

    /// Parameters that are wrong as a whole.
    pub(super) fn as_wholes(&self) -> Vec<Hypothesis> {
        let mut found = self.embedded();
        found.extend(self.zeros());
        found.extend(self.signs());
        found.extend(self.exchanged());
        found.extend(self.heads());
        found
    }
}
