//! Tasks by name, and what can be said about them.

use std::fmt;
use std::path::PathBuf;

use deberta_converters::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::Task;
use super::choices::MultipleChoice;
use super::classify::{Classify, Columns};
use super::masked_lm::{Decoder, MaskedLm};
use super::metric::entities::Scheme;
use super::mnli::Mnli;
use super::replaced_tokens::ReplacedTokens;
use super::squad::{self, NullThreshold, Squad};
use super::stsb::Stsb;
use super::tokens::TokenClassification;
use super::zero_shot::ZeroShot;

/// Tasks by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// Texts or pairs with one label, of any table or JSON: accuracy and F1
    Classify,
    /// Natural language inference: accuracy
    Mnli,
    /// Answers in a text, SQuAD 1.1 and 2.0: exact match and F1
    Squad,
    /// Token classification, CoNLL files: precision, recall and F1 of entities
    Tokens,
    /// Articles with questions and their choices: accuracy
    Race,
    /// Endings of a story to choose from, SWAG and HellaSwag: accuracy
    Swag,
    /// Similarity of sentences: Pearson's and Spearman's coefficients
    Stsb,
    /// Masked language modelling, a text a line: pseudo-perplexity
    Mlm,
    /// Labels that a model of inference was not trained on: accuracy, or F1 of several labels
    ZeroShot,
    /// Replaced token detection: accuracy, precision, recall and F1
    Rtd,
}

/// What concerns single tasks.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Options of single tasks"))]
#[serde(deny_unknown_fields, default)]
pub struct TaskOptions {
    /// classify, mnli: names of the data's labels, in the order of their numbers, where the data has numbers; zero-shot: the same, and
    /// the candidate labels, which are those of the data when not given
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME,…", value_delimiter = ','))]
    pub labels: Option<Vec<String>>,
    /// classify: the column of the text; text, sentence, sentence1, premise and the like when not given
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub text_column: Option<String>,
    /// classify: the column of the second text, of pairs; that which goes with the first when neither is given
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub text_pair_column: Option<String>,
    /// classify: the column of the label; label, labels, gold_label, target or class when not given
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub label_column: Option<String>,
    /// squad: tokens that a window shares with the next; a third of --max-length when not given
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub doc_stride: Option<usize>,
    /// squad: tokens of a question, at most [default: 64]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub max_query_length: Option<usize>,
    /// squad: tokens of an answer, at most [default: 30]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub max_answer_length: Option<usize>,
    /// squad: starts and ends that are combined [default: 20]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub n_best: Option<usize>,
    /// squad: give no answer where it is preferred by more than this; a number, best-exact or best-f1 [default: 0]
    #[cfg_attr(feature = "cli", arg(long, value_name = "T", allow_negative_numbers = true))]
    #[serde(deserialize_with = "null_threshold")]
    pub null_threshold: Option<NullThreshold>,
    /// tokens: how tags spell entities [default: lenient]
    #[cfg_attr(feature = "cli", arg(long, value_enum))]
    pub scheme: Option<Scheme>,
    /// mlm: what guesses masked tokens; the mask decoder if the model has its parameters, when not given
    #[cfg_attr(feature = "cli", arg(long, value_enum))]
    pub decoder: Option<Decoder>,
    /// zero-shot: the hypothesis that a label makes [default: This example is {}.]
    #[cfg_attr(feature = "cli", arg(long, value_name = "TEXT"))]
    pub hypothesis_template: Option<String>,
    /// zero-shot: judge every label by itself, since any number of them may fit
    #[cfg_attr(feature = "cli", arg(long))]
    pub multi_label: bool,
    /// rtd: draws the replacements of texts that have none [default: 0]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub seed: Option<u64>,
}

