//! Numbers and rows of linear layers, found by what their channels must be at each token.

use deberta_reference::{Module, Param, Part, Role, Rows};

use super::descent::step;
use super::numbers::{LIKELIEST, Numbers};
use super::response::dot;
use crate::diagnose::Hypothesis;
use crate::diagnose::section::floats;
use crate::fault::Change;
use crate::trace::inputs::dims;

/// A linear layer whose bias moves the same channels as its rows do.
pub(super) struct Kernel {
    param: Param,
    /// The row of the weight that each number of the bias belongs to.
    rows: Vec<usize>,
    /// The input of each token; for values, of each head in turn, as its probabilities mix it.
    inputs: Vec<Vec<f64>>,
    width: usize,
}

impl Numbers<'_, '_, '_> {
    /// The kernel that a bias belongs to, if its tokens do not mix before the golden shows them.
    pub(super) fn kernel(&self, bias: &Param) -> Option<Kernel> {
        let (model, section) = (self.hidden.model, self.hidden.section);
        let layer = bias.layer.unwrap_or(0);
        if bias.role != Role::Bias {
            return None;
        }
        let (h, d) = (model.config.num_attention_heads, model.config.head_size());
        let parts = |part: Part| model.bias_of(part, layer).as_deref() == Some(&*bias.name);
        let of_part = [Part::Query, Part::Value].into_iter().find(|&part| parts(part));
        let of_tokens = of_part.map(|part| model.projection(part));
        let weight = match of_tokens {
            Some(module) => model.weight(module, layer),
            None => format!("{}.weight", bias.path()),
        };
        let param =
            self.hidden.params.iter().find(|param| param.name == weight && param.shape.len() == 2)?.clone();
        let &[_, width] = param.shape.as_slice() else { return None };
        let at = |module: Module| model.path(module, layer);
        let input = match (of_part, param.module) {
            (Some(_), _) if section.stage.is_some() => None,
            (_, Module::AttentionDense) => Some(at(Module::SelfAttention)),
            (_, Module::IntermediateDense) => Some(at(Module::AttentionLayerNorm)),
            (_, Module::OutputDense) => Some(at(Module::Intermediate)),
            (_, Module::Classifier) if section.place(&at(Module::Pooler)).is_some() => {
                Some(at(Module::Pooler))
            }
            (
                _,
                Module::Classifier
                | Module::QaOutputs
                | Module::TransformDense
                | Module::LmDense
                | Module::PoolerDense,
            ) if section.stage.is_some() => None,
            _ => return None,
        };
        let points: Vec<String> = match (&input, of_part) {
            (Some(path), _) => vec![path.clone()],
            (None, Some(Part::Value)) => vec![at(Module::Probs)],
            (None, _) => Vec::new(),
        };
        let trace = section.watch(model, false, &points).ok()?;
        let watched = |path: &str| trace.get(&format!("activations.{path}")).and_then(floats);
        let inputs: Vec<f64> = match &input {
            Some(path) => watched(path)?.iter().map(|&x| f64::from(x)).collect(),
            None if param.module == Module::PoolerDense => {
                let (states, (b, _)) = (section.input()?.0, dims(section.inputs())?);
                let of_first =
                    states.chunks(states.len() / b.max(1)).flat_map(|states| states.iter().take(width));
                of_first.map(|&x| f64::from(x)).collect()
            }
            None => section.input()?.0.iter().map(|&x| f64::from(x)).collect(),
        };
        let (rows, inputs) = match of_part {
            Some(part) => {
                let parts_in_row: &[Part] = match param.rows {
                    Rows::Heads(parts) => parts,
                    Rows::Plain => return None,
                };
                let place = parts_in_row.iter().position(|known| *known == part)?;
                let row = |at: usize| (at / d * parts_in_row.len() + place) * d + at % d;
                let inputs = match part {
                    Part::Value => {
                        let (_, n) = dims(section.inputs())?;
                        let probs = watched(&at(Module::Probs))?;
                        (0..h).map(|head| mixed(probs, &inputs, [head, h, n, width])).collect()
                    }
                    _ => vec![inputs],
                };
                ((0..h * d).map(row).collect(), inputs)
            }
            None => ((0..param.shape.first().copied()?).collect(), vec![inputs]),
        };
        Some(Kernel { param, rows, inputs, width })
    }

    /// A number, or a row, of a linear layer: `columns` is how the golden responds to each number of its bias.
    pub(super) fn linear(&self, kernel: &Kernel, bias: &str, columns: &[Vec<f64>]) -> Vec<Hypothesis> {
        let tokens = kernel.inputs.first().map_or(0, |inputs| inputs.len() / kernel.width.max(1));
        let mut numbers: Vec<(f64, usize, f64)> = Vec::new();
        let mut channels: Vec<(f64, usize)> = Vec::new();
        let heads = kernel.inputs.len();
        for (channel, column) in columns.iter().enumerate() {
            let Some(inputs) = kernel.inputs.get(channel * heads / columns.len().max(1)) else { continue };
            let Some(shares) = self.by_token(column, self.off, tokens) else { return Vec::new() };
            let gain = shares
                .iter()
                .filter(|[energy, _]| *energy > 0.0)
                .map(|[energy, product]| product * product / energy);
            channels.push((gain.sum(), channel));
            let Some(&row) = kernel.rows.get(channel) else { continue };
            for column in 0..kernel.width {
                let input = inputs.iter().skip(column).step_by(kernel.width);
                let (energy, product) = (shares.iter().zip(input))
                    .fold((0.0, 0.0), |(energy, product), (share, x)| {
                        (energy + share[0] * x * x, product + share[1] * x)
                    });
                if energy > 0.0 {
                    numbers.push((
                        product * product / energy,
                        row * kernel.width + column,
                        -product / energy,
                    ));
                }
            }
        }
        numbers.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
        channels.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
        let numbers = numbers.into_iter().take(2 * LIKELIEST);
        let mut found: Vec<Hypothesis> =
            numbers.filter_map(|(_, at, start)| self.number(&kernel.param, at, start)).collect();
        if found.is_empty() {
            let channels = channels.into_iter().take(2);
            found.extend(channels.filter_map(|(_, channel)| self.row(kernel, bias, channel, columns.len())));
        }
        found
    }

    /// A row of a linear layer, whose numbers are found by what its channel must be at each token.
    fn row(&self, kernel: &Kernel, bias: &str, channel: usize, channels: usize) -> Option<Hypothesis> {
        let model = self.hidden.model;
        let (heads, width) = (kernel.inputs.len(), kernel.width);
        let inputs = kernel.inputs.get(channel * heads / channels.max(1))?;
        let tokens = inputs.len() / width.max(1);
        let row = *kernel.rows.get(channel)?;
        let name = kernel.param.name.as_str();
        let change = |numbers: &[f64]| {
            let numbers = numbers.iter().enumerate().map(|(at, &by)| (row * width + at, by as f32));
            vec![Change::Add(name.to_owned(), numbers.collect())]
        };
        let mut numbers = vec![0.0; width];
        let mut off = self.off.to_vec();
        for _ in 0..16 {
            if off.iter().all(|off| off.abs() <= 1.0) {
                let hypothesis = Hypothesis::new(
                    "changed-row",
                    format!("row {row} of {name}"),
                    "restore it from the original model",
                );
                return Some(hypothesis.undone_by(change(&numbers)).fitting(width).says_what(false));
            }
            let repaired = model.with(&change(&numbers))?;
            let column = self.response.to_numbers(&repaired, &off, bias, &[channel])?.pop()?;
            let shares = self.by_token(&column, &off, tokens)?;
            // x · numbers must make up for the difference of every token.
            let weighted: Vec<Vec<f64>> = (0..width)
                .map(|at| {
                    inputs
                        .iter()
                        .skip(at)
                        .step_by(width)
                        .zip(&shares)
                        .map(|(x, [energy, _])| x * energy.sqrt())
                        .collect()
                })
                .collect();
            let lacking: Vec<f64> = shares
                .iter()
                .map(|[energy, product]| if *energy > 0.0 { product / energy.sqrt() } else { 0.0 })
                .collect();
            let steps = step(&weighted, &lacking);
            let size = dot(&off, &off);
            let mut share = 1.0;
            (numbers, off) = loop {
                let next: Vec<f64> =
                    numbers.iter().zip(&steps).map(|(own, step)| own + share * step).collect();
                let then = model.with(&change(&next)).and_then(|model| self.response.off(&model));
                match then {
                    Some(then) if dot(&then, &then) < 0.98 * size => break (next, then),
                    _ if share < 0.05 => return None,
                    _ => share *= 0.4,
                }
            };
        }
        None
    }

    /// For every token, the squares of a column and its product with what is off; nothing if the column is felt elsewhere.
    fn by_token(&self, column: &[f64], off: &[f64], tokens: usize) -> Option<Vec<[f64; 2]>> {
        let mut shares = vec![[0.0, 0.0]; tokens];
        for ((&response, &off), row) in column.iter().zip(off).zip(&self.rows) {
            if response == 0.0 {
                continue;
            }
            let [energy, product] = shares.get_mut((*row)?)?;
            *energy += response * response;
            *product += response * off;
        }
        Some(shares)
    }
}

