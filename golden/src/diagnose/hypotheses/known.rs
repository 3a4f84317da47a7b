//! Known causes that are tried whatever the numbers say.

use deberta_reference::config::Activation;
use deberta_reference::{Module, Param, Role, Stage};

use super::{Search, setting};
use crate::diagnose::Hypothesis;
use crate::diagnose::residual::{Residual, block_order, moved_bias};
use crate::fault::{Change, Setting, other_activations, permutations};
use crate::trace::points::Point;

impl Search<'_> {
    pub(super) fn transposed(&self, weight: &str) -> Hypothesis {
        let square = |param: &Param| {
            param.role == Role::LinearWeight && matches!(param.shape[..], [rows, columns] if rows == columns)
        };
        let kernels: Vec<Param> = self.params.iter().filter(|param| square(param)).cloned().collect();
        let module = self.param(weight).map(|param| param.module);
        let same: Vec<Param> = kernels.iter().filter(|param| Some(param.module) == module).cloned().collect();
        let turn =
            |params: Vec<Param>| params.into_iter().map(|param| Change::Transpose(param.name)).collect();
        Hypothesis::new(
            "transposed-kernel",
            format!("{weight} is transposed"),
            "convert the original model again with deberta-convert, which transposes every kernel of Keras; square ones \
             do not show it in their shape",
        )
        .undone_by([Change::Transpose(weight.to_owned())])
        .wider(", and so it is in the other layers", turn(same))
        .wider(", and so is every square kernel", turn(kernels))
    }

    /// A weight whose numbers are lost.
    pub(super) fn zero(&self, weight: &str) -> Option<Hypothesis> {
        let cause = format!("{weight} is all zero");
        let hypothesis = Hypothesis::new("zero-parameter", cause, "convert the original model again");
        self.model.is_zero(weight).then_some(hypothesis)
    }

    pub(super) fn swapped_gamma_beta(&self, path: &str) -> Option<Hypothesis> {
        let swap = |path: &str| Change::Swap(format!("{path}.weight"), format!("{path}.bias"));
        self.model.shape(&format!("{path}.weight"))?;
        let scales = self.params.iter().filter(|param| param.role == Role::LayerNormScale);
        let norms = scales.map(|scale| swap(scale.path())).collect();
        Some(
            Hypothesis::new(
                "swapped-gamma-beta",
                format!("{path}: γ (weight) and β (bias) are exchanged"),
                "exchange weight and bias of this normalisation",
            )
            .undone_by([swap(path)])
            .wider(", and so are those of every normalisation", norms),
        )
    }

    pub(super) fn other_eps(&self) -> Vec<Hypothesis> {
        let own = self.model.config.layer_norm_eps;
        let usual = [1e-7, 1e-12, 1e-5, 1e-6, 1e-8, 1e-3].into_iter().filter(|eps| *eps != own);
        usual
            .map(|eps| setting("layer-norm-eps", Setting::Eps(eps), &format!("layer_norm_eps {own:e}")))
            .collect()
    }

    pub(super) fn activations(&self, module: Module) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let (own, of): (_, fn(Activation) -> Setting) = match module {
            Module::Pooler => (config.pooler_hidden_act, Setting::PoolerAct),
            _ => (config.hidden_act, Setting::HiddenAct),
        };
        let others = other_activations(own).into_iter();
        others.map(|other| setting("hidden-act", of(other), &of(own).line())).collect()
    }

    pub(super) fn other_embeddings(&self) -> Vec<Hypothesis> {
        let model = self.model;
        let mut found = Vec::new();
        let biased = model.config.position_biased_input;
        if model.shape(&model.weight(Module::PositionEmbeddings, 0)).is_some() {
            let own = format!("position_biased_input {biased}");
            found.push(setting("position-biased-input", Setting::PositionBiased(!biased), &own));
        }
        let types =
            model.shape(&model.weight(Module::TokenTypeEmbeddings, 0)).and_then(|shape| shape.first());
        if let Some(&types) = types {
            let own = model.config.type_vocab_size;
            let other = if own == 0 { types } else { 0 };
            found.push(setting(
                "type-vocab-size",
                Setting::TokenTypes(other),
                &format!("type_vocab_size {own}"),
            ));
        }
        found
    }

    /// A kernel whose numbers were taken for those of its transpose, where its shape would show a transposed one.
    pub(super) fn reshaped(&self, weight: &str) -> Vec<Hypothesis> {
        let ways =
            [(true, "[in, out] read as [out, in]"), (false, "[out, in] read as [in, out] and transposed")];
        let reshaped = |(back, how): (bool, &str)| {
            let cause = format!("{weight} is reshaped, not transposed: {how}");
            Hypothesis::new("reshaped-kernel", cause, "convert the original model again with deberta-convert")
                .undone_by([Change::Reshape { name: weight.to_owned(), back: !back }])
        };
        ways.map(reshaped).into()
    }

    /// The rows of what gives classes, exchanged or in another order as the numbers show it.
    pub(super) fn labels(&self, point: &Point, residual: Option<&Residual<'_>>) -> Vec<Hypothesis> {
        let (weight, bias) = super::parameters(self.model, point);
        let Some(&[rows, _]) = self.model.shape(&weight) else { return Vec::new() };
        let own = bias.as_deref().and_then(|bias| self.model.values(bias));
        let mut orders: Vec<(Vec<usize>, [bool; 2])> = Vec::new();
        if let Some(residual) = residual {
            orders.extend(block_order(residual, 1, None).map(|order| (order, [true, true])));
            orders.extend(block_order(residual, 1, own).map(|order| (order, [true, false])));
            orders
                .extend(own.and_then(|own| moved_bias(residual, 1, own)).map(|order| (order, [false, true])));
        } else if rows <= 4 {
            orders.extend(permutations(rows).into_iter().map(|order| (order, [true, true])));
        }
        let hypothesis = |(order, [with_weight, with_bias]): (Vec<usize>, [bool; 2])| {
            let names = [Some(&weight).filter(|_| with_weight), bias.as_ref().filter(|_| with_bias)];
            let changes = names.into_iter().flatten();
            let changes: Vec<Change> =
                changes.map(|name| Change::Rows { name: name.clone(), order: order.clone() }).collect();
            let moved = order.iter().enumerate().filter(|(at, from)| at != *from);
            let moved: Vec<String> = moved.map(|(at, from)| format!("{from} for {at}")).take(6).collect();
            let cause = match point.module {
                Module::QaOutputs => format!("{}: start and end are exchanged", point.name),
                _ => format!("{}: labels are in another order: {}", point.name, moved.join(", ")),
            };
            Hypothesis::new("permuted-labels", cause, "restore the order of the labels, or that of id2label")
                .undone_by(changes)
        };
        orders.into_iter().map(hypothesis).collect()
    }

    /// The word embeddings in the place of the decoder, and the other way round.
    pub(super) fn tied(&self) -> Option<Hypothesis> {
        let (model, tie) = (self.model, self.model.config.tie_word_embeddings);
        let possible = tie || model.shape(&model.weight(Module::WordEmbeddings, 0)).is_some();
        let own = Setting::Tie(tie).line();
        possible.then(|| setting("tie-word-embeddings", Setting::Tie(!tie), &own))
    }

    /// A projection of the attention that was exchanged with another one, biases included.
    pub(super) fn exchanged_projections(&self, path: &str) -> Vec<Hypothesis> {
        let own = self.params.iter().find(|param| param.role == Role::LinearWeight && param.path() == path);
        let Some(own) = own.filter(|_| !self.model.config.has_in_proj()) else { return Vec::new() };
        let others = self.params.iter().filter(|param| {
            param.layer == own.layer
                && param.role == Role::LinearWeight
                && param.name != own.name
                && self.parts(&param.name).is_some()
        });
        let hypothesis = |other: &Param| {
            let other = other.path();
            let swap = |word| Change::Swap(format!("{path}.{word}"), format!("{other}.{word}"));
            let cause = format!("{path} and {other} are exchanged");
            let repair =
                "put the parameters of each projection under its own name (deberta-convert names lists them)";
            Hypothesis::new("misplaced-parameter", cause, repair).undone_by(["weight", "bias"].map(swap))
        };
        others.map(hypothesis).collect()
    }

    pub(super) fn exchanged_norms(&self, layer: usize) -> Hypothesis {
        let [one, other] =
            [Module::AttentionLayerNorm, Module::OutputLayerNorm].map(|norm| self.model.path(norm, layer));
        let swap = |part: &str| Change::Swap(format!("{one}.{part}"), format!("{other}.{part}"));
        let repair =
            "put each normalisation's parameters under its own name (deberta-convert names lists them)";
        Hypothesis::new("misplaced-parameter", format!("{one} and {other} are exchanged"), repair)
            .undone_by([swap("weight"), swap("bias")])
    }

    pub(super) fn taken_from(
        &self,
        path: &str,
        weight: &str,
        other: &str,
        with_bias: bool,
    ) -> Vec<Hypothesis> {
        let mut found = Vec::new();
        if let (Some(own), Some(its)) = (self.param(weight), self.param(other))
            && let (Some(layer), Some(elsewhere)) = (own.layer, its.layer)
            && (own.module, own.role) == (its.module, its.role)
        {
            found.push(self.swapped(layer, elsewhere));
        }
        let bias = |name: &str| format!("{}bias", name.trim_end_matches("weight"));
        let hypothesis = || {
            let cause = format!("{other} belongs to {weight}");
            let repair = "convert the original model again: parameters were mixed up";
            Hypothesis::new("misplaced-parameter", cause, repair)
                .because(format!("{path} of the golden was computed with {other}"))
        };
        let mut swap = vec![Change::Swap(other.to_owned(), weight.to_owned())];
        let mut copy = vec![Change::Copy { from: other.to_owned(), to: weight.to_owned() }];
        if with_bias {
            swap.push(Change::Swap(bias(other), bias(weight)));
            copy.push(Change::Copy { from: bias(other), to: bias(weight) });
        }
        found.push(hypothesis().undone_by(swap));
        found.push(hypothesis().undone_by(copy));
        found
    }

    /// A head that was never trained.
    pub(super) fn fresh_head(&self) -> Option<Hypothesis> {
        let model = self.model;
        if self.section.stage != Some(Stage::Head) {
            return None;
        }
        let mut kernels = Vec::new();
        for param in self.params.iter().filter(|param| param.required && param.module.in_head()) {
            let values = model.values(&param.name)?;
            let all = |expected: f32| values.iter().all(|&value| value == expected);
            match param.role {
                Role::LayerNormScale if !all(1.0) => return None,
                Role::Bias | Role::LayerNormShift if !all(0.0) => return None,
                Role::LinearWeight => kernels.extend_from_slice(values),
                _ => {}
            }
        }
        let energy: f64 = kernels.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let deviation = (energy / kernels.len().max(1) as f64).sqrt();
        let evidence = format!(
            "every bias is exactly 0, every γ exactly 1, and the weights have a standard deviation of {deviation:.4} \
             (initializer_range {})",
            model.config.initializer_range
        );
        let repair =
            "load the head from the checkpoint that has it: its parameters were missing or had other names";
        let mut hypothesis = Hypothesis::new("random-head", "the head is as before training", repair);
        // A head without normalisations may have biases of 0 by another fault.
        let fresh = model.config.initializer_range / 2.0..=2.0 * model.config.initializer_range;
        hypothesis.proves = fresh.contains(&deviation);
        Some(hypothesis.because(evidence))
    }
}

/// A weight with the other sign.
pub(super) fn negated(weight: &str) -> Hypothesis {
    let negate = Change::Scale { name: weight.to_owned(), rows: None, factor: -1.0 };
    let cause = format!("{weight} has the other sign");
    let repair = "restore it from the original model";
    Hypothesis::new("negated-parameter", cause, repair).undone_by([negate])
}
