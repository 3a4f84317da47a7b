//! Numbers of parameters, found by how the golden responds to them.

use std::collections::{BTreeMap, BTreeSet};

use deberta_reference::{Param, Role, Stage};
use ndarray::Array2;

use super::Hidden;
use super::descent::step;
use super::response::{Response, dot};
use crate::diagnose::Hypothesis;
use crate::diagnose::factors::by;
use crate::fault::{Change, dropped};
use crate::trace::inputs::dims;

/// The most numbers of a parameter that are looked at one by one.
const MOST: usize = 1200;
/// How many of the likeliest numbers, and rows, of a parameter are tried.
pub(super) const LIKELIEST: usize = 5;
/// Factors from which others are looked for.
const FACTORS: [f64; 5] = [1.0, 0.5, 2.0, 0.25, 4.0];

impl Hidden<'_, '_> {
    /// Parameters of which numbers are off, or all by one factor: each kind in all parameters before the next.
    pub(in crate::diagnose) fn as_numbers(&self) -> Vec<Hypothesis> {
        let response = Response::of(self);
        let Some(off) = response.off(self.model) else { return Vec::new() };
        let search = Numbers { hidden: self, response: &response, off: &off, rows: response.rows() };
        let mut found = search.factors();
        let vectors = self.params.iter().filter(|param| param.shape.iter().product::<usize>() <= MOST);
        let (mut vectors, mut matrices): (Vec<&Param>, Vec<&Param>) =
            vectors.partition(|param| param.shape.len() == 1);
        vectors.sort_by_key(|param| param.shape.first().copied());
        matrices
            .sort_by_key(|param| (param.role == Role::LinearWeight, param.shape.iter().product::<usize>()));
        for param in vectors {
            found.extend(search.vector(param));
        }
        found.extend(search.rows_read());
        for param in matrices {
            found.extend(search.matrix(param));
        }
        found
    }
}

pub(super) struct Numbers<'n, 'h, 'd> {
    pub(super) hidden: &'n Hidden<'h, 'd>,
    pub(super) response: &'n Response<'n, 'h, 'd>,
    /// How far the numbers of the golden are off.
    pub(super) off: &'n [f64],
    pub(super) rows: Vec<Option<usize>>,
}

