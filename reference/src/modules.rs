//! The modules of a model: what they are called, once for all who ask for parameters and activations by name. The model
//! itself loads and records its parts under the same names, word by word.
//!
//! A parameter's name is the path of its module and a word, `…attention.self.in_proj.weight`; an activation's name is the
//! path of the module whose output it is. Paths are those of transformers 4.57.6; quantities inside of the attention, which
//! no module returns, have a word of their own: `…attention.self.c2p`.

use std::fmt;

use crate::config::DebertaConfig;

/// Where a module stands, which decides what comes before its path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Before the layers: `embeddings.LayerNorm`, under a head `deberta.embeddings.LayerNorm`.
    Base,
    /// The table that the layers look relative positions up in: `encoder.rel_embeddings`.
    Table,
    /// In every layer: `encoder.layer.0.output.dense`, and in every step of the mask decoder, `emd.0.output.dense`.
    Layer,
    /// Behind the first layer alone: `encoder.conv`.
    Convolution,
    /// On the base model: `classifier`.
    Head,
}

macro_rules! modules {
    ($($group:ident { $($module:ident $path:literal,)* })*) => {
        /// A module, or a quantity inside of one. In the order of execution.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Module {
            $($(#[doc = concat!("`", $path, "`")] $module,)*)*
        }

        impl Module {
            /// All modules.
            pub const ALL: &[Module] = &[$($(Module::$module,)*)*];

            /// The path below the base model, the layer or the class: `attention.self.in_proj`. That of a layer is empty.
            pub fn path(self) -> &'static str {
                match self { $($(Module::$module => $path,)*)* }
            }

            fn group(self) -> Group {
                match self { $($(Module::$module => Group::$group,)*)* }
            }
        }
    };
}

modules! {
    Base {
        WordEmbeddings "embeddings.word_embeddings",
        PositionEmbeddings "embeddings.position_embeddings",
        TokenTypeEmbeddings "embeddings.token_type_embeddings",
        EmbedProj "embeddings.embed_proj",
        EmbeddingsLayerNorm "embeddings.LayerNorm",
        Embeddings "embeddings",
    }
    Table {
        RelEmbeddings "encoder.rel_embeddings",
        TableLayerNorm "encoder.LayerNorm",
    }
    Layer {
        InProj "attention.self.in_proj",
        QueryProj "attention.self.query_proj",
        KeyProj "attention.self.key_proj",
        ValueProj "attention.self.value_proj",
        PosProj "attention.self.pos_proj",
        PosQProj "attention.self.pos_q_proj",
        PosKeyProj "attention.self.pos_key_proj",
        PosQueryProj "attention.self.pos_query_proj",
        C2c "attention.self.c2c",
        C2p "attention.self.c2p",
        P2c "attention.self.p2c",
        Scores "attention.self.scores",
        HeadLogitsProj "attention.self.head_logits_proj",
        Probs "attention.self.probs",
        HeadWeightsProj "attention.self.head_weights_proj",
        SelfAttention "attention.self",
        AttentionDense "attention.output.dense",
        AttentionLayerNorm "attention.output.LayerNorm",
        AttentionOutput "attention.output",
        Attention "attention",
        IntermediateDense "intermediate.dense",
        Intermediate "intermediate",
        OutputDense "output.dense",
        OutputLayerNorm "output.LayerNorm",
        Output "output",
        Layer "",
    }
    Convolution {
        Conv "encoder.conv.conv",
        ConvLayerNorm "encoder.conv.LayerNorm",
        Convolution "encoder.conv",
    }
    Head {
        TransformDense "cls.predictions.transform.dense",
        TransformLayerNorm "cls.predictions.transform.LayerNorm",
        Transform "cls.predictions.transform",
        Decoder "cls.predictions.decoder",
        Predictions "cls.predictions",
        Cls "cls",
        LmDense "lm_predictions.lm_head.dense",
        LmLayerNorm "lm_predictions.lm_head.LayerNorm",
        LmHead "lm_predictions.lm_head",
        LmPredictions "lm_predictions",
        PoolerDense "pooler.dense",
        Pooler "pooler",
        Classifier "classifier",
        QaOutputs "qa_outputs",
        MaskPredictionsLayerNorm "mask_predictions.LayerNorm",
        MaskPredictionsDense "mask_predictions.dense",
        MaskPredictionsClassifier "mask_predictions.classifier",
        MaskPredictions "mask_predictions",
    }
}

impl Module {
    /// Whether every layer has one.
    pub fn in_layers(self) -> bool {
        self.group() == Group::Layer
    }

    /// Whether it stands on the base model.
    pub fn in_head(self) -> bool {
        self.group() == Group::Head
    }

    /// Whether it is a LayerNorm.
    pub fn is_norm(self) -> bool {
        use Module::*;
        matches!(
            self,
            EmbeddingsLayerNorm
                | TableLayerNorm
                | AttentionLayerNorm
                | OutputLayerNorm
                | ConvLayerNorm
                | TransformLayerNorm
                | LmLayerNorm
                | MaskPredictionsLayerNorm
        )
    }

    /// The whole path; `base` comes before the base model's modules ([`Head::base_prefix`](crate::Head::base_prefix)),
    /// `layer` is the number of the layer, where there is one.
    ///
    /// ```
    /// use deberta_reference::Module;
    /// assert_eq!(Module::InProj.at("deberta.", 3), "deberta.encoder.layer.3.attention.self.in_proj");
    /// assert_eq!(Module::Layer.at("", 0), "encoder.layer.0");
    /// assert_eq!(Module::Pooler.at("deberta.", 0), "pooler");
    /// ```
    pub fn at(self, base: &str, layer: usize) -> String {
        match (self.group(), self.path()) {
            (Group::Base | Group::Table | Group::Convolution, path) => format!("{base}{path}"),
            (Group::Layer, "") => format!("{base}encoder.layer.{layer}"),
            (Group::Layer, path) => format!("{base}encoder.layer.{layer}.{path}"),
            (Group::Head, path) => path.to_owned(),
        }
    }
}

