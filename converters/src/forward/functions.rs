//! Activation functions as nodes, in f32 whatever the dtype of the model: `activate` of `reference/src/ops.rs`.

use deberta_reference::config::Activation;

use super::graph::{Graph, Module, Value};
use crate::tensor::Dtype;

/// The activation function of every number.
pub(super) fn activate(g: &mut Graph<'_>, at: &Module, activation: Activation, x: &Value) -> Value {
    if activation == Activation::Linear {
        return x.clone();
    }
    g.in_f32(at, x, |g, x| match activation {
        Activation::Gelu => {
            // x (1 + erf(x / √2)) / 2
            let root = g.number(std::f32::consts::SQRT_2, Dtype::F32);
            let scaled = g.node(at, "Div", &[x, &root], &[]);
            let erf = g.node(at, "Erf", &[&scaled], &[]);
            half(g, at, x, &erf)
        }
        Activation::GeluTanh | Activation::GeluFast => {
            // x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2
            let factors = (g.number(0.044_715, Dtype::F32), g.number(0.797_884_6, Dtype::F32));
            let square = g.node(at, "Mul", &[x, x], &[]);
            let cube = g.node(at, "Mul", &[&square, x], &[]);
            let cube = g.node(at, "Mul", &[&cube, &factors.0], &[]);
            let inner = g.node(at, "Add", &[x, &cube], &[]);
            let inner = g.node(at, "Mul", &[&inner, &factors.1], &[]);
            let tanh = g.node(at, "Tanh", &[&inner], &[]);
            half(g, at, x, &tanh)
        }
        Activation::Relu => g.node(at, "Relu", &[x], &[]),
        Activation::Silu => {
            let sigmoid = g.node(at, "Sigmoid", &[x], &[]);
            g.node(at, "Mul", &[x, &sigmoid], &[])
        }
        Activation::Tanh => g.node(at, "Tanh", &[x], &[]),
        Activation::Mish => {
            // x tanh(ln(1 + eˣ))
            let softplus = g.node(at, "Softplus", &[x], &[]);
            let tanh = g.node(at, "Tanh", &[&softplus], &[]);
            g.node(at, "Mul", &[x, &tanh], &[])
        }
        Activation::Sigmoid => g.node(at, "Sigmoid", &[x], &[]),
        Activation::Linear => x.clone(),
    })
}

/// x (1 + f) / 2, in the order that runtimes recognise.
fn half(g: &mut Graph<'_>, at: &Module, x: &Value, f: &Value) -> Value {
    let (one, half) = (g.number(1.0, Dtype::F32), g.number(0.5, Dtype::F32));
    let sum = g.node(at, "Add", &[f, &one], &[]);
    let product = g.node(at, "Mul", &[x, &sum], &[]);
    g.node(at, "Mul", &[&product, &half], &[])
}
