//! Faults in tokenizers: each is put into the files of a good one, and must be seen, in the file that has it, and named.

use std::fs;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::progress::Progress;
use serde_json::{Map, Value, json};

use super::{Fate, FaultReport, SubjectReport};
use crate::goldens::Golden;
use crate::judge::tolerance::Tolerances;
use crate::judge::verdict::Outcome;
use crate::report::FindingKind;
use crate::tokens::encoded::Asked;
use crate::tokens::files::Kept;
use crate::tokens::judge::{Judged, judge};
use crate::tokens::probes::{PAIRS, TEXTS};
use crate::tokens::recorded::PublishedTokens;
use crate::workshop::Workshop;

/// What the trained models of the repository have: byte-pair encoding of 639 tokens, and 540 pieces.
const VOCAB: &str = include_str!("../../trained/nli/vocab.json");
const MERGES: &str = include_str!("../../trained/nli/merges.txt");
const PIECES: &[u8] = include_bytes!("../../trained/v3-nli/spm.model");

/// A token that texts may have, beside the special ones.
const ADDED: &str = "<ent>";

/// A fault in a file.
struct Fault {
    /// The word that must be said of it.
    cause: &'static str,
    description: &'static str,
    /// Which files then differ.
    of: &'static [Kept],
    change: fn(&mut Files) -> Option<()>,
}

/// The files of a tokenizer.
#[derive(Clone)]
struct Files {
    vocab: Map<String, Value>,
    merges: Vec<String>,
    pieces: Vec<u8>,
    /// tokenizer.json; nothing until it is made of the others.
    fast: Value,
    /// tokenizer_config.json
    settings: Value,
}

const SLOW: &[Kept] = &[Kept::Slow];
const FAST: &[Kept] = &[Kept::Fast];

/// It is the same for both versions.
const ADDED_TOKEN_GONE: Fault = Fault {
    cause: "added-token",
    description: "an added token is in no file any more",
    of: &Kept::ALL,
    change: |files| {
        files.settings.get_mut("added_tokens_decoder")?.as_object_mut()?.retain(|_, token| !is_added(token));
        files.fast.get_mut("added_tokens")?.as_array_mut()?.retain(|token| !is_added(token));
        Some(())
    },
};

/// Faults of byte-pair encoding.
const OF_VERSION_1: [Fault; 9] = [
    Fault {
        cause: "merges-order",
        description: "two lines of merges.txt are exchanged",
        of: SLOW,
        change: |files| {
            let at = first_that_matters(&files.merges, |line| line.split_once(' '))?;
            files.merges.swap(at.0, at.1);
            Some(())
        },
    },
    Fault {
        cause: "merges-order",
        description: "two merges of tokenizer.json are exchanged",
        of: FAST,
        change: |files| {
            let at = first_that_matters(&files.merges, |line| line.split_once(' '))?;
            files.fast.pointer_mut("/model/merges")?.as_array_mut()?.swap(at.0 - 1, at.1 - 1);
            Some(())
        },
    },
    Fault {
        cause: "vocabulary-order",
        description: "two ids of vocab.json are exchanged",
        of: SLOW,
        change: |files| exchange(&mut files.vocab, "Ġthe", "Ġis"),
    },
    Fault {
        cause: "vocabulary-order",
        description: "two ids of tokenizer.json are exchanged",
        of: FAST,
        change: |files| exchange(files.fast.pointer_mut("/model/vocab")?.as_object_mut()?, "Ġthe", "Ġis"),
    },
    ADDED_TOKEN_GONE,
    Fault {
        cause: "prefix-space",
        description: "tokenizer_config.json asks for a space before texts",
        of: &Kept::ALL,
        change: |files| set(&mut files.settings, "add_prefix_space", json!(true)),
    },
    Fault {
        cause: "post-processor",
        description: "the template of tokenizer.json has no [SEP] behind a text",
        of: FAST,
        change: |files| {
            files.fast.pointer_mut("/post_processor/single")?.as_array_mut()?.pop();
            Some(())
        },
    },
    Fault {
        cause: "lower-case",
        description: "tokenizer.json puts text in lower case",
        of: FAST,
        change: |files| set(&mut files.fast, "normalizer", json!({"type": "Lowercase"})),
    },
    Fault {
        cause: "dropout",
        description: "tokenizer.json leaves merges out at random",
        of: FAST,
        change: |files| set(files.fast.get_mut("model")?, "dropout", json!(0.1)),
    },
];