/// A part of a model, in the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Before the layers.
    Embeddings,
    /// The relative position table, as the layers get it.
    Table,
    /// A layer of the encoder; the first one with the convolution behind it, if there is one.
    Layer(usize),
    /// A step of the enhanced mask decoder: the last layer, applied once more.
    Step(usize),
    /// What stands on the base model.
    Head,
}

impl Stage {
    /// The whole path of a module in this stage; `base` as in [`Module::at`].
    pub fn path(self, base: &str, module: Module) -> String {
        match self {
            Stage::Step(step) if module == Module::Layer => format!("emd.{step}"),
            Stage::Step(step) => format!("emd.{step}.{}", module.path()),
            Stage::Layer(layer) => module.at(base, layer),
            Stage::Embeddings | Stage::Table | Stage::Head => module.at(base, 0),
        }
    }

    /// Whether the stage has the module.
    pub fn has(self, module: Module) -> bool {
        match module.group() {
            Group::Base => self == Stage::Embeddings,
            Group::Table => self == Stage::Table,
            Group::Layer => matches!(self, Stage::Layer(_) | Stage::Step(_)),
            Group::Convolution => self == Stage::Layer(0),
            Group::Head => self == Stage::Head,
        }
    }

    /// Where `outputs.hidden_states.i` is computed: 0 by the embeddings, 1 by layer 0 and what is behind it, and so on.
    pub fn of_state(i: usize) -> Stage {
        i.checked_sub(1).map_or(Stage::Embeddings, Stage::Layer)
    }

    /// The path of the module whose output is `outputs.hidden_states.i`; `base` as in [`Module::at`].
    ///
    /// ```
    /// use deberta_reference::{DebertaConfig, Stage};
    /// let config = DebertaConfig::from_json("{}")?;
    /// assert_eq!(Stage::state_path("deberta.", 0, &config), "deberta.embeddings");
    /// assert_eq!(Stage::state_path("deberta.", 1, &config), "deberta.encoder.layer.0");
    /// let config = DebertaConfig::from_json(r#"{"model_type": "deberta-v2", "conv_kernel_size": 3}"#)?;
    /// assert_eq!(Stage::state_path("deberta.", 1, &config), "deberta.encoder.conv");
    /// assert_eq!(Stage::state_path("deberta.", 2, &config), "deberta.encoder.layer.1");
    /// # Ok::<(), deberta_reference::config::ConfigError>(())
    /// ```
    pub fn state_path(base: &str, i: usize, config: &DebertaConfig) -> String {
        let stage = Stage::of_state(i);
        let module = match stage {
            Stage::Embeddings => Module::Embeddings,
            Stage::Layer(0) if config.convolution.is_some() => Module::Convolution,
            _ => Module::Layer,
        };
        stage.path(base, module)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Embeddings => f.write_str("embeddings"),
            Stage::Table => f.write_str("relative positions"),
            Stage::Layer(layer) => write!(f, "layer {layer}"),
            Stage::Step(step) => write!(f, "decoder step {step}"),
            Stage::Head => f.write_str("head"),
        }
    }
}

/// The stage and the module of a whole path, with or without `deberta.` before the base model.
///
/// ```
/// use deberta_reference::{Module, Stage, locate};
/// assert_eq!(locate("deberta.encoder.layer.3.output"), Some((Stage::Layer(3), Module::Output)));
/// assert_eq!(locate("emd.1"), Some((Stage::Step(1), Module::Layer)));
/// assert_eq!(locate("encoder.conv"), Some((Stage::Layer(0), Module::Convolution)));
/// assert_eq!(locate("pooler.weight"), None);
/// ```
pub fn locate(path: &str) -> Option<(Stage, Module)> {
    let path = path.strip_prefix("deberta.").unwrap_or(path);
    let in_stage = |stage: Stage, path: &str| {
        let mut modules = Module::ALL.iter().copied();
        modules.find(|&module| stage.has(module) && module.path() == path).map(|module| (stage, module))
    };
    let numbered = |rest: &str, stage: fn(usize) -> Stage| {
        let (number, path) = rest.split_once('.').unwrap_or((rest, ""));
        in_stage(stage(number.parse().ok()?), path)
    };
    if let Some(rest) = path.strip_prefix("encoder.layer.") {
        numbered(rest, Stage::Layer)
    } else if let Some(rest) = path.strip_prefix("emd.") {
        numbered(rest, Stage::Step)
    } else {
        let stages = [Stage::Embeddings, Stage::Table, Stage::Layer(0), Stage::Head];
        let apart = |(_, module): &(Stage, Module)| !module.in_layers();
        stages.into_iter().find_map(|stage| in_stage(stage, path).filter(apart))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_back_to_its_module() {
        for &module in Module::ALL {
            use Stage::*;
            let stages = [Embeddings, Table, Layer(0), Layer(11), Step(1), Head];
            for stage in stages.into_iter().filter(|stage| stage.has(module)) {
                assert_eq!(locate(&stage.path("deberta.", module)), Some((stage, module)));
                assert_eq!(locate(&stage.path("", module)), Some((stage, module)));
            }
        }
        assert_eq!(locate("encoder.layer.x.output"), None);
        assert_eq!(locate("encoder.layer.1.pooler"), None);
        assert_eq!(locate("output.dense"), None);
        assert_eq!(locate(""), None);
    }
}