/// What a head's probabilities [b, h, n, n] make of the states [b n, width]: [b n, width].
fn mixed(probs: &[f32], states: &[f64], [head, h, n, width]: [usize; 4]) -> Vec<f64> {
    let tokens = states.len() / width.max(1);
    let mut mixed = vec![0.0; tokens * width];
    for (token, sum) in mixed.chunks_exact_mut(width.max(1)).enumerate() {
        let (sequence, i) = (token / n.max(1), token % n.max(1));
        let start = ((sequence * h + head) * n + i) * n;
        let weights = probs.iter().skip(start).take(n);
        let keys = states.chunks_exact(width.max(1)).skip(sequence * n);
        for (&weight, key) in weights.zip(keys) {
            sum.iter_mut().zip(key).for_each(|(sum, x)| *sum += f64::from(weight) * x);
        }
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_mixed_as_each_head_attends() {
        // One sequence of two tokens, two heads: the first attends to itself, the second to both.
        let probs = [1.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.25, 0.75];
        let states = [1.0, 2.0, 3.0, 6.0];
        assert_eq!(mixed(&probs, &states, [0, 2, 2, 2]), states);
        assert_eq!(mixed(&probs, &states, [1, 2, 2, 2]), [2.0, 4.0, 2.5, 5.0]);
    }
}
