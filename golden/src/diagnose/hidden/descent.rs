//! Unknown numbers found by Newton's method for least squares.

use super::response::{Response, dot};
use crate::diagnose::attention::solve;
use crate::fault::{Change, Model};

/// The most steps.
const STEPS: usize = 10;

impl Response<'_, '_, '_> {
    /// The unknowns with which everything agrees; nothing if they are not found. `change` is what makes the unknowns those of
    /// a model, and does nothing where they are `start`.
    pub(super) fn descend(
        &self,
        start: Vec<f64>,
        change: impl Fn(&[f64]) -> Vec<Change>,
    ) -> Option<Vec<f64>> {
        let model = self.hidden.model;
        let with = |unknowns: &[f64]| -> Option<Model> { model.with(&change(unknowns)) };
        let mut unknowns = start;
        let mut off = self.off(&with(&unknowns)?)?;
        for _ in 0..STEPS {
            if off.iter().all(|off| off.abs() <= 1.0) {
                return Some(unknowns);
            }
            let mut columns = Vec::with_capacity(unknowns.len());
            for at in 0..unknowns.len() {
                let moved = |step: f32| {
                    let mut moved = unknowns.clone();
                    if let Some(unknown) = moved.get_mut(at) {
                        *unknown += f64::from(step);
                    }
                    change(&moved)
                };
                columns.push(self.to(model, &off, moved)?);
            }
            let size = dot(&off, &off);
            let steps = step(&columns, &off);
            let mut share = 1.0;
            (unknowns, off) = loop {
                let next: Vec<f64> =
                    unknowns.iter().zip(&steps).map(|(unknown, step)| unknown + share * step).collect();
                let then = with(&next).and_then(|model| self.off(&model));
                match then {
                    Some(then) if dot(&then, &then) < 0.98 * size => break (next, then),
                    _ if share < 0.1 => return None,
                    _ => share *= 0.4,
                }
            };
        }
        off.iter().all(|off| off.abs() <= 1.0).then_some(unknowns)
    }
}

/// The step of Newton's method: least squares of `off` + columns · step.
pub(super) fn step(columns: &[Vec<f64>], off: &[f64]) -> Vec<f64> {
    let count = columns.len();
    let mut normal = vec![0.0; count * count];
    for (at, column) in columns.iter().enumerate() {
        for (other, against) in columns.iter().enumerate().skip(at) {
            let product = dot(column, against);
            for place in [at * count + other, other * count + at] {
                if let Some(place) = normal.get_mut(place) {
                    *place = product;
                }
            }
        }
    }
    let right = columns.iter().map(|column| -dot(column, off)).collect();
    solve(normal, right, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_makes_up_for_what_is_off() {
        // off + 2 x + y, off + x - y, off + y
        let columns = [vec![2.0, 1.0, 0.0], vec![1.0, -1.0, 1.0]];
        let off = [-5.0, -1.0, -1.0];
        let found = step(&columns, &off);
        assert!((found[0] - 2.0).abs() < 1e-12 && (found[1] - 1.0).abs() < 1e-12, "{found:?}");
    }
}
