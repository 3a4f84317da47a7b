//! The faults that the selftest injects.

use deberta_reference::config::Activation;
use deberta_reference::{Inputs, Module, Param, Part, Role, Rows};

use super::setting::activation_name;
use super::{Change, Culprit, Fault, Model, Setting, swapped_layers};
use crate::judge::tolerance::Precision;

mod attention;
mod convolution;
mod formulas;
mod head;
mod positions;

/// The faults of a model, and those that it cannot have.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// What can go wrong with it.
    pub faults: Vec<Fault>,
    /// What cannot.
    pub absent: Vec<Absent>,
}

/// A fault that a model cannot have.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Absent {
    /// The word for it.
    pub kind: &'static str,
    /// Why not.
    pub reason: String,
}

/// Every fault that the model can have. What is in every layer is put into `layer`; what concerns single rows of tables,
/// into rows that `inputs` read.
pub fn faults(model: &Model, inputs: &Inputs, layer: usize) -> Listed {
    let mut list = List { model, layer, listed: Listed::default() };
    list.kernels();
    list.attention();
    list.configuration();
    list.positions(inputs);
    list.convolution();
    list.norms_and_biases();
    list.places();
    list.precision();
    list.head();
    list.single_numbers(inputs);
    list.formulas(inputs);
    list.listed
}

/// The points that feel the scores of a layer's attention.
pub(super) fn scores_of(model: &Model, layer: usize) -> Vec<String> {
    use Module::{C2c, C2p, HeadLogitsProj, P2c, Probs, Scores, SelfAttention};
    let feel = [C2c, C2p, P2c, Scores, HeadLogitsProj, Probs, SelfAttention];
    let places = feel.map(|module| model.path(module, layer)).into_iter();
    places.chain([format!("outputs.attentions.{layer}")]).collect()
}

pub(super) struct List<'m> {
    pub(super) model: &'m Model,
    pub(super) layer: usize,
    pub(super) listed: Listed,
}

