//! Goldens of samples, as recorders make them of large models: what they show of a fault that no whole golden shows where it is.

use std::borrow::Cow;

use deberta_converters::error::Result;
use deberta_reference::{Inputs, MaskedRows};

use super::{Injected, Subject, in_place, of_class, seen};
use crate::fault::{Culprit, Fault, Model};
use crate::trace::class::Class;
use crate::trace::file::{Recorded, Trace, TraceFile};
use crate::trace::padding::Padding;
use crate::trace::points::rank;
use crate::trace::sampling::sampled;

/// A golden that has samples and statistics of its points.
pub struct SampledGolden {
    /// What reports call it.
    pub name: String,
    /// The samples.
    pub file: TraceFile,
    /// The inputs; hidden states and attentions are asked for.
    pub inputs: Inputs,
    /// The class that is run.
    pub class: Class,
    /// What becomes of attention rows whose every key is masked.
    pub masked_rows: MaskedRows,
}

/// Where a fault was seen first.
pub(super) struct Sighting<'g> {
    pub(super) point: String,
    /// Whether that is where the fault is, as far as the golden has points.
    pub(super) in_place: bool,
    /// The golden, if it is one of samples.
    pub(super) golden: Option<&'g SampledGolden>,
}

impl SampledGolden {
    /// A model as what the golden is of.
    pub(super) fn of_class(&self, model: &Model) -> Model {
        of_class(model, self.class, self.masked_rows)
    }

    /// What a model computes of what the golden has, all numbers of it.
    fn run(&self, model: &Model) -> Result<Trace> {
        let points: Vec<&str> =
            self.file.names().filter_map(|name| name.strip_prefix("activations.")).collect();
        self.of_class(model).run(&self.inputs, &points, Vec::new())
    }

    /// All numbers of a model.
    pub(super) fn whole(&self, model: &Model) -> Result<Trace> {
        self.of_class(model).run(&self.inputs, &["*"], Vec::new())
    }

    /// A model and what it is compared with, all numbers of it, one of which has a fault.
    pub(super) fn injected(&self, fault: &Fault, good: &Model, faulty: &Model) -> Result<Injected<'_>> {
        let (model, golden) = if fault.of == Culprit::Model { (faulty, good) } else { (good, faulty) };
        let trace = Cow::Owned(self.whole(golden)?);
        Ok(Injected { model: self.of_class(model), trace, inputs: &self.inputs })
    }
}

impl Subject {
    /// The first point of a golden of samples where a model differs.
    pub(super) fn first_in(&self, golden: &SampledGolden, model: &Model) -> Result<Option<String>> {
        let candidate = golden.run(model)?;
        let padding = Padding::of(&golden.inputs, golden.class.head);
        let points = self.comparison(&padding).traces(&golden.file, candidate, None)?;
        Ok(points.into_iter().find(seen).map(|point| point.name))
    }

    /// The first point where the model differs from the samples that a golden would have of another one.
    fn first_of(&self, golden: &SampledGolden, other: &Model) -> Result<Option<String>> {
        let (want, got) = (golden.run(other)?, golden.run(&self.model)?);
        let padding = Padding::of(&golden.inputs, golden.class.head);
        let comparison = self.comparison(&padding);
        let (mut names, _) = golden.file.points();
        names.sort_by_key(|name| (rank(name), *name));
        let differs = |name: &&&str| {
            let want = want.get(name).and_then(|tensor| sampled(tensor, &padding)).map(Recorded::Sampled);
            want.is_some_and(|want| seen(&comparison.judged(&want, got.get(name), None)))
        };
        Ok(names.iter().find(differs).map(|name| (*name).to_owned()))
    }

    /// Where a fault was seen first, if `whole` goldens do not show it where it is.
    pub(super) fn sighted<'g>(
        &'g self,
        fault: &Fault,
        faulty: &Model,
        whole: Option<Sighting<'g>>,
    ) -> Result<Option<Sighting<'g>>> {
        let mut first = whole;
        for golden in &self.sampled {
            if first.as_ref().is_some_and(|sighting| sighting.in_place) {
                break;
            }
            let point = match fault.of {
                Culprit::Model => self.first_in(golden, faulty)?,
                Culprit::Golden => self.first_of(golden, faulty)?,
            };
            let Some(point) = point else { continue };
            let sighting = Sighting {
                in_place: in_place(fault, &point, golden.file.names()),
                point,
                golden: Some(golden),
            };
            let earlier = |known: &Sighting<'_>| rank(&sighting.point) < rank(&known.point);
            if sighting.in_place || first.as_ref().is_none_or(earlier) {
                first = Some(sighting);
            }
        }
        Ok(first)
    }
}
