//! What attention probabilities say about the bias of the queries.

use deberta_reference::{Module, Part};

use super::hypothesis::Hypothesis;
use super::section::Section;
use crate::fault::{Change, Model};
use crate::trace::file::Trace;

/// The bias of the queries, from the logarithms of the probabilities by least squares.
///
/// With f[i, j] = (kⱼ + pos_key[δ(i, j)]) / scale, the scores of query i move by f[i, j] · bias and a constant.
pub(super) fn query_bias(
    model: &Model,
    section: &Section<'_>,
    trace: &Trace,
    layer: usize,
) -> Option<Vec<Hypothesis>> {
    let name = model.bias_of(Part::Query, layer)?;
    let rows = |module| section.rows(&model.path(module, layer));
    let (h, d) = (model.config.num_attention_heads, model.config.head_size());
    let scale = model.config.attention_scale();
    let pair = section.pair(trace, &model.path(Module::Probs, layer))?;
    let (keys, _) = rows(Module::InProj)?;
    let positions = if model.config.c2p() { rows(Module::PosProj) } else { None };
    if model.config.c2p() && positions.is_none() {
        return None;
    }
    let n = pair.width;
    let window = model.config.distances().window(n);
    // What padding attends to is a convention.
    let real = section.real(&model.path(Module::Probs, layer));
    let b = pair.want.len() / (h * n * n).max(1);
    let mut bias = vec![0.0_f32; h * d];
    // The number of the bias that alone explains most, how much of the squares, and by how much it is off.
    let mut alone = (0, 0.0_f64, 0.0_f64);
    for head in 0..h {
        let mut normal = vec![0.0_f64; d * d];
        let mut right = vec![0.0_f64; d];
        for row in (0..b * n).filter(|row| *row < 4096) {
            let (sequence, i) = (row / n, row % n);
            let start = ((sequence * h + head) * n + i) * n;
            if real.as_ref().is_some_and(|real| real.get(start) != Some(&true)) {
                continue;
            }
            let (want, got) = (pair.want.get(start..start + n)?, pair.got.get(start..start + n)?);
            let mut features: Vec<(Vec<f64>, f64)> = Vec::with_capacity(n);
            for (j, (&want, &got)) in want.iter().zip(got).enumerate() {
                // Smaller ones carry no digits of the score.
                if want < 1e-6 || got < 1e-6 {
                    continue;
                }
                let key = ((sequence * n + j) * h + head) * 3 * d + d;
                let mut f: Vec<f64> = keys.get(key..key + d)?.iter().map(|&k| f64::from(k) / scale).collect();
                if let Some((table, width)) = positions {
                    let at = window.row(i, j) * width + head * d;
                    for (f, &p) in f.iter_mut().zip(table.get(at..at + d)?) {
                        *f += f64::from(p) / scale;
                    }
                }
                features.push((f, (f64::from(want) / f64::from(got)).ln()));
            }
            let count = features.len() as f64;
            if features.len() < 2 {
                continue;
            }
            let mean: Vec<f64> =
                (0..d).map(|x| features.iter().filter_map(|(f, _)| f.get(x)).sum::<f64>() / count).collect();
            let mean_y = features.iter().map(|(_, y)| y).sum::<f64>() / count;
            for (f, y) in &features {
                let centred: Vec<f64> = f.iter().zip(&mean).map(|(f, mean)| f - mean).collect();
                for (row, &a) in normal.chunks_exact_mut(d).zip(&centred) {
                    row.iter_mut().zip(&centred).for_each(|(sum, &b)| *sum += a * b);
                }
                right.iter_mut().zip(&centred).for_each(|(sum, &a)| *sum += a * (y - mean_y));
            }
        }
        for (at, &y) in right.iter().enumerate() {
            let energy = normal.get(at * d + at).copied().unwrap_or(0.0);
            if energy > 0.0 && y * y / energy > alone.1 {
                alone = (head * d + at, y * y / energy, y / energy);
            }
        }
        let solved = solve(normal, right, d);
        bias.iter_mut().skip(head * d).zip(solved).for_each(|(bias, x)| *bias = x as f32);
    }
    let own = model.values(&name)?;
    let zero = own.iter().all(|&value| value == 0.0);
    let evidence = "the logarithms of the probabilities differ as a bias of the queries makes them differ";
    let mut found = Vec::new();
    if !zero {
        let (at, _, by) = alone;
        let cause = format!("{name}[{at}] is off by {:.3e}", -by);
        let repair = format!("restore {name} from the original model");
        let change = Change::Add(name.clone(), vec![(at, by as f32)]);
        found.push(
            Hypothesis::new("changed-weight", cause, repair).because(evidence).undone_by([change]).fitting(1),
        );
    }
    let (kind, cause) = match zero {
        true => ("dropped-q-bias", format!("{name} is all zero: it was dropped")),
        false => ("changed-bias", format!("numbers of {name} are off")),
    };
    let fitted = bias.len();
    let change = Change::Add(name, bias.into_iter().enumerate().collect());
    let repair = "convert the original model again, with this bias";
    found.push(
        Hypothesis::new(kind, cause, repair)
            .because(evidence)
            .undone_by([change])
            .fitting(fitted)
            .says_what(zero),
    );
    Some(found)
}

/// Solves A x = y for a symmetric A [d, d], by elimination; a direction that A does not determine gets 0.
pub(super) fn solve(mut a: Vec<f64>, mut y: Vec<f64>, d: usize) -> Vec<f64> {
    let largest = (0..d).filter_map(|at| a.get(at * d + at)).fold(0.0_f64, |most, x| most.max(*x));
    let at = |a: &[f64], row: usize, column: usize| a.get(row * d + column).copied().unwrap_or(0.0);
    let mut used = vec![false; d];
    let mut pivots = Vec::new();
    for _ in 0..d {
        let free = (0..d).filter(|&row| used.get(row) == Some(&false));
        let Some(pivot) = free.max_by(|&p, &q| at(&a, p, p).total_cmp(&at(&a, q, q))) else { break };
        let value = at(&a, pivot, pivot);
        if value <= largest * 1e-10 {
            break;
        }
        if let Some(used) = used.get_mut(pivot) {
            *used = true;
        }
        pivots.push(pivot);
        for row in (0..d).filter(|&row| row != pivot) {
            let factor = at(&a, row, pivot) / value;
            if factor == 0.0 {
                continue;
            }
            for column in 0..d {
                let take = factor * at(&a, pivot, column);
                if let Some(x) = a.get_mut(row * d + column) {
                    *x -= take;
                }
            }
            let take = factor * y.get(pivot).copied().unwrap_or(0.0);
            if let Some(y) = y.get_mut(row) {
                *y -= take;
            }
        }
    }
    let value = |row: usize| y.get(row).copied().unwrap_or(0.0) / at(&a, row, row);
    (0..d).map(|row| if pivots.contains(&row) { value(row) } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved_as_far_as_they_are_determined() {
        let x = solve(vec![4.0, 2.0, 2.0, 3.0], vec![10.0, 8.0], 2);
        assert!((x[0] - 1.75).abs() < 1e-12 && (x[1] - 1.5).abs() < 1e-12, "{x:?}");
        let x = solve(vec![1.0, 1.0, 1.0, 1.0], vec![2.0, 2.0], 2);
        assert!((x[0] + x[1] - 2.0).abs() < 1e-12, "{x:?}");
    }
}
