//! Zero-shot classification: labels that a model of natural language inference was not trained on.
//!
//! The text is the premise, and every label makes a hypothesis, such as "This example is sport.": the label fits as far as
//! the text entails the hypothesis.
//!
//! Source: transformers 4.57.6, `pipelines/zero_shot_classification.py`, class `ZeroShotClassificationPipeline`.

use std::path::PathBuf;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Head, TruncationStrategy};
use serde_json::{Value, json};

use super::accuracy::{Candidates, accuracy};
use super::labels;
use super::metric::entities::Counts;
use super::metric::share;
use super::model::{TaskModel, Texts};
use super::{Choice, Judged, Prepared, Task, misshapen, prediction};
use crate::trace::class::Class;

mod examples;
mod template;

use examples::{Example, Examples};
use template::Template;

/// Texts with their labels among others.
pub struct ZeroShot {
    data: Examples,
    template: Template,
    /// Whether any number of labels fit a text.
    multi_label: bool,
    /// Which logits are compared.
    logits: Compared,
}

/// The places of the logits that are compared.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    entailment: usize,
    /// What the entailment is weighed against where labels are judged one by one.
    contradiction: usize,
    /// How many labels the model has.
    count: usize,
    /// Whether the label at `contradiction` is another one than the model's contradiction.
    by_place: bool,
}

/// The logits of a text with a label: of the entailment, and of what is against it.
type Weighed = [f32; 2];

impl ZeroShot {
    /// Reads tables with tabs and lines of JSON, of each file as many examples as `limit` says. The candidate labels are
    /// `names`, or else those of the files; `template` is transformers' when absent.
    ///
    /// # Errors
    /// A template without a place for the label; a file without examples; an example without text or label.
    pub fn read(
        files: &[PathBuf],
        limit: Option<usize>,
        names: Option<&[String]>,
        template: Option<&str>,
        multi_label: bool,
    ) -> Result<ZeroShot> {
        let template = Template::parse(template.unwrap_or(Template::USUAL))
            .map_err(|message| Error::new(Kind::Request, format!("hypothesis-template {message}")))?;
        let data = Examples::read(files, limit, names, multi_label)?;
        Ok(ZeroShot { data, template, multi_label, logits: Compared::default() })
    }

    /// The logits of every candidate for every example.
    fn weighed(&self, kept: &[Vec<f32>]) -> Result<Vec<(&Example, Vec<Weighed>)>> {
        let Compared { entailment, contradiction, count, .. } = self.logits;
        let rows = kept.chunks(self.data.candidates.len().max(1));
        let of_example = |(example, rows): (_, &[Vec<f32>])| {
            let example: &Example = example;
            let of_label = |logits: &Vec<f32>| {
                let found = logits.get(entailment).zip(logits.get(contradiction));
                let found = found.filter(|_| logits.len() == count);
                let (&for_it, &against) =
                    found.ok_or_else(|| misshapen(&example.place, logits.len(), count))?;
                Ok([for_it, against])
            };
            Ok((example, rows.iter().map(of_label).collect::<Result<_>>()?))
        };
        self.data.examples.iter().zip(rows).map(of_example).collect()
    }

    /// The one label that fits best.
    fn judge_one(&self, weighed: &[(&Example, Vec<Weighed>)]) -> Result<Judged> {
        let mut judged = accuracy(weighed.iter().map(|(example, weighed)| Candidates {
            place: &example.place,
            group: "",
            what: "label",
            names: &self.data.candidates,
            expected: example.labels.first().copied().unwrap_or_default(),
            logits: weighed.iter().map(|[entailment, _]| *entailment).collect(),
        }))?;
        for (prediction, (_, weighed)) in judged.predictions.iter_mut().zip(weighed) {
            if let Value::Object(prediction) = prediction {
                prediction.insert("labels".to_owned(), json!(self.data.candidates));
                prediction.insert("scores".to_owned(), json!(scores(weighed, self.multi_label)));
            }
        }
        Ok(judged)
    }