impl Numbers<'_, '_, '_> {
    /// Parameters that are a multiple of what they should be, alone and with their biases.
    fn factors(&self) -> Vec<Hypothesis> {
        let model = self.hidden.model;
        let mut sets: Vec<Vec<String>> = Vec::new();
        for param in &self.hidden.params {
            sets.push(vec![param.name.clone()]);
            let bias = format!("{}.bias", param.path());
            if param.name != bias && model.shape(&bias).is_some() {
                sets.push(vec![param.name.clone(), bias]);
            }
        }
        let factor = |names: &Vec<String>| {
            let change = |factor: f64| -> Vec<Change> {
                let scale =
                    |name: &String| Change::Scale { name: name.clone(), rows: None, factor: factor as f32 };
                names.iter().map(scale).collect()
            };
            let size = |factor: f64| {
                let off = self.response.off(&model.with(&change(factor))?)?;
                Some((factor, dot(&off, &off)))
            };
            let starts = FACTORS.iter().filter_map(|&factor| self.hidden.in_time().then(|| size(factor))?);
            let (start, _) = starts.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
            let found = self
                .response
                .descend(vec![start], |unknowns| change(unknowns.first().copied().unwrap_or(1.0)))?;
            let factor = *found.first()?;
            ((factor - 1.0).abs() > 1e-4).then(|| by(&names.join(" and "), factor).undone_by(change(factor)))
        };
        sets.iter().filter_map(factor).collect()
    }

    /// A bias or a normalisation: one number, all of them, and γ with β.
    fn vector(&self, param: &Param) -> Vec<Hypothesis> {
        let (model, name) = (self.hidden.model, param.name.as_str());
        let len = param.shape.first().copied().unwrap_or(0);
        let all: Vec<usize> = (0..len).collect();
        let Some(columns) = self.response.to_numbers(model, self.off, name, &all) else { return Vec::new() };
        let mut found = self.single(param, &all, &columns);
        if let Some(kernel) = self.kernel(param) {
            found.extend(self.linear(&kernel, name, &columns));
        }
        let kind = match param.role {
            Role::Bias | Role::LayerNormShift if model.is_zero(name) => dropped(param.rows),
            Role::Bias => "changed-bias",
            _ => "changed-layer-norm",
        };
        let cause = format!("numbers of {name} are off");
        // Numbers that change nothing here, such as those of a unit that is off, could be any.
        let shown = columns.iter().all(|column| dot(column, column) > 0.0);
        let several = self.several(kind, cause, &[(name, &all)]);
        found.extend(several.map(|hypothesis| if shown { hypothesis } else { hypothesis.says_what(false) }));
        if param.role == Role::LayerNormScale {
            let bias = format!("{}.bias", param.path());
            let cause = format!("γ and β of {}", param.path());
            found.extend(self.several(kind, cause, &[(name, &all), (&bias, &all)]));
        }
        found
    }

    /// Rows of a table that tokens read which differ, and no others: one number, or the row.
    fn rows_read(&self) -> Vec<Hypothesis> {
        let inputs = self.hidden.section.inputs();
        if self.hidden.section.stage != Some(Stage::Embeddings) {
            return Vec::new();
        }
        let mut differ = BTreeMap::new();
        for (off, token) in self.off.iter().zip(&self.rows) {
            if let Some(token) = *token {
                *differ.entry(token).or_insert(false) |= off.abs() > 1.0;
            }
        }
        let Some((_, n)) = dims(inputs) else { return Vec::new() };
        let read = |ids: Option<&Array2<i64>>, token: usize| {
            ids.and_then(|ids| ids.iter().nth(token).copied()).map(|id| usize::try_from(id).unwrap_or(0))
        };
        let mut found = Vec::new();
        for param in &self.hidden.params {
            let row_of = |token: usize| match param.role {
                Role::WordEmbedding => read(inputs.input_ids.as_ref(), token),
                Role::TokenTypeEmbedding => read(inputs.token_type_ids.as_ref(), token).or(Some(0)),
                Role::PositionEmbedding => {
                    read(inputs.position_ids.as_ref(), token).or(Some(token % n.max(1)))
                }
                _ => None,
            };
            let rows = |differs: bool| -> BTreeSet<usize> {
                differ
                    .iter()
                    .filter(|(_, known)| **known == differs)
                    .filter_map(|(token, _)| row_of(*token))
                    .collect()
            };
            let rows: Vec<usize> = rows(true).difference(&rows(false)).copied().collect();
            // All that differs is read from them, and they are few.
            let all = differ.iter().filter(|(_, differs)| **differs);
            if rows.len() > 2
                || !all.clone().all(|(token, _)| row_of(*token).is_some_and(|row| rows.contains(&row)))
            {
                continue;
            }
            found.extend(rows.iter().flat_map(|&row| self.row_read(param, row)));
        }
        found
    }

    fn row_read(&self, param: &Param, row: usize) -> Vec<Hypothesis> {
        let name = param.name.as_str();
        let width: usize = param.shape.iter().skip(1).product();
        let numbers: Vec<usize> = (row * width..(row + 1) * width).collect();
        let Some(columns) = self.response.to_numbers(self.hidden.model, self.off, name, &numbers) else {
            return Vec::new();
        };
        let mut found = self.single(param, &numbers, &columns);
        found.extend(self.several("changed-rows", format!("row {row} of {name}"), &[(name, &numbers)]));
        found
    }

    /// A matrix that is small enough to look at each number: one number, or one row.
    fn matrix(&self, param: &Param) -> Vec<Hypothesis> {
        let (model, name) = (self.hidden.model, param.name.as_str());
        let width: usize = param.shape.iter().skip(1).product();
        let all: Vec<usize> = (0..param.shape.iter().product()).collect();
        let Some(columns) = self.response.to_numbers(model, self.off, name, &all) else { return Vec::new() };
        let mut found = self.single(param, &all, &columns);
        // The rows that explain most of the difference.
        let gain = |row: &[Vec<f64>]| {
            let moved = step(row, self.off);
            let left = self.off.iter().enumerate().map(|(at, off)| {
                let sum: f64 =
                    row.iter().zip(&moved).filter_map(|(column, by)| Some(column.get(at)? * by)).sum();
                (off + sum) * (off + sum)
            });
            left.sum::<f64>()
        };
        let mut rows: Vec<(usize, f64)> = columns.chunks_exact(width.max(1)).map(gain).enumerate().collect();
        rows.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        let kind = if param.role == Role::LinearWeight { "changed-row" } else { "changed-rows" };
        for (row, _) in rows.into_iter().take(2) {
            let numbers: Vec<usize> = (row * width..(row + 1) * width).collect();
            found.extend(self.several(kind, format!("row {row} of {name}"), &[(name, &numbers)]));
        }
        found
    }

    /// The single numbers that explain most.
    fn single(&self, param: &Param, places: &[usize], columns: &[Vec<f64>]) -> Vec<Hypothesis> {
        let mut gains: Vec<(usize, f64, f64)> = places
            .iter()
            .zip(columns)
            .map(|(&at, column)| {
                let (energy, product) = (dot(column, column), dot(column, self.off));
                (at, -product / energy, product * product / energy)
            })
            .filter(|(.., gain)| gain.is_finite())
            .collect();
        gains.sort_by(|(.., one), (.., other)| other.total_cmp(one));
        gains.truncate(LIKELIEST);
        gains.into_iter().filter_map(|(at, start, _)| self.number(param, at, start)).collect()
    }

    /// One number that explains everything.
    pub(super) fn number(&self, param: &Param, at: usize, start: f64) -> Option<Hypothesis> {
        let name = param.name.as_str();
        let change = |by: f64| vec![Change::Add(name.to_owned(), vec![(at, by as f32)])];
        let of = |unknowns: &[f64]| change(unknowns.first().copied().unwrap_or(0.0));
        let found =
            self.response.descend(vec![start], of).or_else(|| self.response.descend(vec![0.0], of))?;
        let by = *found.first()?;
        let searched = param.shape.iter().product();
        Some(Hypothesis::changed_number(name, at, &param.shape, by).of_many(searched))
    }

    /// Numbers of one parameter or two that explain everything together.
    fn several(&self, kind: &'static str, cause: String, places: &[(&str, &[usize])]) -> Option<Hypothesis> {
        let count: usize = places.iter().map(|(_, at)| at.len()).sum();
        if count > MOST / 4 {
            return None;
        }
        let change = |unknowns: &[f64]| -> Vec<Change> {
            let mut unknowns = unknowns.iter();
            let add = |(name, at): &(&str, &[usize])| {
                let numbers = at.iter().zip(unknowns.by_ref()).map(|(&at, &by)| (at, by as f32));
                Change::Add((*name).to_owned(), numbers.collect())
            };
            places.iter().map(add).collect()
        };
        let found = self.response.descend(vec![0.0; count], change)?;
        let changes = change(&found);
        let proves = matches!(kind, "dropped-bias" | "dropped-q-bias" | "dropped-v-bias");
        let hypothesis = Hypothesis::new(kind, cause, "restore it from the original model");
        Some(hypothesis.undone_by(changes).fitting(count).says_what(proves))
    }
}