impl TaskName {
    /// The task with its data, of each file as many examples as `limit` says.
    ///
    /// # Errors
    /// No files; options of another task; data that are not of the task's form.
    pub fn read(
        self,
        files: &[PathBuf],
        limit: Option<usize>,
        options: &TaskOptions,
    ) -> Result<Box<dyn Task>> {
        self.check(options)?;
        if files.is_empty() {
            return Err(Error::new(Kind::Request, "no data: --data names files"));
        }
        let TaskOptions { labels, scheme, decoder, hypothesis_template, .. } = options;
        Ok(match self {
            TaskName::Classify => {
                Box::new(Classify::read(files, limit, &options.columns(), labels.as_deref())?)
            }
            TaskName::Mnli => Box::new(Mnli::read(files, limit, labels.as_deref())?),
            TaskName::Squad => Box::new(Squad::read(files, limit, options.squad()?)?),
            TaskName::Tokens => {
                Box::new(TokenClassification::read(files, limit, scheme.unwrap_or_default())?)
            }
            TaskName::Race => Box::new(MultipleChoice::race(files, limit)?),
            TaskName::Swag => Box::new(MultipleChoice::swag(files, limit)?),
            TaskName::Stsb => Box::new(Stsb::read(files, limit)?),
            TaskName::Mlm => Box::new(MaskedLm::read(files, limit, *decoder)?),
            TaskName::ZeroShot => {
                let (template, multi_label) = (hypothesis_template.as_deref(), options.multi_label);
                Box::new(ZeroShot::read(files, limit, labels.as_deref(), template, multi_label)?)
            }
            TaskName::Rtd => Box::new(ReplacedTokens::read(files, limit, options.seed.unwrap_or(0))?),
        })
    }

    /// Checks that the options are those of the task.
    ///
    /// # Errors
    /// The first that is of another one.
    pub fn check(self, options: &TaskOptions) -> Result<()> {
        use TaskName::{Mlm, Mnli, Rtd, Squad, Tokens, ZeroShot};
        let given: [(&[TaskName], _, _); 14] = [
            (&[TaskName::Classify], "text-column", options.text_column.is_some()),
            (&[TaskName::Classify], "text-pair-column", options.text_pair_column.is_some()),
            (&[TaskName::Classify], "label-column", options.label_column.is_some()),
            (&[TaskName::Classify, Mnli, ZeroShot], "labels", options.labels.is_some()),
            (&[Squad], "doc-stride", options.doc_stride.is_some()),
            (&[Squad], "max-query-length", options.max_query_length.is_some()),
            (&[Squad], "max-answer-length", options.max_answer_length.is_some()),
            (&[Squad], "n-best", options.n_best.is_some()),
            (&[Squad], "null-threshold", options.null_threshold.is_some()),
            (&[Tokens], "scheme", options.scheme.is_some()),
            (&[Mlm], "decoder", options.decoder.is_some()),
            (&[ZeroShot], "hypothesis-template", options.hypothesis_template.is_some()),
            (&[ZeroShot], "multi-label", options.multi_label),
            (&[Rtd], "seed", options.seed.is_some()),
        ];
        match given.into_iter().find(|(tasks, _, given)| *given && !tasks.contains(&self)) {
            Some((tasks, option, _)) => {
                let tasks = tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
                Err(Error::new(Kind::Request, format!("{option} is an option of {tasks}, not of {self}")))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl TaskOptions {
    fn columns(&self) -> Columns {
        Columns {
            text: self.text_column.clone(),
            pair: self.text_pair_column.clone(),
            label: self.label_column.clone(),
        }
    }

    fn squad(&self) -> Result<squad::Options> {
        let usual = squad::Options::default();
        let options = squad::Options {
            doc_stride: self.doc_stride,
            max_query_length: self.max_query_length.unwrap_or(usual.max_query_length),
            max_answer_length: self.max_answer_length.unwrap_or(usual.max_answer_length),
            n_best: self.n_best.unwrap_or(usual.n_best),
            null_threshold: self.null_threshold.unwrap_or(usual.null_threshold),
        };
        let zero = [
            ("max-query-length", options.max_query_length),
            ("max-answer-length", options.max_answer_length),
            ("n-best", options.n_best),
        ];
        match zero.into_iter().find(|&(_, value)| value == 0) {
            Some((name, _)) => Err(Error::new(Kind::Request, format!("{name} is 0, at least 1 is needed"))),
            None => Ok(options),
        }
    }
}

/// A number, or the words of the command line.
fn null_threshold<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<NullThreshold>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Number(f64),
        Word(String),
    }
    let text = match Said::deserialize(deserializer)? {
        Said::Number(number) => number.to_string(),
        Said::Word(word) => word,
    };
    text.parse().map(Some).map_err(serde::de::Error::custom)
}
