//! Numbers of parameters that change.

use deberta_reference::{Module, Param, Role, Rows};

use super::{Random, RandomFault};
use crate::fault::{Change, dropped};

impl Random<'_> {
    /// One number, off by a hundredth to one and a half.
    pub(super) fn number(&mut self) -> Option<RandomFault> {
        let param = self.param(|_| true)?;
        let width = param.shape.iter().skip(1).product::<usize>();
        let at = self.read_row(&param) * width + self.dice.below(width);
        let off =
            10.0_f32.powf(self.dice.number() * 1.1 - 0.9) * if self.dice.chance(2) { 1.0 } else { -1.0 };
        let description = format!("{} {off:+.4} at element {at}", param.name);
        let changes = vec![Change::Add(param.name.clone(), vec![(at, off)])];
        self.in_params(&["changed-weight"], description, &[&param], changes)
    }

    /// All numbers of one row of a linear layer, or of a table.
    pub(super) fn row(&mut self) -> Option<RandomFault> {
        let param = self.param(|param| param.shape.len() == 2)?;
        let (row, width) = (self.read_row(&param), param.shape.last().copied()?);
        let changes = (0..width).map(|at| (row * width + at, 0.4 * self.dice.number())).collect();
        let changes = vec![Change::Add(param.name.clone(), changes)];
        let kinds: &[&str] = match param.role {
            Role::LinearWeight => &["changed-row"],
            _ => &["changed-rows"],
        };
        self.in_params(kinds, format!("row {row} of {} is noise", param.name), &[&param], changes)
    }

    /// All numbers of a bias.
    pub(super) fn bias(&mut self) -> Option<RandomFault> {
        let param =
            self.param(|param| param.role == Role::Bias && param.shape.iter().product::<usize>() > 1)?;
        let changes = vec![Change::Add(param.name.clone(), self.noise(&param, 0.2))];
        self.in_params(&["changed-bias"], format!("{} with noise", param.name), &[&param], changes)
    }

    /// All numbers of a normalisation.
    pub(super) fn norm(&mut self) -> Option<RandomFault> {
        let param = self.param(|param| param.role == Role::LayerNormScale)?;
        let mut changes = vec![Change::Add(param.name.clone(), self.noise(&param, 0.3))];
        if self.dice.chance(2) {
            changes.push(Change::Add(format!("{}.bias", param.path()), self.noise(&param, 0.3)));
        }
        let description = format!("{} with noise", param.path());
        self.in_params(&["changed-layer-norm"], description, &[&param], changes)
    }

    pub(super) fn negated(&mut self) -> Option<RandomFault> {
        let param = self.param(|_| true)?;
        let changes = vec![Change::Scale { name: param.name.clone(), rows: None, factor: -1.0 }];
        self.in_params(
            &["negated-parameter"],
            format!("{} with the other sign", param.name),
            &[&param],
            changes,
        )
    }

    pub(super) fn zeroed(&mut self) -> Option<RandomFault> {
        let param = self.param(|_| true)?;
        let changes = vec![Change::Fill(param.name.clone(), 0.0)];
        let kind = match param.role {
            Role::Bias | Role::LayerNormShift => dropped(param.rows),
            _ => "zero-parameter",
        };
        self.in_params(&[kind], format!("{} all zero", param.name), &[&param], changes)
    }

    /// A parameter times a factor; weight and bias of a projection together in one of two.
    pub(super) fn scaled(&mut self) -> Option<RandomFault> {
        let param = self.param(|param| !matches!(param.role, Role::Bias | Role::LayerNormShift))?;
        let factors = [1.5_f32.sqrt(), 2.0_f32.sqrt(), 3.0_f32.sqrt(), 0.5, 2.0, 1.1, 0.25];
        let factor = self.dice.of(&factors).copied()?;
        let scale = |name: String| Change::Scale { name, rows: None, factor };
        let mut changes = vec![scale(param.name.clone())];
        let bias = format!("{}.bias", param.path());
        if self.list.model.shape(&bias).is_some() && self.dice.chance(2) {
            changes.push(scale(bias));
        }
        let description = format!("{} times {factor:.4}, {} parameters", param.path(), changes.len());
        self.in_params(&["scaled-parameter", "missing-scale"], description, &[&param], changes)
    }

    /// A kernel whose numbers are in the order of its transpose.
    pub(super) fn turned(&mut self) -> Option<RandomFault> {
        let param = self.param(|param| param.role == Role::LinearWeight)?;
        let square = matches!(param.shape[..], [rows, columns] if rows == columns);
        let kind = if square { "transposed-kernel" } else { "reshaped-kernel" };
        let back = self.dice.chance(2);
        let changes = vec![Change::Reshape { name: param.name.clone(), back }];
        self.in_params(&[kind], format!("{} reshaped, not transposed", param.name), &[&param], changes)
    }

    /// Two parameters of one shape, one in the place of the other.
    pub(super) fn exchanged(&mut self) -> Option<RandomFault> {
        let one = self.param(|param| param.shape.iter().product::<usize>() > 1)?;
        let all = self.list.model.params().into_iter();
        let others: Vec<Param> = all
            .filter(|other| other.required && other.shape == one.shape && other.name != one.name)
            .filter(|other| self.list.model.shape(&other.name).is_some())
            .collect();
        let other = self.dice.of(&others)?.clone();
        let norms = one.path() == other.path() && one.module.is_norm();
        let kinds: &[&str] = if norms { &["swapped-gamma-beta"] } else { &["misplaced-parameter"] };
        let description = format!("{} and {} exchanged", one.name, other.name);
        let changes = vec![Change::Swap(one.name.clone(), other.name.clone())];
        self.in_params(kinds, description, &[&one, &other], changes)
    }

    /// All weights rounded to 255 steps, or those of one parameter.
    pub(super) fn quantized(&mut self) -> Option<RandomFault> {
        let (all, by_row) = (self.dice.chance(2), self.dice.chance(2));
        let of_matrix = |param: &Param| param.shape.len() == 2 && param.shape.iter().all(|&len| len > 4);
        let params = match all {
            true => self.list.model.params().into_iter().filter(of_matrix).collect(),
            false => vec![self.param(of_matrix)?],
        };
        let there: Vec<&Param> =
            params.iter().filter(|param| self.list.model.shape(&param.name).is_some()).collect();
        let changes =
            there.iter().map(|param| Change::Quantize { name: param.name.clone(), by_row }).collect();
        let description = format!("{} matrices rounded to 8 bits", there.len());
        self.in_params(&["int8-weights"], description, &there, changes)
    }

    /// A parameter whose numbers are lost: noise, or with zeros here and there. No hypothesis knows it.
    pub(super) fn lost(&mut self) -> Option<RandomFault> {
        let param = self.param(|param| {
            matches!(param.role, Role::LinearWeight | Role::Convolution) && param.module != Module::Classifier
        })?;
        let (noise, len) = (self.dice.chance(2), param.shape.iter().product());
        let values = self.list.model.values(&param.name)?;
        let values: Vec<f32> = (0..len)
            .zip(values)
            .map(|(_, &value)| match noise {
                true => 0.3 * self.dice.number(),
                false if self.dice.chance(3) => 0.0,
                false => value,
            })
            .collect();
        let description = format!("{} {}", param.name, if noise { "is noise" } else { "with zeros" });
        let changes = vec![Change::Replace(param.name.clone(), values)];
        self.in_params(&[], description, &[&param], changes)
    }

    /// Rows of what gives classes in another order.
    pub(super) fn labels(&mut self) -> Option<RandomFault> {
        let param = self.param(|param| {
            matches!(param.module, Module::Classifier | Module::QaOutputs)
                && param.role == Role::LinearWeight
                && param.rows == Rows::Plain
                && param.shape.first().is_some_and(|&rows| rows > 1)
        })?;
        let order = self.dice.order(param.shape.first().copied()?);
        let bias = format!("{}.bias", param.path());
        let names = [param.name.clone(), bias].into_iter();
        let changes = names.map(|name| Change::Rows { name, order: order.clone() }).collect();
        let description = format!("labels of {} in another order", param.path());
        self.in_params(&["permuted-labels"], description, &[&param], changes)
    }

    fn noise(&mut self, param: &Param, size: f32) -> Vec<(usize, f32)> {
        let len = param.shape.iter().product();
        (0..len).map(|at| (at, size * self.dice.number())).collect()
    }
}