impl List<'_> {
    fn add(
        &mut self,
        kind: &'static str,
        description: impl Into<String>,
        places: Vec<String>,
        changes: Vec<Change>,
    ) {
        let (description, of) = (description.into(), Culprit::Model);
        self.listed.faults.push(Fault { kind, description, places, changes, of });
    }

    /// Adds a fault of the configuration, which the first module of its kind feels first.
    fn set(&mut self, kind: &'static str, description: impl Into<String>, module: Module, setting: Setting) {
        let place = self.first(module);
        self.add(kind, description, vec![place], vec![Change::Config(setting)]);
    }

    fn absent(&mut self, kind: &'static str, reason: impl Into<String>) {
        self.listed.absent.push(Absent { kind, reason: reason.into() });
    }

    /// The parameters outside of the layers, and those of the layer that faults are put into: all that the class computes
    /// with.
    pub(super) fn params(&self) -> Vec<Param> {
        let unused = |param: &Param| {
            !param.required
                || (param.module == Module::TableLayerNorm && !self.model.config.relative_attention)
        };
        let all = self.model.params().into_iter().filter(|param| !unused(param));
        all.filter(|param| param.layer.is_none_or(|layer| layer == self.layer)).collect()
    }

    /// The path of a module in the layer that faults are put into.
    fn here(&self, module: Module) -> String {
        self.model.path(module, self.layer)
    }

    /// The path of a module in the first layer.
    fn first(&self, module: Module) -> String {
        self.model.path(module, 0)
    }

    /// The points that feel a change of the relative position table, the first first.
    pub(super) fn table_places(&self) -> Vec<String> {
        let positions = [Part::PositionKey, Part::PositionQuery].map(|part| self.model.projection(part));
        let modules = [self.model.table_point()].into_iter().chain(positions);
        let scores = scores_of(self.model, 0).into_iter().filter(|path| *path != self.first(Module::C2c));
        modules.map(|module| self.first(module)).chain(scores).collect()
    }

    /// The points that feel the values of a layer, of which `first` is the first.
    fn after_values(&self, first: &str) -> Vec<String> {
        use Module::{Attention, AttentionDense, AttentionLayerNorm, AttentionOutput, Layer, SelfAttention};
        let modules = [SelfAttention, AttentionDense, AttentionLayerNorm, AttentionOutput, Attention, Layer];
        let state = format!("outputs.hidden_states.{}", self.layer + 1);
        let places = modules.map(|module| self.here(module));
        [first.to_owned()].into_iter().chain(places).chain([state]).collect()
    }

    /// The points that feel a change of a parameter, the first first.
    pub(super) fn feel(&self, param: &Param) -> Vec<String> {
        match (param.module, param.rows) {
            (Module::RelEmbeddings | Module::TableLayerNorm, _) => self.table_places(),
            (_, Rows::Heads([Part::Value])) => self.after_values(param.path()),
            (Module::SelfAttention, Rows::Heads([Part::Query])) => {
                scores_of(self.model, param.layer.unwrap_or(self.layer))
            }
            (Module::Predictions, _) => vec![self.first(Module::Decoder)],
            _ => vec![param.path().to_owned()],
        }
    }

    fn kernels(&mut self) {
        for param in self.params().into_iter().filter(|param| param.role == Role::LinearWeight) {
            if matches!(param.shape[..], [rows, columns] if rows == columns) {
                let (places, description) = (self.feel(&param), format!("{} transposed", param.name));
                let changes = vec![Change::Transpose(param.name)];
                self.add("transposed-kernel", description, places, changes);
            }
        }
        let weight = self.model.weight(Module::OutputDense, self.layer);
        let place = vec![self.here(Module::OutputDense)];
        let negate = Change::Scale { name: weight.clone(), rows: None, factor: -1.0 };
        self.add("negated-parameter", format!("{weight} with the other sign"), place.clone(), vec![negate]);
        let zero = Change::Fill(weight.clone(), 0.0);
        self.add("zero-parameter", format!("{weight} all zero"), place.clone(), vec![zero]);
        let reshaped = Change::Reshape { name: weight.clone(), back: false };
        self.add("reshaped-kernel", format!("{weight} reshaped, not transposed"), place, vec![reshaped]);
    }

    fn configuration(&mut self) {
        let config = self.model.config.clone();
        for activation in other_activations(config.hidden_act) {
            let description = format!(
                "hidden_act {} for {}",
                activation_name(activation),
                activation_name(config.hidden_act)
            );
            self.set("hidden-act", description, Module::Intermediate, Setting::HiddenAct(activation));
        }
        if self.model.class.head.has_pooler() {
            let other = if same(config.pooler_hidden_act, Activation::Gelu) {
                Activation::GeluTanh
            } else {
                Activation::Gelu
            };
            let description = format!("pooler_hidden_act {}", activation_name(other));
            self.set("hidden-act", description, Module::Pooler, Setting::PoolerAct(other));
        }
        for eps in [1e-12, 1e-5].into_iter().filter(|eps| *eps != config.layer_norm_eps) {
            let description = format!("layer_norm_eps {eps:e} for {:e}", config.layer_norm_eps);
            self.set("layer-norm-eps", description, Module::EmbeddingsLayerNorm, Setting::Eps(eps));
        }
        if config.position_biased_input {
            let (module, setting) = (Module::PositionEmbeddings, Setting::PositionBiased(false));
            self.set("position-biased-input", "no absolute positions in the input", module, setting);
        } else {
            self.absent("position-biased-input", "the input has no absolute positions");
        }
        if config.type_vocab_size > 0 {
            let setting = Setting::TokenTypes(0);
            self.set("type-vocab-size", "no token types", Module::TokenTypeEmbeddings, setting);
        } else {
            self.absent("type-vocab-size", "the model has no token types");
        }
    }

    fn norms_and_biases(&mut self) {
        for param in self.params() {
            let module = param.path().to_owned();
            match param.role {
                Role::LayerNormScale => {
                    let shift = format!("{module}.bias");
                    let changes = vec![Change::Swap(param.name.clone(), shift)];
                    let places = self.feel(&param);
                    self.add("swapped-gamma-beta", format!("{module}: γ and β exchanged"), places, changes);
                }
                Role::Bias | Role::LayerNormShift => {
                    let kind = dropped(param.rows);
                    let places = self.feel(&param);
                    let changes = vec![Change::Fill(param.name.clone(), 0.0)];
                    self.add(kind, format!("{} all zero", param.name), places, changes);
                }
                _ => {}
            }
        }
    }

    fn places(&mut self) {
        let (one, other) = (self.here(Module::AttentionLayerNorm), self.here(Module::OutputLayerNorm));
        let swap = |part: &str| Change::Swap(format!("{one}.{part}"), format!("{other}.{part}"));
        let changes = vec![swap("weight"), swap("bias")];
        self.add("misplaced-parameter", format!("{one} and {other} exchanged"), vec![one.clone()], changes);

        let bias = |module: Module| format!("{}.bias", self.here(module));
        let (one, other) = (bias(Module::AttentionDense), bias(Module::OutputDense));
        let place = vec![self.here(Module::AttentionDense)];
        let changes = vec![Change::Swap(one.clone(), other.clone())];
        self.add("misplaced-parameter", format!("{one} and {other} exchanged"), place, changes);

        let elsewhere = if self.layer == 0 { 1 } else { 0 };
        if self.model.config.num_hidden_layers < 2 {
            self.absent("permuted-layers", "one layer");
            return;
        }
        let tokens = self.model.projection(Part::Query);
        let first = self.model.path(tokens, self.layer.min(elsewhere));
        let changes = swapped_layers(self.model, self.layer, elsewhere);
        let description = format!("layers {elsewhere} and {} exchanged", self.layer);
        self.add("permuted-layers", description, vec![first], changes);
        let layers = self.model.config.num_hidden_layers;
        let here = vec![self.here(tokens)];
        let dropped = (0..layers).filter(|&layer| layer != self.layer).collect();
        self.add(
            "dropped-layer",
            format!("layer {} dropped", self.layer),
            here.clone(),
            vec![Change::Layers(dropped)],
        );
        let inserted = (0..self.layer).chain([elsewhere]).chain(self.layer..layers).collect();
        let description = format!("a layer as {elsewhere} inserted before {}", self.layer);
        self.add("inserted-layer", description, here, vec![Change::Layers(inserted)]);
        for module in [tokens, Module::IntermediateDense] {
            let to = self.model.weight(module, self.layer);
            let from = self.model.weight(module, elsewhere);
            let description = format!("{to} is that of layer {elsewhere}");
            self.add(
                "misplaced-parameter",
                description,
                vec![self.here(module)],
                vec![Change::Copy { from, to }],
            );
        }
    }

    fn precision(&mut self) {
        for precision in [Precision::F16, Precision::Bf16] {
            let names = self.model.params().into_iter().map(|param| param.name);
            let changes = names
                .filter(|name| self.model.values(name).is_some())
                .map(|name| Change::Round(name, precision))
                .collect();
            self.add("half-precision", format!("all weights rounded to {precision}"), Vec::new(), changes);
        }
        let matrices = self.model.params().into_iter().filter(|param| param.shape.len() == 2);
        let there = matrices.map(|param| param.name).filter(|name| self.model.values(name).is_some());
        let changes = there.map(|name| Change::Quantize { name, by_row: true }).collect();
        self.add("int8-weights", "all matrices rounded to 8 bits, row by row", Vec::new(), changes);
    }

    fn single_numbers(&mut self, inputs: &Inputs) {
        let vocabulary = self.model.config.vocab_size;
        let order = (0..vocabulary).map(|id| (id + 1) % vocabulary).collect();
        let changes = vec![Change::Rows { name: self.model.weight(Module::WordEmbeddings, 0), order }];
        let place = vec![self.first(Module::WordEmbeddings)];
        self.add("wrong-token-ids", "every token has the embedding of the next one", place, changes);

        if let Some(most) = inputs.input_ids.as_ref().and_then(|ids| ids.iter().max()) {
            // A row that some token before the last has behind it.
            let at = usize::try_from(most / 2).unwrap_or(0);
            let order = (0..vocabulary).map(|id| if id > at { id - 1 } else { id }).collect();
            let changes = vec![Change::Rows { name: self.model.weight(Module::WordEmbeddings, 0), order }];
            let place = vec![self.first(Module::WordEmbeddings)];
            self.add("wrong-token-ids", format!("a token inserted after {at}"), place, changes);
        }
        let token = inputs.input_ids.as_ref().and_then(|ids| ids.iter().nth(1).copied());
        let token = token.and_then(|id| usize::try_from(id).ok()).unwrap_or(0);
        for param in self.params() {
            let width = param.shape.last().copied().unwrap_or(1);
            let rows = param.shape.first().copied().unwrap_or(1);
            let at = match param.role {
                Role::WordEmbedding => token * width + width / 2,
                Role::PositionEmbedding | Role::TokenTypeEmbedding => width / 2,
                Role::RelativeEmbedding => rows / 2 * width + width / 2,
                Role::LinearWeight => (rows / 2) * width + width / 3,
                _ => rows / 2,
            };
            let places = self.feel(&param);
            let changes = vec![Change::Add(param.name.clone(), vec![(at, 1e-2)])];
            self.add("changed-weight", format!("{} + 0.01 at element {at}", param.name), places, changes);
        }
    }
}

/// The word for a bias that was dropped.
pub(crate) fn dropped(rows: Rows) -> &'static str {
    match rows {
        Rows::Heads([Part::Query]) => "dropped-q-bias",
        Rows::Heads([Part::Value]) => "dropped-v-bias",
        _ => "dropped-bias",
    }
}

/// The activations that compute something else than `own`, and than each other.
pub(crate) fn other_activations(own: Activation) -> Vec<Activation> {
    let mut known = vec![own];
    for activation in Activation::NAMES.iter().filter_map(|name| Activation::from_name(name)) {
        if !known.iter().any(|&known| same(known, activation)) {
            known.push(activation);
        }
    }
    known.split_off(1)
}

/// Whether two activation functions are equal up to rounding.
fn same(a: Activation, b: Activation) -> bool {
    let tanh = |activation| matches!(activation, Activation::GeluTanh | Activation::GeluFast);
    a == b || (tanh(a) && tanh(b))
}

/// Numbers from -1 to 1 that look random and are always the same.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = u32::try_from(self.0 >> 40).unwrap_or(0); // 24 bits
        bits as f32 / 8_388_608.0 - 1.0
    }
}