/// Faults of pieces.
const OF_VERSION_2: [Fault; 9] = [
    Fault {
        cause: "scores",
        description: "a score of spm.model is changed",
        of: SLOW,
        change: |files| {
            let score = score_of(&mut files.pieces, "▁black")?;
            score.copy_from_slice(&(-90.0_f32).to_le_bytes());
            Some(())
        },
    },
    Fault {
        cause: "scores",
        description: "a score of tokenizer.json is changed",
        of: FAST,
        change: |files| {
            let mut pieces = files.fast.pointer_mut("/model/vocab")?.as_array_mut()?.iter_mut();
            *pieces.find(|piece| piece.get(0) == Some(&json!("▁black")))?.get_mut(1)? = json!(-90.0);
            Some(())
        },
    },
    Fault {
        cause: "vocabulary-order",
        description: "two pieces of tokenizer.json are exchanged",
        of: FAST,
        change: |files| {
            let pieces = files.fast.pointer_mut("/model/vocab")?.as_array_mut()?;
            let at = |text: &str| pieces.iter().position(|piece| piece.get(0) == Some(&json!(text)));
            let (one, other) = (at("▁black")?, at("▁grey")?);
            pieces.swap(one, other);
            Some(())
        },
    },
    Fault {
        cause: "lower-case",
        description: "tokenizer_config.json asks for lower case, tokenizer.json has none",
        of: SLOW,
        change: |files| set(&mut files.settings, "do_lower_case", json!(true)),
    },
    Fault {
        cause: "split-by-punct",
        description: "tokenizer_config.json asks to cut at punctuation, tokenizer.json does not",
        of: SLOW,
        change: |files| set(&mut files.settings, "split_by_punct", json!(true)),
    },
    Fault {
        cause: "normalizer",
        description: "tokenizer.json has no map of characters",
        of: FAST,
        change: |files| {
            let steps = files.fast.pointer_mut("/normalizer/normalizers")?.as_array_mut()?;
            steps.retain(|step| step.get("type") != Some(&json!("Precompiled")));
            Some(())
        },
    },
    Fault {
        cause: "prefix-space",
        description: "tokenizer.json puts no space before texts",
        of: FAST,
        change: |files| {
            let mut steps =
                files.fast.pointer_mut("/pre_tokenizer/pretokenizers")?.as_array_mut()?.iter_mut();
            set(steps.next()?, "prepend_scheme", json!("never"))
        },
    },
    ADDED_TOKEN_GONE,
    Fault {
        cause: "post-processor",
        description: "the template of tokenizer.json has one segment for a pair",
        of: FAST,
        change: |files| {
            let pair = files.fast.pointer_mut("/post_processor/pair")?.as_array_mut()?;
            let text =
                pair.iter_mut().find_map(|part| part.get_mut("Sequence").filter(|text| text["id"] == "B"))?;
            set(text, "type_id", json!(0))
        },
    },
];

/// Puts every fault into the tokenizers of both versions.
///
/// # Errors
/// A good tokenizer that does not agree with itself; a folder for temporary files that cannot be written to.
pub fn tokenizers(progress: &dyn Progress) -> Result<Vec<SubjectReport>> {
    let versions: [(&str, bool, &[Fault]); 2] = [
        ("a small tokenizer of version 1", false, &OF_VERSION_1),
        ("a small tokenizer of version 2", true, &OF_VERSION_2),
    ];
    let report = |(model, pieces, faults): (&str, bool, &[Fault])| {
        progress.step(model);
        let (good, golden) = good(pieces)?;
        let judged = judged(&good, pieces, &golden)?;
        if let Some(wrong) = judged.findings.iter().find(|finding| finding.outcome != Outcome::Pass) {
            return Err(Error::new(Kind::Verification, format!("{model}, which is good: {}", wrong.message)));
        }
        let faults =
            faults.iter().map(|fault| inject(fault, &good, pieces, &golden)).collect::<Result<_>>()?;
        Ok(SubjectReport { model: model.to_owned(), faults, absent: Vec::new() })
    };
    versions.into_iter().map(report).collect()
}

/// The files of a good tokenizer, and a golden of it.
fn good(pieces: bool) -> Result<(Files, Golden)> {
    let mut files = Files {
        vocab: serde_json::from_str(VOCAB).map_err(|error| broken(&error))?,
        merges: MERGES.lines().map(str::to_owned).collect(),
        pieces: PIECES.to_vec(),
        fast: Value::Null,
        settings: json!({}),
    };
    let next = if pieces { 541 } else { files.vocab.len() + 8 };
    let decoder = json!({ next.to_string(): { "content": ADDED, "normalized": false } });
    set(&mut files.settings, "added_tokens_decoder", decoder);
    let folder = files.write(pieces)?;
    let fast = Kept::Slow.fast(folder.path())?;
    let json = fast.to_json().map_err(|error| broken(&error))?;
    files.fast = serde_json::from_str(&json).map_err(|error| broken(&error))?;
    let alone = TEXTS.into_iter().map(Asked::text).chain([Asked::text(format!("The kite{ADDED} is red."))]);
    let pairs =
        PAIRS.into_iter().map(|(text, pair)| Asked { text_pair: Some(pair.into()), ..Asked::text(text) });
    let tokens =
        fast.meaning().tokens.into_iter().map(|(_, token)| Asked::text(token.replace(['Ġ', '▁'], " ")));
    let texts = alone.chain(pairs).chain(tokens).map(|asked| {
        let made = asked.encoded_fast(&fast)?;
        Ok(PublishedTokens {
            text: asked.text,
            pair: asked.text_pair,
            max_length: None,
            ids: made.ids,
            tokens: None,
            type_ids: Some(made.type_ids),
            offsets: made.offsets,
        })
    });
    let golden = Golden {
        name: "good".to_owned(),
        folder: None,
        case: None,
        traces: Vec::new(),
        tolerances: Tolerances::default(),
        texts: texts.collect::<Result<_>>()?,
    };
    Ok((files, golden))
}

