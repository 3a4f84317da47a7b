//! Activation functions, by the names of transformers' `ACT2FN`.

/// An activation function, by the name that configuration files give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `gelu`: x Φ(x), with the error function.
    Gelu,
    /// `gelu_new` and `gelu_pytorch_tanh`: the tanh approximation.
    GeluTanh,
    /// `gelu_fast`: the tanh approximation with other constants, equal up to rounding.
    GeluFast,
    /// `relu`.
    Relu,
    /// `silu` and `swish`: x σ(x).
    Silu,
    /// `tanh`.
    Tanh,
    /// `mish`: x tanh(ln(1 + eˣ)).
    Mish,
    /// `linear`: the identity.
    Linear,
    /// `sigmoid`.
    Sigmoid,
}

impl Activation {
    /// The names that [`Activation::from_name`] accepts.
    pub const NAMES: [&'static str; 11] = [
        "gelu",
        "gelu_new",
        "gelu_pytorch_tanh",
        "gelu_fast",
        "relu",
        "silu",
        "swish",
        "tanh",
        "mish",
        "linear",
        "sigmoid",
    ];

    /// The activation of that name in transformers' `ACT2FN`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "gelu_fast" => Activation::GeluFast,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "tanh" => Activation::Tanh,
            "mish" => Activation::Mish,
            "linear" => Activation::Linear,
            "sigmoid" => Activation::Sigmoid,
            _ => return None,
        })
    }
}
