//! What a graph is given: its inputs, from those of a model.

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::Inputs;
use ndarray::{Array2, ArrayD, Ix2};
use rten::{DataType, Dimension, Model, NodeId, Value, ValueType};
use rten_tensor::NdTensor;

/// The inputs of a graph.
pub(super) struct Feed {
    slots: Vec<Slot>,
}

struct Slot {
    name: String,
    id: NodeId,
    /// Whether it takes floating-point numbers.
    floats: bool,
    shape: Option<Vec<Dimension>>,
}

impl Feed {
    /// The inputs of `model`; older files list their initializers among them.
    ///
    /// # Errors
    /// An input that no model of this architecture has.
    pub(super) fn of(model: &Model, initializers: &[String]) -> Result<Feed> {
        let mut slots = Vec::new();
        for &id in model.input_ids() {
            let Some(node) = model.node_info(id) else { continue };
            let name = node.name().unwrap_or_default().to_owned();
            if initializers.contains(&name) {
                continue;
            }
            if !["input_ids", "attention_mask", "token_type_ids"].contains(&name.as_str()) {
                let why = format!("the graph has an input {name:?}: this model has no such input");
                return Err(Error::unsupported(why));
            }
            let floats = node.dtype() == Some(ValueType::Tensor(DataType::Float));
            slots.push(Slot { name, id, floats, shape: node.shape() });
        }
        Ok(Feed { slots })
    }

    /// The values for all inputs: a mask of ones and token types of zero where none are given.
    ///
    /// # Errors
    /// Inputs that the graph does not have or that do not fit it, by name.
    pub(super) fn values(&self, inputs: &Inputs) -> Result<Vec<(NodeId, Value)>> {
        let refused = |name: &str, why: &str| Err(Error::new(Kind::Request, format!("{name}: {why}")));
        let Inputs { input_ids, inputs_embeds, attention_mask, token_type_ids, position_ids, .. } = inputs;
        let others = [
            ("inputs_embeds", inputs_embeds.is_some()),
            ("position_ids", position_ids.is_some()),
            ("labels", inputs.labels.is_some()),
            ("start_positions", inputs.start_positions.is_some()),
            ("end_positions", inputs.end_positions.is_some()),
        ];
        if let Some((name, _)) = others.into_iter().find(|&(_, given)| given) {
            return refused(name, "the graph has no such input");
        }
        let Some(ids) = input_ids else { return refused("input_ids", "not given") };
        let mask = attention_mask.as_ref().map(mask).transpose()?;
        let has = |name: &str| self.slots.iter().any(|slot| slot.name == name);
        let given = |values: Option<&Array2<i64>>, unless| {
            values.is_some_and(|values| values.iter().any(|&value| value != unless))
        };
        if given(mask.as_ref(), 1) && !has("attention_mask") {
            return refused("attention_mask", "the graph has no such input");
        }
        if given(token_type_ids.as_ref(), 0) && !has("token_type_ids") {
            return refused("token_type_ids", "the graph has no such input");
        }
        let value = |slot: &Slot| {
            let values = match slot.name.as_str() {
                "input_ids" => ids.clone(),
                "attention_mask" => mask.clone().unwrap_or_else(|| Array2::ones(ids.dim())),
                _ => token_type_ids.clone().unwrap_or_else(|| Array2::zeros(ids.dim())),
            };
            Ok((slot.id, slot.value(&values)?))
        };
        self.slots.iter().map(value).collect()
    }
}

impl Slot {
    fn value(&self, values: &Array2<i64>) -> Result<Value> {
        let (b, n) = values.dim();
        let fits = |(dim, &length): (&Dimension, &usize)| match dim {
            Dimension::Fixed(fixed) => *fixed == length,
            Dimension::Symbolic(_) => true,
        };
        if let Some(shape) = &self.shape
            && !(shape.len() == 2 && shape.iter().zip(&[b, n]).all(fits))
        {
            let why = format!("{} is declared {shape:?}: the graph does not take [{b}, {n}]", self.name);
            return Err(Error::new(Kind::Model, why));
        }
        if self.floats {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            return Ok(NdTensor::from_data([b, n], values).into());
        }
        let narrow = |&value: &i64| {
            i32::try_from(value).map_err(|_| {
                Error::new(
                    Kind::Request,
                    format!("{}: the runtime has no numbers as large as {value}", self.name),
                )
            })
        };
        let values = values.iter().map(narrow).collect::<Result<Vec<i32>>>()?;
        Ok(NdTensor::from_data([b, n], values).into())
    }
}

/// A mask as a graph takes it: integers, for every token one.
fn mask(mask: &ArrayD<f32>) -> Result<Array2<i64>> {
    let refused = |why: String| Error::new(Kind::Request, format!("attention_mask: {why}"));
    if let Some(value) = mask.iter().find(|value| value.fract() != 0.0 || value.abs() > 1e6) {
        return Err(refused(format!("the graph takes integers, this has {value}")));
    }
    let integers = mask.mapv(|value| value as i64);
    let shape = mask.shape().to_vec();
    integers
        .into_dimensionality::<Ix2>()
        .map_err(|_| refused(format!("the graph takes [batch, sequence], this has shape {shape:?}")))
}
