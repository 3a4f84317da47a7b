//! docs/activations.md says what the code does: names, shapes, conditions and order of all probe points and outputs.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod tables;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;

use deberta_reference::tf::TFLoss;
use deberta_reference::*;
use ndarray::{Array1, Array2, Array3, ArrayD};
use tables::{code, read, rows};

/// A row of docs/activations.md.
struct Point {
    name: String,
    shapes: Vec<String>,
    conditions: Vec<String>,
}

fn points() -> Vec<Point> {
    let text = read("docs/activations.md");
    let owned = |words: Vec<&str>| words.into_iter().map(|word| word.trim().to_owned()).collect();
    rows(&text)
        .into_iter()
        .map(|cells| {
            assert_eq!(cells.len(), 4, "{cells:?}");
            let [name] = code(cells[0])[..] else { panic!("{cells:?}") };
            Point {
                name: name.to_owned(),
                shapes: owned(code(cells[1])),
                conditions: owned(cells[2].split(',').collect()),
            }
        })
        .collect()
}

/// Small different numbers for every parameter.
struct Random(Vec<Param>);

impl TensorSource for Random {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|param| param.name.clone()).collect()
    }

    fn tensor(&self, name: &str) -> std::result::Result<Option<Tensor>, Box<dyn Error + Send + Sync>> {
        Ok(self.0.iter().find(|param| param.name == name).map(|param| {
            let count = param.shape.iter().product();
            let mut state = name.len() as u32 + 1;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            Tensor::new(param.shape.clone(), (0..count).map(|_| next()).collect())
        }))
    }
}

/// b, n: unlike each other and all other dimensions, so that no shape is right by chance.
const B: usize = 2;
const N: usize = 7;

const BASE: &str = r#"{"vocab_size": 40, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 20, "max_position_embeddings": 16, "max_relative_positions": 5, "num_labels": 6"#;

/// One model and what it is run on.
struct Run {
    class: &'static str,
    config: DebertaConfig,
    inputs: Inputs,
}

impl Run {
    /// The keys of `more` are added to the configuration.
    fn new(class: &'static str, more: &str) -> Run {
        let config = DebertaConfig::from_json(&format!("{BASE}{more}}}")).unwrap();
        let ids = Array2::from_shape_fn((B, N), |(i, j)| (i * N + j) as i64);
        let inputs = Inputs { output_hidden_states: true, output_attentions: true, ..Inputs::from_ids(ids) };
        Run { class, config, inputs }
    }

    /// All sequences are the answers to one question.
    fn with_choices(mut self) -> Run {
        self.inputs.choices = Some(B);
        self.with_labels(&[1])
    }

    fn with_labels(mut self, shape: &[usize]) -> Run {
        self.inputs.labels = Some(Labels::Classes(ArrayD::ones(shape)));
        self.inputs.start_positions = Some(Array1::ones(B));
        self.inputs.end_positions = Some(Array1::ones(B));
        self
    }

    /// Name and shape of all outputs and activations.
    fn recorded(&self) -> Vec<(String, Vec<usize>)> {
        match self.class {
            "DebertaModel" => self.pytorch::<DebertaModel>(),
            "DebertaForMaskedLM" => self.pytorch::<DebertaForMaskedLM>(),
            "DebertaForSequenceClassification" => self.pytorch::<DebertaForSequenceClassification>(),
            "DebertaForTokenClassification" => self.pytorch::<DebertaForTokenClassification>(),
            "DebertaForQuestionAnswering" => self.pytorch::<DebertaForQuestionAnswering>(),
            "DebertaForMultipleChoice" => self.pytorch::<DebertaForMultipleChoice>(),
            "ReplacedTokenDetectionModel" => self.pytorch::<ReplacedTokenDetectionModel>(),
            "TFDebertaForMultipleChoice" => self.tensorflow::<DebertaForMultipleChoice>(),
            "TFDebertaModel" => self.tensorflow::<DebertaModel>(),
            "TFDebertaForMaskedLM" => self.tensorflow::<DebertaForMaskedLM>(),
            "TFDebertaForSequenceClassification" => self.tensorflow::<DebertaForSequenceClassification>(),
            "TFDebertaForTokenClassification" => self.tensorflow::<DebertaForTokenClassification>(),
            "TFDebertaForQuestionAnswering" => self.tensorflow::<DebertaForQuestionAnswering>(),
            "EnhancedMaskDecoder" => {
                let config = DebertaConfig { legacy: false, ..self.config.clone() };
                let source = Random(params(&config, Head::MaskedLm));
                let (model, _) = EnhancedMaskDecoder::from_pretrained(config, &source).unwrap();
                named(|probe| model.forward(&self.inputs, probe))
            }
            other => panic!("no class {other}"),
        }
    }

