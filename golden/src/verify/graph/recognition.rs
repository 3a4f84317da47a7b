//! Which of a graph's outputs is which of a golden's, and which of its inputs is which, where names do not tell: by running it
//! and comparing. Order and shape alone mislead: a softmax has the shape of its logits, and the two outputs of a model that
//! answers questions have each other's.

use deberta_converters::error::Result;
use deberta_reference::{Head, Inputs};

use super::candidate::{GraphCandidate, Weights};
use super::lengths;
use super::meaning::Meaning;
use crate::backend::{Backend as _, Graph, Reference};
use crate::judge::compare::Comparison;
use crate::judge::tolerance::{Precision, Tolerances};
use crate::judge::verdict::{Outcome, Verdict};
use crate::report::{Finding, FindingKind};
use crate::trace::file::{Recorded, TraceFile};
use crate::trace::padding::Padding;
use crate::trace::points;
use crate::trace::tensor::Tensor;

/// The most inputs that a graph is tried on.
const MOST_SAMPLES: usize = 4;

/// Integers and other weights leave at least so much of the right output that it is told from others.
const ALIKE_DECIBELS: f64 = 15.0;

/// Inputs, and what outputs must be of them.
struct Sample {
    inputs: Inputs,
    head: Head,
    /// By their names in a trace.
    expected: Vec<Tensor>,
    tolerances: Tolerances,
}

/// An output of a graph that is one of a golden's.
struct Match {
    /// The name in the graph.
    output: String,
    /// The name in a trace.
    expected: String,
    meaning: Meaning,
}

