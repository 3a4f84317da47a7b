//! Answers compared with those that people gave: the exact match and F1 of SQuAD.
//!
//! Source: the official evaluation script of SQuAD 2.0, and transformers 4.57.6, `data/metrics/squad_metrics.py`.

use std::cmp::Ordering;
use std::collections::HashMap;

/// How well an answer, empty for none, agrees with the best of the expected ones: exact match and F1, each from 0 to 1.
/// An empty list of expected ones, or one in which nothing is left after normalisation, expects no answer.
pub fn score(expected: &[String], found: &str) -> (f64, f64) {
    let mut normalized: Vec<String> =
        expected.iter().map(|answer| normalize(answer)).filter(|answer| !answer.is_empty()).collect();
    if normalized.is_empty() {
        normalized.push(String::new());
    }
    let found = normalize(found);
    let exact = normalized.contains(&found);
    let f1 = normalized.iter().map(|answer| f1(answer, &found)).fold(0.0, f64::max);
    (f64::from(u8::from(exact)), f1)
}

/// An answer in lower case without punctuation, articles, and spaces that say nothing.
pub fn normalize(answer: &str) -> String {
    // As Python's `str.lower`: both follow Unicode's special casing, with the final sigma too.
    let text: String = answer.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let text = without_articles(&text);
    text.split(is_python_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What `str.split` splits at: Unicode's spaces, and the four separators of ASCII.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Replaces `\b(a|an|the)\b` by spaces. A word is made of letters, digits and underscores, as in Python's `re`.
fn without_articles(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = c.is_alphanumeric() || c == '_';
        let other = |c: char| (c.is_alphanumeric() || c == '_') != word;
        let (run, after) = rest.split_at(rest.find(other).unwrap_or(rest.len()));
        result.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = after;
    }
    result
}

/// The harmonic mean of precision and recall over the words of two normalised answers.
fn f1(expected: &str, found: &str) -> f64 {
    let words = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let (expected, found) = (words(expected), words(found));
    if expected.is_empty() || found.is_empty() {
        return f64::from(u8::from(expected == found));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &expected {
        *left.entry(word).or_default() += 1;
    }
    let mut same = 0usize;
    for word in &found {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    if same == 0 {
        return 0.0;
    }
    let precision = same as f64 / found.len() as f64;
    let recall = same as f64 / expected.len() as f64;
    (2.0 * precision * recall) / (precision + recall)
}

/// An answered question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Whether the text has an answer.
    pub answerable: bool,
    /// Whether the answer that was found has any text.
    pub has_text: bool,
    /// Exact match and F1 of the best answer with text, by [`score`].
    pub scores: (f64, f64),
    /// How much the model prefers no answer.
    pub no_answer: f64,
}

/// The scores of a set of questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// How many questions.
    pub total: usize,
    /// Exact matches in percent.
    pub exact: f64,
    /// The mean F1 in percent.
    pub f1: f64,
}

/// A threshold and the score that it gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// In percent.
    pub score: f64,
    /// Where no answer is preferred by more than this, none is given.
    pub threshold: f64,
}

/// The scores of those questions that `which` takes; nothing if there are none. No answer is given where it is preferred
/// by more than `threshold`.
pub fn scores(questions: &[Answered], threshold: f64, which: impl Fn(&Answered) -> bool) -> Option<Scores> {
    let (mut total, mut exact, mut f1) = (0usize, 0.0, 0.0);
    for question in questions.iter().filter(|question| which(question)) {
        let none = f64::from(u8::from(!question.answerable));
        let scores = if question.no_answer > threshold { (none, none) } else { question.scores };
        total += 1;
        exact += scores.0;
        f1 += scores.1;
    }
    let percent = |sum: f64| 100.0 * sum / total as f64;
    (total > 0).then(|| Scores { total, exact: percent(exact), f1: percent(f1) })
}