    fn pytorch<M: DebertaPreTrainedModel>(&self) -> Vec<(String, Vec<usize>)> {
        let source = Random(params(&self.config, M::HEAD));
        let (model, _) = M::from_pretrained(self.config.clone(), &source).unwrap();
        named(|probe| model.forward(&self.inputs, probe))
    }

    fn tensorflow<M: TFLoss>(&self) -> Vec<(String, Vec<usize>)> {
        let source = Random(params(&self.config, M::HEAD));
        let (model, _) =
            TFDebertaPreTrainedModel::<M>::from_pretrained(self.config.clone(), &source).unwrap();
        named(|probe| model.call(&self.inputs, probe))
    }

    fn is(&self, class: &str) -> bool {
        self.class.trim_start_matches("TF") == class
    }

    /// Whether a condition of the document holds.
    fn holds(&self, condition: &str) -> bool {
        let (config, inputs) = (&self.config, &self.inputs);
        let decoder = self.is("EnhancedMaskDecoder");
        match condition {
            "always" => true,
            "`input_ids`" => inputs.input_ids.is_some(),
            "`position_biased_input`" => config.position_biased_input,
            "T > 0" => config.type_vocab_size > 0,
            "E ≠ H" => config.embedding_size != config.hidden_size,
            "c2p" | "p2c" => config.relative_attention && config.pos_att_type.iter().any(|x| x == condition),
            "talking heads" => config.talking_head,
            "mask decoder's step" => decoder && !config.position_biased_input,
            "version 1" => config.has_in_proj(),
            "version 2" => !config.has_in_proj(),
            "normalised table" => config.norm_rel_ebd && config.relative_attention,
            "convolution" => config.convolution.is_some(),
            "pooler" => self.holds("sequence classification") || self.holds("multiple choice"),
            "multiple choice" => self.is("DebertaForMultipleChoice"),
            "replaced tokens" => self.is("ReplacedTokenDetectionModel"),
            "legacy head" => self.is("DebertaForMaskedLM") && config.legacy,
            "new head" => decoder || (self.is("DebertaForMaskedLM") && !config.legacy),
            "sequence classification" => self.is("DebertaForSequenceClassification"),
            "token classification" => self.is("DebertaForTokenClassification"),
            "question answering" => self.is("DebertaForQuestionAnswering"),
            "base model" => self.is("DebertaModel"),
            "labels" => inputs.labels.is_some(),
            "`output_hidden_states`" => inputs.output_hidden_states,
            "`output_attentions`" => inputs.output_attentions,
            other => panic!("docs/activations.md: unknown condition {other:?}"),
        }
    }

    /// The lengths of a shape like `[b, n, 3H]`.
    fn shape(&self, text: &str) -> Vec<usize> {
        let choices = self.inputs.choices.unwrap_or(1);
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap();
        let axes = inner.split(',').map(str::trim).filter(|axis| !axis.is_empty());
        axes.map(|axis| {
            let letter = axis.trim_start_matches(|c: char| c.is_ascii_digit());
            let digits = &axis[..axis.len() - letter.len()];
            let factor = if digits.is_empty() { 1 } else { digits.parse().unwrap() };
            factor
                * match letter {
                    "" => 1,
                    "b" => B,
                    "b/c" => B / choices,
                    "c" => choices,
                    "n" => N,
                    "S" => self.config.distances().span(),
                    "s" => N.min(self.config.max_relative()),
                    "H" => self.config.hidden_size,
                    "E" => self.config.embedding_size,
                    "I" => self.config.intermediate_size,
                    "h" => self.config.num_attention_heads,
                    "V" => self.config.vocab_size,
                    "C" => self.config.num_labels,
                    other => panic!("{text}: no letter {other:?}"),
                }
        })
        .collect()
    }