impl GraphCandidate<'_> {
    /// Gives names to outputs that have none, and their inputs to inputs. Says what was recognised, or that nothing was, so that
    /// nothing can be compared.
    pub(super) fn recognise(&mut self) -> (Vec<Finding>, bool) {
        let ways = self.graph.ways();
        let of_class = self.class().map(|class| points::outputs(class, &Inputs::default()));
        let known = |name: &str| match (name.strip_prefix("outputs."), &of_class) {
            (Some(name), Some(of_class)) => of_class.contains(&name),
            (output, _) => output.is_some(),
        };
        let has_outputs = self.graph.exposed().into_iter().any(known);
        if has_outputs && ways.is_empty() {
            return (self.said(&[]), true);
        }
        let samples = self.samples();
        let mut found = self.matches(&*self.graph, &samples);
        for way in ways {
            let others = self.matches(&*way, &samples);
            if others.len() > found.len() {
                (self.graph, found) = (way, others);
            }
        }
        if found.is_empty() {
            // Inputs that are told by their use, and outputs by their names, leave nothing open.
            let said = if has_outputs { self.said(&[]) } else { vec![self.unrecognised(&samples)] };
            return (said, has_outputs);
        }
        let named: Vec<(String, String)> = found
            .iter()
            .filter(|found| format!("outputs.{}", found.output) != found.expected)
            .map(|found| (found.output.clone(), found.expected.clone()))
            .collect();
        if let Some(graph) = self.graph.with_outputs(&named) {
            self.graph = graph;
        }
        self.meanings.0 = found.iter().map(|found| (found.expected.clone(), found.meaning)).collect();
        (self.said(&found), true)
    }

    /// What was recognised, for the report.
    fn said(&self, found: &[Match]) -> Vec<Finding> {
        let inputs = self
            .graph
            .renamed_inputs()
            .into_iter()
            .map(|(name, role)| format!("its input \"{name}\" is {role}, as the graph uses it"));
        let outputs = found.iter().filter(|found| format!("outputs.{}", found.output) != found.expected);
        let outputs = outputs.map(|found| {
            let Match { output, expected, meaning } = found;
            format!("its output \"{output}\" is {}{expected}, as its numbers show", meaning.words())
        });
        let finding = |message| Finding::new(FindingKind::Recognised, Outcome::Pass, message);
        inputs.chain(outputs).map(finding).collect()
    }

    /// Inputs whose outputs are known: from the goldens, and from the weights if the graph's own file has them.
    fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for golden in &self.file.request.goldens {
            for path in &golden.traces {
                let Ok(given) = self.given(golden, path) else { continue };
                if self.class().is_some_and(|class| class.head != given.class.head) {
                    continue;
                }
                let expected = outputs(&given.file);
                let (inputs, head) = (given.inputs, given.class.head);
                samples.push(Sample { inputs, head, expected, tolerances: golden.tolerances.clone() });
            }
        }
        samples.retain(|sample| !sample.expected.is_empty());
        samples.truncate(MOST_SAMPLES);
        if let Ok(weights) = &self.weights {
            samples.extend(self.computed(weights));
        }
        samples
    }

    /// What the reference computes with the weights.
    fn computed(&self, weights: &Weights) -> Result<Sample> {
        let inputs = lengths::padded(&*self.graph, weights.config(), weights.class)?;
        let model = Reference::load(&weights.parameters, weights.class, self.graph.masked_rows())?;
        let mut expected = model.run(&inputs, &[], Vec::new())?.tensors;
        expected.retain(|tensor| is_output(&tensor.name));
        Ok(Sample { inputs, head: weights.class.head, expected, tolerances: Tolerances::default() })
    }

    /// The outputs of a graph that are those of a sample, for as many of the expected ones as there are.
    fn matches(&self, graph: &dyn Graph, samples: &[Sample]) -> Vec<Match> {
        let mut found: Vec<(Match, usize)> = Vec::new();
        for sample in samples {
            let Ok(named) = graph.run(&sample.inputs, &[], Vec::new()) else { continue };
            let Ok(unknown) = graph.run_unknown(&sample.inputs) else { continue };
            for want in &sample.expected {
                let own =
                    named.tensors.iter().filter_map(|got| Some((got.name.strip_prefix("outputs.")?, got)));
                for (output, got) in own.chain(unknown.iter().map(|got| (got.name.as_str(), got))) {
                    let Some(meaning) = self.meaning(sample, want, got) else { continue };
                    let same = |known: &&mut (Match, usize)| {
                        known.0.output == output
                            && known.0.expected == want.name
                            && known.0.meaning == meaning
                    };
                    if let Some((_, count)) = found.iter_mut().find(same) {
                        *count += 1;
                    } else {
                        let (output, expected) = (output.to_owned(), want.name.clone());
                        found.push((Match { output, expected, meaning }, 1));
                    }
                }
            }
        }
        // The one that agrees on most samples, for every output and every expected one.
        found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut matches: Vec<Match> = Vec::new();
        for (this, _) in found {
            if matches.iter().all(|known| known.output != this.output && known.expected != this.expected) {
                matches.push(this);
            }
        }
        matches
    }

    /// What an output is of the expected one, if it is anything of it: what agrees, or else, where integers and other weights
    /// leave a difference, what is most alike.
    fn meaning(&self, sample: &Sample, want: &Tensor, got: &Tensor) -> Option<Meaning> {
        let padding = Padding::of(&sample.inputs, sample.head);
        let is_rounded = self.precision() == Precision::Quantized;
        let comparison =
            Comparison { tolerances: &sample.tolerances, precision: self.precision(), padding: &padding };
        let mut alike: Option<(Meaning, f64)> = None;
        for meaning in Meaning::ALL {
            let got = Tensor { name: want.name.clone(), ..meaning.of_graph(got) };
            let point = comparison.tensors(&meaning.of_golden(want), Some(&got));
            match point.verdict {
                Verdict::Match | Verdict::Rounded | Verdict::Padding => return Some(meaning),
                Verdict::Diverges if is_rounded => {
                    let decibels = point.real.as_ref().map_or(f64::NEG_INFINITY, |real| real.sqnr_db);
                    let most = alike.map_or(ALIKE_DECIBELS, |(_, most)| most);
                    alike = if decibels >= most { Some((meaning, decibels)) } else { alike };
                }
                _ => {}
            }
        }
        alike.map(|(meaning, _)| meaning)
    }

    /// That nothing was recognised: what was expected, and what was seen.
    fn unrecognised(&self, samples: &[Sample]) -> Finding {
        let described = |tensors: &[Tensor]| {
            let each = tensors.iter().map(|tensor| {
                let numbers = tensor.data.floats().unwrap_or_default();
                let first: Vec<String> =
                    numbers.iter().take(3).map(|number| format!("{number:.4}")).collect();
                format!("{} {:?} ({}, …)", tensor.name, tensor.shape, first.join(", "))
            });
            each.collect::<Vec<_>>().join(", ")
        };
        let message = match samples.first() {
            Some(sample) => {
                let seen = match self.graph.run_unknown(&sample.inputs) {
                    Ok(seen) => described(&seen),
                    Err(error) => error.to_string(),
                };
                format!(
                    "no output of the graph has a name that tells what it is, and none computes what the golden has, nor its \
                     softmax or sigmoid: expected {}, seen {seen}",
                    described(&sample.expected)
                )
            }
            None => format!(
                "no output of the graph has a name that tells what it is ({}), and no golden has outputs to compare with",
                self.graph.unknown().join(", ")
            ),
        };
        Finding::new(FindingKind::NothingCompared, Outcome::Undecided, message)
    }
}

fn is_output(name: &str) -> bool {
    matches!(
        name,
        "outputs.last_hidden_state" | "outputs.logits" | "outputs.start_logits" | "outputs.end_logits"
    )
}

/// The outputs of a trace that are whole.
fn outputs(file: &TraceFile) -> Vec<Tensor> {
    let names = file.names().filter(|name| is_output(name));
    let recorded = names.filter_map(|name| file.recorded(name).ok().flatten());
    let whole = recorded.filter_map(|recorded| match recorded {
        Recorded::Whole(tensor) => Some(tensor),
        Recorded::Sampled(_) => None,
    });
    whole.collect()
}