/// The threshold with the best sum of a score, as the official script finds it; nothing if there are no questions.
pub fn best_threshold(questions: &[Answered], score: impl Fn(&Answered) -> f64) -> Option<Best> {
    let mut sorted: Vec<&Answered> = questions.iter().collect();
    // Stable, and 0 is as good as -0: as in Python.
    sorted.sort_by(|a, b| a.no_answer.partial_cmp(&b.no_answer).unwrap_or(Ordering::Equal));
    let unanswerable = questions.iter().filter(|question| !question.answerable).count();
    let mut current = unanswerable as f64;
    let mut best = Best { score: current, threshold: 0.0 };
    for question in sorted {
        current += match (question.answerable, question.has_text) {
            (true, _) => score(question),
            (false, true) => -1.0,
            (false, false) => 0.0,
        };
        if current > best.score {
            best = Best { score: current, threshold: question.no_answer };
        }
    }
    let total = questions.len() as f64;
    (!questions.is_empty()).then(|| Best { score: 100.0 * best.score / total, ..best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(answers: &[&str]) -> Vec<String> {
        answers.iter().map(|answer| (*answer).to_owned()).collect()
    }

    #[test]
    fn normalisation_leaves_the_words() {
        assert_eq!(normalize("The  Eiffel Tower!"), "eiffel tower");
        assert_eq!(normalize("an A-Team, the \"best\""), "ateam best");
        assert_eq!(normalize("theatre a_an the"), "theatre aan");
        assert_eq!(normalize("\u{1c}a\u{a0}b – c"), "b – c");
        assert_eq!(normalize("…the 1990s"), "… 1990s");
    }

    #[test]
    fn scores_are_those_of_the_squad_papers_examples() {
        // squad metric of `datasets`: {"prediction_text": "1976"} for "1976" gives 100 and 100.
        assert_eq!(score(&owned(&["1976"]), "1976"), (1.0, 1.0));
        // transformers, tests of squad_metrics: no answer where none is expected.
        assert_eq!(score(&[], ""), (1.0, 1.0));
        assert_eq!(score(&owned(&["the"]), ""), (1.0, 1.0));
        assert_eq!(score(&[], "something"), (0.0, 0.0));
        // One of two words found, one of one expected: precision 1/2, recall 1.
        assert_eq!(score(&owned(&["Beyoncé", "nobody here"]), "Beyoncé Knowles"), (0.0, 2.0 / 3.0));
        // A word counts as often as both have it.
        assert_eq!(score(&owned(&["very very good"]), "very good"), (0.0, 0.8));
    }

    fn question(answerable: bool, f1: f64, no_answer: f64) -> Answered {
        Answered { answerable, has_text: true, scores: (f64::from(u8::from(f1 == 1.0)), f1), no_answer }
    }

    #[test]
    fn questions_are_told_apart() {
        let questions = [question(true, 1.0, -2.0), question(true, 0.5, 1.0), question(false, 0.0, 3.0)];
        let all = scores(&questions, 0.0, |_| true).unwrap();
        assert_eq!((all.total, all.exact, all.f1), (3, 100.0 * 2.0 / 3.0, 100.0 * 2.0 / 3.0));
        let answerable = scores(&questions, 0.0, |question| question.answerable).unwrap();
        assert_eq!((answerable.exact, answerable.f1), (50.0, 50.0));
        assert_eq!(scores(&questions[..2], 0.0, |question| !question.answerable), None);
    }

    #[test]
    fn the_best_threshold_gives_up_what_costs_more_than_it_brings() {
        let questions = [question(true, 1.0, -2.0), question(true, 0.5, 1.0), question(false, 0.0, 3.0)];
        // None below -2: 1 of 3; up to 1: 1 + 1 + 0.5; up to 3: that minus 1.
        let best = best_threshold(&questions, |question| question.scores.1).unwrap();
        assert_eq!((best.score, best.threshold), (100.0 * 2.5 / 3.0, 1.0));
        let best = best_threshold(&questions, |question| question.scores.0).unwrap();
        assert_eq!((best.score, best.threshold), (100.0 * 2.0 / 3.0, -2.0));
        assert_eq!(best_threshold(&[], |_| 0.0), None);
    }
}
