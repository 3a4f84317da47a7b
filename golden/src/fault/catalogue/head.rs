//! What goes wrong with heads: they were never trained, or are not tied.

use deberta_reference::{Head, Module, Param, Role};

use super::{List, Noise};
use crate::fault::{Change, Setting};

impl List<'_> {
    pub(super) fn head(&mut self) {
        let head = self.model.class.head;
        let params: Vec<Param> = self.params().into_iter().filter(|param| param.module.in_head()).collect();
        if head == Head::Base {
            self.absent("random-head", "the class has no head");
            return;
        }
        let mut noise = Noise(7);
        let changes = params.iter().map(|param| match param.role {
            Role::LayerNormScale => Change::Fill(param.name.clone(), 1.0),
            Role::Bias | Role::LayerNormShift => Change::Fill(param.name.clone(), 0.0),
            _ => Change::Replace(param.name.clone(), self.untrained(&mut noise, &param.shape)),
        });
        let changes: Vec<Change> = changes.collect();
        let first = match head {
            _ if head.is_legacy(&self.model.config) => Module::TransformDense,
            Head::MaskedLm | Head::MaskDecoder => Module::LmDense,
            Head::SequenceClassification | Head::MultipleChoice => Module::PoolerDense,
            Head::ReplacedTokens => Module::MaskPredictionsLayerNorm,
            Head::QuestionAnswering => Module::QaOutputs,
            Head::Base | Head::TokenClassification => Module::Classifier,
        };
        self.add("random-head", "a head as it is before training", vec![self.first(first)], changes);
        if head.is_legacy(&self.model.config) {
            self.decoder(noise);
        }
        self.labels();
    }

    /// Rows of what gives classes, in another order: the labels, start and end.
    fn labels(&mut self) {
        let gives_classes = |param: &Param| matches!(param.module, Module::Classifier | Module::QaOutputs);
        let params: Vec<Param> = self.params().into_iter().filter(gives_classes).collect();
        let rows = params.first().and_then(|param| param.shape.first().copied()).unwrap_or(0);
        let Some(first) = params.first().filter(|_| rows > 1) else {
            self.absent("permuted-labels", "the class has no labels, or one");
            return;
        };
        let (place, description) =
            (first.path().to_owned(), format!("labels of {} in another order", first.path()));
        let order: Vec<usize> = (0..rows).map(|row| (row + 1) % rows).collect();
        let changes = params.into_iter().map(|param| Change::Rows { name: param.name, order: order.clone() });
        let changes = changes.collect();
        self.add("permuted-labels", description, vec![place], changes);
    }

    /// A decoder of its own where it is the word embeddings, and the other way round.
    fn decoder(&mut self, mut noise: Noise) {
        let config = &self.model.config;
        let place = vec![self.first(Module::Decoder)];
        let changes = if config.tie_word_embeddings {
            let shape = vec![config.vocab_size, config.embedding_size];
            let (name, values) = (self.model.weight(Module::Decoder, 0), self.untrained(&mut noise, &shape));
            vec![Change::Config(Setting::Tie(false)), Change::Insert { name, shape, values }]
        } else {
            vec![Change::Config(Setting::Tie(true))]
        };
        let description = match config.tie_word_embeddings {
            true => "a decoder as it is before training, not tied to the word embeddings",
            false => "the word embeddings in place of the decoder",
        };
        self.add("tie-word-embeddings", description, place, changes);
    }

    /// Numbers as they are before training, of the standard deviation `initializer_range`: even ones from -√3 to √3 times
    /// it.
    pub(super) fn untrained(&self, noise: &mut Noise, shape: &[usize]) -> Vec<f32> {
        let scale = 3.0_f32.sqrt() * self.model.config.initializer_range as f32;
        (0..shape.iter().product()).map(|_| noise.next() * scale).collect()
    }
}
