//! Which columns of the data are what.

use deberta_converters::error::Printable;

/// The columns of the text, of the second text, and of the label; found by their usual names where they are not named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The text.
    pub text: Option<String>,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// The label.
    pub label: Option<String>,
}

/// The columns that a file has, by their places among its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) text: usize,
    pub(super) pair: Option<usize>,
    pub(super) label: usize,
}

/// What data sets call a text, and the second text that goes with each of these.
const TEXTS: [(&str, &str); 9] = [
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text_a", "text_b"),
    ("sentence", ""),
    ("content", ""),
    ("review", ""),
];

/// What they call a label.
const LABELS: [&str; 5] = ["label", "labels", "gold_label", "target", "class"];

/// How the columns of a file are chosen.
#[derive(Clone, Debug)]
pub(in crate::task) enum Choice {
    /// Those that a user names, or else the usual ones.
    Named(Columns),
    /// A pair of sentences as GLUE and its copies have it, and the first of these that is there.
    Pair(&'static [&'static str]),
}

/// What GLUE's tables and the data sets that come from them call a pair of sentences.
const SENTENCES: [(&str, &str); 2] = [("sentence1", "sentence2"), ("premise", "hypothesis")];

impl Choice {
    /// Where the columns are among those of a file.
    pub(super) fn among(&self, there: &[String]) -> Result<Chosen, String> {
        let labels = match self {
            Choice::Named(columns) => return columns.among(there),
            Choice::Pair(labels) => labels,
        };
        let at = |name: &str| there.iter().position(|known| known == name);
        let pair = SENTENCES.into_iter().find_map(|(first, second)| Some((at(first)?, at(second)?)));
        let (text, pair) = pair.ok_or_else(|| {
            let names = SENTENCES.map(|(first, second)| format!("{first} and {second}")).join(", nor ");
            format!("neither columns {names}: {}", listed(there))
        })?;
        let label = labels.iter().find_map(|name| at(name));
        let label = label.ok_or_else(|| format!("no column {}: {}", labels.join(" or "), listed(there)))?;
        Ok(Chosen { text, pair: Some(pair), label })
    }
}

impl Columns {
    /// Where these columns are among those of a file.
    fn among(&self, there: &[String]) -> Result<Chosen, String> {
        let at = |name: &str| there.iter().position(|known| known == name);
        let named = |name: &String, option: &str| {
            at(name).ok_or_else(|| format!("no column {name:?} (--{option}): {}", listed(there)))
        };
        let usual = TEXTS.into_iter().find(|(text, _)| at(text).is_some());
        let text = match &self.text {
            Some(name) => Some(named(name, "text-column")?),
            None => usual.and_then(|(text, _)| at(text)),
        };
        let text =
            text.ok_or_else(|| format!("which column has the text? --text-column: {}", listed(there)))?;
        let pair = match (&self.pair, &self.text) {
            (Some(name), _) => Some(named(name, "text-pair-column")?),
            // Whoever names the text names the other one, too.
            (None, Some(_)) => None,
            (None, None) => usual.and_then(|(_, pair)| at(pair)),
        };
        let label = match &self.label {
            Some(name) => Some(named(name, "label-column")?),
            None => LABELS.into_iter().find_map(at),
        };
        let label =
            label.ok_or_else(|| format!("which column has the label? --label-column: {}", listed(there)))?;
        Ok(Chosen { text, pair, label })
    }
}

fn listed(there: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = there.iter().take(SHOWN).map(|name| Printable(name).to_string()).collect();
    let more = if there.len() > SHOWN { ", …" } else { "" };
    format!("there are {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_found_and_others_asked_for() {
        let there = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let usual = Columns::default();
        let chosen = usual.among(&there(&["id", "premise", "hypothesis", "label"])).unwrap();
        assert_eq!(chosen, Chosen { text: 1, pair: Some(2), label: 3 });
        assert_eq!(usual.among(&there(&["sentence", "label"])).unwrap().pair, None);
        assert!(usual.among(&there(&["tweet", "label"])).unwrap_err().contains("there are tweet, label"));
        assert!(usual.among(&there(&["text"])).unwrap_err().starts_with("which column has the label?"));
        let named = Columns { text: Some("tweet".into()), ..Columns::default() };
        assert_eq!(named.among(&there(&["text_pair", "tweet", "target"])).unwrap().pair, None);
        assert!(named.among(&there(&["text", "label"])).unwrap_err().starts_with("no column \"tweet\""));
    }

    #[test]
    fn pairs_are_those_of_glue() {
        let there = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let pair = Choice::Pair(&["gold_label", "label"]);
        let chosen = pair.among(&there(&["label", "premise", "hypothesis", "gold_label"])).unwrap();
        assert_eq!(chosen, Chosen { text: 1, pair: Some(2), label: 3 });
        let error = pair.among(&there(&["text", "label"])).unwrap_err();
        assert!(error.starts_with("neither columns sentence1 and sentence2, nor premise and"), "{error}");
        let error = pair.among(&there(&["sentence1", "sentence2"])).unwrap_err();
        assert!(error.starts_with("no column gold_label or label: there are sentence1"), "{error}");
    }
}