    /// Every name that the document promises for this run.
    fn promised(&self, points: &[Point]) -> BTreeSet<String> {
        let layers = self.config.num_hidden_layers;
        let prefix = if self.is("DebertaModel") { "" } else { "deberta." };
        let mut names = BTreeSet::new();
        for point in points.iter().filter(|point| point.conditions.iter().all(|x| self.holds(x))) {
            let name = &point.name;
            if let Some(rest) = name.strip_prefix("encoder.layer.i") {
                names.extend((0..layers).map(|i| format!("{prefix}encoder.layer.{i}{rest}")));
                if self.holds("mask decoder's step") {
                    names.extend((0..2).map(|t| format!("emd.{t}{rest}")));
                }
            } else if let Some(rest) = name.strip_prefix("emd.t") {
                names.extend((0..2).map(|t| format!("emd.{t}{rest}")));
            } else if let Some(rest) = name.strip_suffix(".i") {
                let count = if rest.ends_with("hidden_states") { layers + 1 } else { layers };
                names.extend((0..count).map(|i| format!("{rest}.{i}")));
            } else if name.starts_with("embeddings") || name.starts_with("encoder.") {
                names.insert(format!("{prefix}{name}"));
            } else {
                names.insert(name.clone());
            }
        }
        names
    }

    /// The name as the document writes it: letters for numbers, a layer for a step of the mask decoder, no prefix.
    fn generic(&self, name: &str) -> String {
        let name = name.strip_prefix("deberta.").unwrap_or(name);
        let place = place(name);
        match place {
            "" => match name.rsplit_once('.') {
                Some((rest, number)) if number.parse::<usize>().is_ok() => format!("{rest}.i"),
                _ => name.to_owned(),
            },
            _ if self.config.has_in_proj() && name == format!("{place}.attention.self.query_proj") => {
                "emd.t.attention.self.query_proj".into()
            }
            _ => format!("encoder.layer.i{}", &name[place.len()..]),
        }
    }

    /// The row of the document for a recorded name.
    fn row(&self, points: &[Point], name: &str) -> usize {
        let plain = self.generic(name);
        let fits = |point: &Point| point.name == plain && point.conditions.iter().all(|x| self.holds(x));
        let rows: Vec<usize> = (0..points.len()).filter(|row| fits(&points[*row])).collect();
        let [row] = rows[..] else { panic!("{}: {name} ({plain}) is in {} rows", self.class, rows.len()) };
        row
    }
}