    /// Every label that fits better than not.
    fn judge_each(&self, weighed: &[(&Example, Vec<Weighed>)]) -> Judged {
        let candidates = &self.data.candidates;
        let mut judged = Judged { examples: weighed.len(), ..Judged::default() };
        let mut counts = vec![Counts::default(); candidates.len()];
        let mut right = 0;
        for (example, weighed) in weighed {
            let fits: Vec<bool> = weighed.iter().map(|[entailment, against]| entailment > against).collect();
            let expected: Vec<bool> = (0..fits.len()).map(|label| example.labels.contains(&label)).collect();
            right += usize::from(fits == expected);
            let mut predicted = Vec::new();
            let labels = candidates.iter().zip(&mut counts).zip(weighed);
            for (((label, counts), [entailment, against]), (fits, expected)) in
                labels.zip(fits.into_iter().zip(expected))
            {
                counts.expected += usize::from(expected);
                counts.found += usize::from(fits);
                counts.right += usize::from(fits && expected);
                if fits {
                    predicted.push(label);
                }
                judged.choices.push(Choice {
                    example: format!("{} {label}", example.place),
                    chosen: if fits { "yes" } else { "no" }.to_owned(),
                    margin: (entailment - against).abs(),
                });
            }
            let expected: Vec<&String> =
                example.labels.iter().filter_map(|&label| candidates.get(label)).collect();
            judged.predictions.push(prediction([
                ("example", json!(example.place)),
                ("expected", json!(expected)),
                ("predicted", json!(predicted)),
                ("labels", json!(candidates)),
                ("scores", json!(scores(weighed, true))),
            ]));
        }
        let all = Counts::sum(counts.iter());
        let macro_average = counts.iter().map(Counts::f1).sum::<f64>() / counts.len().max(1) as f64;
        judged.metrics = vec![
            ("precision".to_owned(), Some(all.precision())),
            ("recall".to_owned(), Some(all.recall())),
            ("f1".to_owned(), Some(all.f1())),
            ("f1_macro".to_owned(), Some(macro_average)),
            ("accuracy".to_owned(), share(right, weighed.len())),
        ];
        let each = candidates.iter().zip(&counts);
        judged.metrics.extend(each.map(|(label, counts)| (format!("f1.{label}"), Some(counts.f1()))));
        judged
    }
}

/// The scores of all candidates for a text. A softmax of the entailments says which fits best; of one candidate, and where
/// `each` is judged, one of entailment and contradiction says whether it fits.
fn scores(weighed: &[Weighed], each: bool) -> Vec<f64> {
    let weighed = || weighed.iter().map(|weighed| weighed.map(f64::from));
    if each || weighed().len() == 1 {
        return weighed().map(|[entailment, against]| 1.0 / (1.0 + (against - entailment).exp())).collect();
    }
    let most = weighed().fold(f64::NEG_INFINITY, |most, [entailment, _]| most.max(entailment));
    let powers: Vec<f64> = weighed().map(|[entailment, _]| (entailment - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

impl Task for ZeroShot {
    fn class(&self, checkpoint: &Checkpoint) -> Class {
        Class::of_head(checkpoint.config.family, Head::SequenceClassification)
    }

    fn prepare(&mut self, model: &TaskModel, texts: &Texts) -> Result<Prepared> {
        let entailment = model.label_that_starts("entail")?;
        let labels = model.labels()?;
        let count = labels.len();
        // As in the pipeline: the first label, or the last one if the first is the entailment.
        let contradiction = if entailment == 0 { count.saturating_sub(1) } else { 0 };
        if contradiction == entailment {
            let message = format!("{}: one label, the entailment needs another one against it", model.name);
            return Err(Error::new(Kind::Model, message));
        }
        let named = |label: &String| label.to_lowercase().starts_with("contradict");
        let by_place = labels.iter().any(named) && !labels.get(contradiction).is_some_and(named);
        self.logits = Compared { entailment, contradiction, count, by_place };
        let hypotheses: Vec<String> =
            self.data.candidates.iter().map(|label| self.template.with(label)).collect();
        let mut prepared = Prepared::default();
        for example in &self.data.examples {
            let pairs = hypotheses.iter().map(|hypothesis| [example.text.as_str(), hypothesis]);
            prepared.add_cut(texts, TruncationStrategy::OnlyFirst, pairs)?;
        }
        Ok(prepared)
    }

    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged> {
        let weighed = self.weighed(kept)?;
        let mut judged = if self.multi_label { self.judge_each(&weighed) } else { self.judge_one(&weighed)? };
        judged.notes.extend(labels::left_out(self.data.without_label));
        if self.logits.by_place && (self.multi_label || self.data.candidates.len() == 1) {
            let note = "scores weigh the entailment against the first label, or the last, as transformers' pipeline does: \
                        this model's contradiction is neither";
            judged.notes.push(note.to_owned());
        }
        Ok(judged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_add_up_to_one_or_stand_alone() {
        let weighed = [[1000.0, 0.0], [999.0, 999.0]];
        let found = scores(&weighed, false);
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-12 && found[0] > 0.73, "{found:?}");
        assert_eq!(scores(&weighed, true), [1.0, 0.5]);
        assert_eq!(scores(&[[2.0, 2.0]], false), [0.5]);
    }
}
