//! Sums and embeddings that ONNX Runtime normalises in the same operator.

use super::attributes::{float, int, number};
use super::pass::Lowering;
use crate::format::onnx::proto::NodeProto;

impl Lowering<'_> {
    /// The normalisation of the sum of two values and a bias; the sum may be the fourth output.
    pub(super) fn skip_layer_normalization(&mut self, node: &NodeProto) -> Option<()> {
        let [value, skip, gamma, rest @ ..] = node.input.as_slice() else { return None };
        let (beta, bias) = (rest.first().cloned(), rest.get(1).filter(|bias| !bias.is_empty()));
        let is_taken = |at: usize| node.output.get(at).is_some_and(|output| !output.is_empty());
        if is_taken(1) || is_taken(2) {
            return None;
        }
        let mut value = value.clone();
        if let Some(bias) = bias {
            value = self.emit(node, "Add", &[&value, bias], Vec::new());
        }
        let sum = self.emit(node, "Add", &[&value, skip], Vec::new());
        if is_taken(3) {
            self.replace(node, node.output.get(3)?, &sum);
        }
        self.normalise(node, &sum, gamma, beta.as_deref())
    }

    /// The normalisation of the sum of up to three embeddings.
    pub(super) fn embed_layer_normalization(&mut self, node: &NodeProto) -> Option<()> {
        let given = |at: usize| node.input.get(at).filter(|name| !name.is_empty()).cloned();
        let (ids, words, positions) = (given(0)?, given(2)?, given(3)?);
        let is_taken = |at: usize| node.output.get(at).is_some_and(|output| !output.is_empty());
        if is_taken(1) {
            // How long the texts are, for an attention that this is in front of.
            return None;
        }
        let rows = || vec![int("axis", 0)];
        let mut sum = self.emit(node, "Gather", &[&words, &ids], rows());
        let places = match given(8) {
            Some(places) => places,
            None => {
                let shape = self.emit(node, "Shape", &[&ids], Vec::new());
                let (one, step, none) = (
                    self.integers("1", &[], &[1]),
                    self.integers("step", &[], &[1]),
                    self.integers("0", &[], &[0]),
                );
                let length = self.emit(node, "Gather", &[&shape, &one], rows());
                self.emit(node, "Range", &[&none, &length, &step], Vec::new())
            }
        };
        let of_places = self.emit(node, "Gather", &[&positions, &places], rows());
        sum = self.emit(node, "Add", &[&sum, &of_places], Vec::new());
        if let (Some(types), Some(table)) = (given(1), given(4)) {
            let of_types = self.emit(node, "Gather", &[&table, &types], rows());
            sum = self.emit(node, "Add", &[&sum, &of_types], Vec::new());
        }
        if is_taken(2) {
            self.replace(node, node.output.get(2)?, &sum);
        }
        self.normalise(node, &sum, &given(5)?, given(6).as_deref())
    }

    fn normalise(&mut self, node: &NodeProto, value: &str, gamma: &str, beta: Option<&str>) -> Option<()> {
        let attributes = vec![int("axis", -1), float("epsilon", number(node, "epsilon", 1e-12))];
        let taken: Vec<&str> =
            [value, gamma].into_iter().chain(beta.filter(|beta| !beta.is_empty())).collect();
        self.emit_as(node, "LayerNormalization", &taken, attributes, node.output.first()?);
        Some(())
    }
}
