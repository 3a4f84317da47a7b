//! Computes the metrics of tasks from predictions, for `tests/interop/tasks`: a line of JSON is a request, a line of JSON
//! the answer.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::BufRead as _;
use std::process::ExitCode;

use deberta_golden::task::metric::answers::{Answered, best_threshold, normalize, score, scores};
use deberta_golden::task::metric::correlation::{pearson, spearman};
use deberta_golden::task::metric::entities::{Counts, Scheme, Tag};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Correlation { x: Vec<f64>, y: Vec<f64> },
    Entities { expected: Vec<Vec<String>>, found: Vec<Vec<String>>, scheme: Scheme },
    Squad { questions: Vec<Question>, threshold: f64 },
    Normalize(String),
}

#[derive(Deserialize)]
struct Question {
    answers: Vec<String>,
    prediction: String,
    no_answer: f64,
}

fn main() -> ExitCode {
    for line in std::io::stdin().lock().lines() {
        match line.map_err(Into::into).and_then(|line| answer(&line)) {
            Ok(answer) => println!("{answer}"),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn answer(line: &str) -> Result<Value, Box<dyn Error>> {
    match serde_json::from_str(line)? {
        Request::Correlation { x, y } => {
            Ok(json!({"pearson": pearson(&x, &y), "spearman": spearman(&x, &y)}))
        }
        Request::Entities { expected, found, scheme } => entities(&expected, &found, scheme),
        Request::Squad { questions, threshold } => Ok(squad(&questions, threshold)),
        Request::Normalize(text) => Ok(json!(normalize(&text))),
    }
}

fn entities(
    expected: &[Vec<String>],
    found: &[Vec<String>],
    scheme: Scheme,
) -> Result<Value, Box<dyn Error>> {
    let parse =
        |tags: &Vec<String>| tags.iter().map(|tag| Tag::parse(tag, scheme)).collect::<Result<Vec<_>, _>>();
    let mut counts = BTreeMap::new();
    for (expected, found) in expected.iter().zip(found) {
        Counts::add(&mut counts, &parse(expected)?, &parse(found)?, scheme);
    }
    let all = Counts::sum(counts.values());
    let of = |counts: &Counts| [counts.precision(), counts.recall(), counts.f1(), counts.expected as f64];
    let by_type: BTreeMap<&String, [f64; 4]> =
        counts.iter().map(|(kind, counts)| (kind, of(counts))).collect();
    Ok(json!({"all": of(&all), "types": by_type}))
}

fn squad(questions: &[Question], threshold: f64) -> Value {
    let answered: Vec<Answered> = questions
        .iter()
        .map(|question| Answered {
            answerable: !question.answers.is_empty(),
            has_text: !question.prediction.is_empty(),
            scores: score(&question.answers, &question.prediction),
            no_answer: question.no_answer,
        })
        .collect();
    let mut metrics = serde_json::Map::new();
    let mut of = |prefix: &str, which: &dyn Fn(&Answered) -> bool| {
        if let Some(scores) = scores(&answered, threshold, which) {
            metrics.insert(format!("{prefix}exact"), json!(scores.exact));
            metrics.insert(format!("{prefix}f1"), json!(scores.f1));
            metrics.insert(format!("{prefix}total"), json!(scores.total));
        }
    };
    of("", &|_| true);
    of("HasAns_", &|question| question.answerable);
    of("NoAns_", &|question| !question.answerable);
    let best = |score: fn(&Answered) -> f64| best_threshold(&answered, score);
    for (name, best) in
        [("exact", best(|answered| answered.scores.0)), ("f1", best(|answered| answered.scores.1))]
    {
        if let Some(best) = best {
            metrics.insert(format!("best_{name}"), json!(best.score));
            metrics.insert(format!("best_{name}_thresh"), json!(best.threshold));
        }
    }
    Value::Object(metrics)
}
