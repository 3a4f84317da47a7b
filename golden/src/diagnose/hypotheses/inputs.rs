//! What modules were given, as far as the golden has it.

use std::borrow::Cow;

use deberta_reference::{Head, Module, Stage};

use super::{Search, residual_rows};
use crate::trace::inputs::dims;
use crate::trace::points::Point;

impl Search<'_> {
    /// The input of the linear layer at a point, row by row, for as many rows.
    pub(super) fn input(&self, point: &Point, rows: usize) -> Option<(Cow<'_, [f32]>, usize)> {
        let section = self.section;
        let &Point { stage, module, .. } = point;
        let sibling = |module: Module| {
            let (rows, width) = section.rows(&stage.path(self.model.base(), module))?;
            Some((Cow::Borrowed(rows), width))
        };
        let entrance = || section.input().map(|(rows, width)| (Cow::Borrowed(rows), width));
        match (stage, module) {
            (Stage::Layer(_), Module::InProj | Module::QueryProj | Module::KeyProj | Module::ValueProj)
                if section.stage.is_some() =>
            {
                entrance()
            }
            (
                Stage::Layer(_),
                Module::PosProj | Module::PosQProj | Module::PosKeyProj | Module::PosQueryProj,
            ) => self.table_rows(rows),
            (Stage::Layer(_), Module::AttentionDense) => sibling(Module::SelfAttention),
            (Stage::Layer(_), Module::IntermediateDense) => {
                let same = [Module::Attention, Module::AttentionOutput, Module::AttentionLayerNorm];
                same.into_iter().find_map(sibling)
            }
            (Stage::Layer(_), Module::OutputDense) => sibling(Module::Intermediate),
            _ if section.stage.is_none() => None,
            (_, Module::TransformDense | Module::LmDense | Module::QaOutputs) => entrance(),
            (_, Module::Classifier) if self.model.class.head == Head::TokenClassification => entrance(),
            (_, Module::Classifier) => sibling(Module::Pooler),
            (_, Module::Decoder | Module::Predictions | Module::Cls) => {
                [Module::Transform, Module::TransformLayerNorm].into_iter().find_map(sibling)
            }
            (_, Module::LmHead | Module::LmPredictions) => sibling(Module::LmLayerNorm),
            (_, Module::MaskPredictionsDense) => sibling(Module::MaskPredictionsLayerNorm),
            (_, Module::PoolerDense) => {
                let (states, width) = section.input()?;
                let each = states.len() / width.max(1) / rows.max(1) * width;
                let first = states.chunks(each.max(1)).flat_map(|states| states.iter().take(width).copied());
                Some((Cow::Owned(first.collect()), width))
            }
            _ => None,
        }
    }

    /// The rows around the middle of the relative position table that are projected: where it is normalised, as the golden
    /// has them.
    fn table_rows(&self, rows: usize) -> Option<(Cow<'_, [f32]>, usize)> {
        let name = self.model.weight(Module::RelEmbeddings, 0);
        let &[all, width] = self.model.shape(&name)? else { return None };
        let table = match self.model.table_point() {
            Module::TableLayerNorm => self.section.table(&self.model.path(Module::TableLayerNorm, 0))?.0,
            _ => self.model.values(&name)?,
        };
        let start = (all / 2).checked_sub(rows / 2)?;
        Some((Cow::Borrowed(table.get(start * width..(start + rows) * width)?), width))
    }

    /// The row of a table that every position reads.
    pub(super) fn looked_up(&self, point: &Point) -> Option<Vec<usize>> {
        let inputs = self.divergence.inputs;
        let rows = residual_rows(self.section, &point.name);
        let all = |ids: &ndarray::Array2<i64>| -> Option<Vec<usize>> {
            ids.iter().map(|&id| usize::try_from(id).ok()).collect()
        };
        match point.module {
            Module::WordEmbeddings => all(inputs.input_ids.as_ref()?),
            Module::TokenTypeEmbeddings => match &inputs.token_type_ids {
                Some(types) => all(types),
                None => Some(vec![0; rows]),
            },
            _ => match &inputs.position_ids {
                Some(ids) => all(ids),
                None => {
                    let (_, n) = dims(inputs)?;
                    Some((0..rows).map(|row| row % n.max(1)).collect())
                }
            },
        }
    }
}
