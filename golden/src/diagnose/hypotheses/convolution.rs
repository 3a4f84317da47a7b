//! Causes in the kernel of the convolution.

use deberta_reference::Stage;

use super::Search;
use super::known::negated;
use crate::diagnose::Hypothesis;
use crate::diagnose::factors::{Scaled, of_bias, scaled};
use crate::diagnose::residual::{Linear, Residual, linear};
use crate::diagnose::section::Pair;
use crate::fault::{Change, KernelOrder};
use crate::trace::points::Point;

impl Search<'_> {
    /// What the numbers say: the convolution is a linear layer, whose input is every token with its neighbours.
    pub(super) fn convolved(&self, point: &Point) -> Vec<Hypothesis> {
        let (weight, bias) = super::parameters(self.model, point);
        let Some(pair) = self.section.pair(self.isolated, &point.name) else { return Vec::new() };
        let Some(&[hidden, features, taps]) = self.model.shape(&weight) else { return Vec::new() };
        let n = pair.width;
        // [b, H, n] as rows of H.
        let turned = |values: &[f32]| -> Vec<f32> {
            let sequences = values.chunks_exact(hidden * n);
            sequences.flat_map(|x| (0..n).flat_map(move |t| x.iter().skip(t).step_by(n).copied())).collect()
        };
        let (want, got) = (turned(pair.want), turned(pair.got));
        let residual = Residual::new(Pair { want: &want, got: &got, width: hidden, ..pair });
        let Some((states, width)) =
            self.section.input().filter(|_| self.section.stage == Some(Stage::Layer(0)))
        else {
            return Vec::new();
        };
        // The features of the group that the first channel belongs to.
        let group = residual.channels().first().map_or(0, |channel| channel / features.max(1));
        let input = neighbours(states, [n, width], group * features..(group + 1) * features, taps);
        let layer = Linear { weight: &weight, bias: bias.as_deref(), input: &input, width: features * taps };
        let of = Scaled { weight: &weight, bias: bias.as_deref(), parts: [1, 1] };
        let mut found = scaled(self.model, &of, &residual);
        if let Some(bias) = &bias {
            found.extend(of_bias(self.model, self.params, bias, &residual));
        }
        found.extend(linear(self.model, self.params, &layer, &residual));
        found
    }

    /// The kernel, stored in another order.
    pub(super) fn kernels(&self, weight: &str) -> Vec<Hypothesis> {
        let Some(&[out, input, taps]) = self.model.shape(weight) else { return Vec::new() };
        let again =
            "convert the original model again: PyTorch's kernels are [out, in, k], Keras' [k, in, out]";
        let orders = [
            (KernelOrder::Reversed, "reversed-kernel", "the taps are in the opposite order", taps > 1),
            (KernelOrder::InOut, "transposed-kernel", "inputs and outputs are exchanged", out == input),
            (
                KernelOrder::PyTorch,
                "transposed-kernel",
                "its numbers are in Keras' order, [k, in, out]",
                true,
            ),
            (KernelOrder::Keras, "transposed-kernel", "its numbers were turned as if they were Keras'", true),
        ];
        let hypothesis = |kind, how: &str, orders: &[KernelOrder]| {
            let changes = orders.iter().map(|&order| Change::Kernel(weight.to_owned(), order));
            Hypothesis::new(kind, format!("{weight}: {how}"), again).undone_by(changes)
        };
        let possible: Vec<_> = orders.into_iter().filter(|(.., possible)| *possible).collect();
        let mut found: Vec<Hypothesis> =
            possible.iter().map(|&(order, kind, how, _)| hypothesis(kind, how, &[order])).collect();
        // Of few tokens the middle tap alone shows, which is the same in both orders.
        for &(order, kind, how, _) in
            possible.iter().filter(|(order, ..)| taps > 1 && *order != KernelOrder::Reversed)
        {
            let how = format!("{how}, and the taps are in the opposite order");
            found.push(hypothesis(kind, &how, &[KernelOrder::Reversed, order]));
            found.push(hypothesis(kind, &how, &[order, KernelOrder::Reversed]));
        }
        found.push(negated(weight));
        found.extend(self.zero(weight));
        found
    }
}

/// For every token of `states` [b n, H], `taps` numbers of each of some features: those of the tokens around it.
fn neighbours(
    states: &[f32],
    [n, width]: [usize; 2],
    features: std::ops::Range<usize>,
    taps: usize,
) -> Vec<f32> {
    let tokens = states.len() / width.max(1);
    let mut around = Vec::with_capacity(tokens * features.len() * taps);
    for token in 0..tokens {
        let (first, at) = (token / n * n, token % n);
        for feature in features.clone() {
            around.extend((0..taps).map(|tap| {
                let neighbour = (at + tap).checked_sub(taps / 2).filter(|&neighbour| neighbour < n);
                let value = neighbour.and_then(|at| states.get((first + at) * width + feature));
                value.copied().unwrap_or(0.0)
            }));
        }
    }
    around
}