fn named<O: ModelOutput>(run: impl FnOnce(&mut Probe<'_>) -> Result<O>) -> Vec<(String, Vec<usize>)> {
    let mut trace = Trace::of_everything();
    let output = run(&mut trace.probe()).unwrap();
    let tensors = output.tensors();
    let outputs = tensors.iter().map(|(name, x)| (format!("outputs.{name}"), x.shape().to_vec()));
    let activations = trace.activations.iter().map(|(name, x)| (name.clone(), x.shape().to_vec()));
    activations.chain(outputs).collect()
}

/// The layer or step that a name belongs to, if any.
fn place(name: &str) -> &str {
    let start = name.strip_prefix("deberta.").unwrap_or(name);
    ["encoder.layer.", "emd."]
        .into_iter()
        .find_map(|prefix| {
            let number = start.strip_prefix(prefix)?.split('.').next()?;
            Some(&start[..prefix.len() + number.len()])
        })
        .unwrap_or("")
}

fn runs() -> Vec<Run> {
    let relative = r#", "relative_attention": true, "position_biased_input": false, "type_vocab_size": 3"#;
    let (c2p, p2c) = (r#", "pos_att_type": "c2p""#, r#", "pos_att_type": ["p2c"]"#);
    let both = &format!(r#"{relative}, "pos_att_type": "c2p|p2c""#);
    let narrow = r#", "embedding_size": 8, "talking_head": true, "relative_attention": true"#;
    let mut runs = vec![
        Run::new("DebertaModel", ""),
        Run::new("DebertaModel", both),
        Run::new("DebertaModel", &format!("{narrow}{c2p}")),
        Run::new("DebertaModel", &format!("{narrow}{p2c}")),
        Run::new("DebertaModel", c2p),
        Run::new("TFDebertaModel", both),
        Run::new("DebertaForMaskedLM", &format!("{narrow}{c2p}")).with_labels(&[B, N]),
        Run::new("DebertaForMaskedLM", &format!(r#"{narrow}{c2p}, "tie_word_embeddings": false"#)),
        Run::new("DebertaForMaskedLM", &format!(r#"{both}, "legacy": false"#)),
        Run::new("TFDebertaForMaskedLM", both).with_labels(&[B, N]),
        Run::new("DebertaForSequenceClassification", both).with_labels(&[B]),
        Run::new("DebertaForSequenceClassification", both),
        Run::new("TFDebertaForSequenceClassification", both).with_labels(&[B]),
        Run::new("DebertaForTokenClassification", both).with_labels(&[B, N]),
        Run::new("TFDebertaForTokenClassification", both).with_labels(&[B, N]),
        Run::new("DebertaForQuestionAnswering", both).with_labels(&[B]),
        Run::new("TFDebertaForQuestionAnswering", both).with_labels(&[B]),
        Run::new("EnhancedMaskDecoder", both).with_labels(&[B, N]),
        Run::new("EnhancedMaskDecoder", &format!(r#"{relative}{c2p}, "talking_head": true"#)),
        Run::new("EnhancedMaskDecoder", r#", "position_biased_input": true"#),
    ];
    let table = r#""relative_attention": true, "position_biased_input": false, "norm_rel_ebd": "layer_norm""#;
    let version_2 = |more: &str| format!(r#", "model_type": "deberta-v2", {table}, {more}"#);
    let buckets = r#""share_att_key": true, "position_buckets": 4, "max_relative_positions": 9"#;
    let shared = &version_2(&format!(r#"{buckets}, "pos_att_type": "p2c|c2p""#));
    let conv = &format!(r#"{shared}, "conv_kernel_size": 3"#);
    let separate = |terms: &str| version_2(&format!(r#""pos_att_type": ["{terms}"]"#));
    runs.extend([
        Run::new("DebertaModel", r#", "model_type": "deberta-v2", "norm_rel_ebd": "layer_norm""#),
        Run::new("DebertaModel", conv),
        Run::new("DebertaModel", &separate("c2p")),
        Run::new("DebertaModel", &separate("p2c")),
        Run::new("TFDebertaModel", conv),
        Run::new("DebertaForMaskedLM", shared).with_labels(&[B, N]),
        Run::new("DebertaForMultipleChoice", conv).with_choices(),
        Run::new("TFDebertaForMultipleChoice", shared).with_choices(),
        Run::new("ReplacedTokenDetectionModel", conv).with_labels(&[B, N]),
        Run::new("EnhancedMaskDecoder", conv).with_labels(&[B, N]),
    ]);
    let mut one_label = Run::new("DebertaForSequenceClassification", both).with_labels(&[B]);
    one_label.config.num_labels = 1;
    runs.push(one_label);
    let mut embeds = Run::new("DebertaModel", both);
    embeds.inputs.input_ids = None;
    embeds.inputs.inputs_embeds = Some(Array3::ones((B, N, embeds.config.embedding_size)));
    embeds.inputs.output_hidden_states = false;
    embeds.inputs.output_attentions = false;
    runs.push(embeds);
    let mut positions = Run::new("DebertaModel", "");
    positions.inputs.position_ids = Some(Array2::ones((B, N)));
    runs.push(positions);
    let mut long_span = Run::new("DebertaModel", both);
    long_span.config.max_relative_positions = -1;
    runs.push(long_span);
    runs
}

#[test]
fn the_activations_are_those_of_the_document() {
    let points = points();
    let mut unseen: BTreeSet<(usize, usize)> =
        (0..points.len()).flat_map(|row| (0..points[row].shapes.len()).map(move |x| (row, x))).collect();
    assert!(points.len() > 40 && points.iter().all(|point| !point.shapes.is_empty()));
    for run in runs() {
        let recorded = run.recorded();
        let names: BTreeSet<String> = recorded.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names.len(), recorded.len(), "{}: a name is recorded twice", run.class);
        let promised = run.promised(&points);
        let (more, less) = (names.difference(&promised), promised.difference(&names));
        let (more, less): (Vec<_>, Vec<_>) = (more.collect(), less.collect());
        assert!(
            more.is_empty() && less.is_empty(),
            "{}: not in the document {more:?}, not recorded {less:?}",
            run.class
        );

        // In each layer and each step, and in what is outside of them, the rows are in the order of execution.
        let mut last: HashMap<&str, usize> = HashMap::new();
        for (name, shape) in &recorded {
            let row = run.row(&points, name);
            let alternatives = &points[row].shapes;
            let fits = |text: &String| run.shape(text) == *shape;
            let Some(alternative) = alternatives.iter().position(fits) else {
                panic!("{}: {name} has shape {shape:?}, the document says {alternatives:?}", run.class);
            };
            unseen.remove(&(row, alternative));
            if !name.starts_with("outputs.") {
                let before = last.insert(place(name), row);
                assert!(before.is_none_or(|before| before < row), "{}: {name} is out of order", run.class);
            }
        }
    }
    let unseen: Vec<String> =
        unseen.iter().map(|(row, x)| format!("{} {}", points[*row].name, points[*row].shapes[*x])).collect();
    assert!(unseen.is_empty(), "in the document, but never seen: {unseen:?}");
}