fn inject(fault: &Fault, good: &Files, pieces: bool, golden: &Golden) -> Result<FaultReport> {
    let description = fault.description.to_owned();
    let mut report = FaultReport { kind: fault.cause, description, ..FaultReport::default() };
    let mut files = good.clone();
    if (fault.change)(&mut files).is_none() {
        report.reason = Some("the fault could not be put into the tokenizer".to_owned());
        return Ok(report);
    }
    let judged = judged(&files, pieces, golden)?;
    let differs = |finding: &&crate::report::Finding| finding.kind == FindingKind::TokenizerDiffers;
    let Some(first) = judged.findings.iter().find(differs) else { return Ok(report) };
    report.fate = Fate::Killed;
    report.first_divergence = Some(first.message.clone());
    let failing = judged.tokenizers.iter().filter(|tokenizer| tokenizer.outcome == Outcome::Divergence);
    let (found, causes): (Vec<bool>, Vec<String>) = failing
        .map(|tokenizer| (tokenizer.class.ends_with("Fast"), tokenizer.cause.clone().unwrap_or_default()))
        .unzip();
    report.in_place = found == fault.of.iter().map(|kept| *kept == Kept::Fast).collect::<Vec<_>>();
    report.diagnosed = causes.iter().all(|cause| cause == fault.cause);
    report.diagnoses = causes;
    Ok(report)
}

fn judged(files: &Files, pieces: bool, golden: &Golden) -> Result<Judged> {
    let folder = files.write(pieces)?;
    Ok(judge(folder.path(), None, std::slice::from_ref(golden)))
}

impl Files {
    /// Writes the files of one version into a folder of their own.
    fn write(&self, pieces: bool) -> Result<Workshop> {
        let folder = Workshop::new(None, 1 << 20)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).map_err(|error| Error::io(&path, "write", error))
        };
        if pieces {
            write("spm.model", &self.pieces)?;
        } else {
            write("vocab.json", json!(self.vocab).to_string().as_bytes())?;
            write("merges.txt", (self.merges.join("\n") + "\n").as_bytes())?;
        }
        if !self.fast.is_null() {
            write("tokenizer.json", self.fast.to_string().as_bytes())?;
        }
        write("tokenizer_config.json", self.settings.to_string().as_bytes())?;
        Ok(folder)
    }
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Verification, format!("the tokenizer of the selftest: {error}"))
}

fn set(object: &mut Value, key: &str, value: Value) -> Option<()> {
    object.as_object_mut()?.insert(key.to_owned(), value);
    Some(())
}

fn is_added(token: &Value) -> bool {
    token.get("content") == Some(&json!(ADDED))
}

fn exchange(vocab: &mut Map<String, Value>, one: &str, other: &str) -> Option<()> {
    let (first, second) = (vocab.get(one)?.clone(), vocab.get(other)?.clone());
    vocab.insert(one.to_owned(), second);
    vocab.insert(other.to_owned(), first);
    Some(())
}

/// The places of a merge and of the first later one that takes one of its halves: which of them is made first shows. The
/// first line is a version, so that places are those of lines in merges.txt.
fn first_that_matters<'m>(
    merges: &'m [String],
    halves: impl Fn(&'m str) -> Option<(&'m str, &'m str)>,
) -> Option<(usize, usize)> {
    let all: Vec<(usize, (&str, &str))> =
        merges.iter().enumerate().skip(1).filter_map(|(at, line)| Some((at, halves(line)?))).collect();
    all.iter().enumerate().find_map(|(place, (at, (_, right)))| {
        let later = all.iter().skip(place + 1).find(|(_, (left, _))| left == right)?;
        Some((*at, later.0))
    })
}

/// The four bytes of the score of a piece: behind its text and the key of field 2.
fn score_of<'p>(pieces: &'p mut [u8], text: &str) -> Option<&'p mut [u8]> {
    let mut field = vec![0x0a, u8::try_from(text.len()).ok()?];
    field.extend(text.bytes().chain([0x15]));
    let at = pieces.windows(field.len()).position(|window| window == field)? + field.len();
    pieces.get_mut(at..at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_tokenizers_are_seen_where_they_are_and_named() {
        for subject in tokenizers(&()).unwrap() {
            for fault in &subject.faults {
                println!("{fault:#?}");
                assert_eq!(fault.fate, Fate::Killed, "{}: {fault:#?}", subject.model);
                assert!(fault.in_place && fault.diagnosed, "{}: {fault:#?}", subject.model);
            }
        }
    }
}
