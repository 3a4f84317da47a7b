//! The tokenizers of a release: against the texts of its goldens, and against each other.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use deberta_converters::error::Result;
use deberta_reference::{FastTokenizer, Meaning, Tokenizer};

use super::config;
use super::difference::{Difference, differences};
use super::digest::digest;
use super::encoded::{Asked, Encoded};
use super::files::{Kept, folder_of, open};
use super::guess::guess;
use super::probes::{PAIRS, TEXTS};
use super::recorded::PublishedTokens;
use super::said::{first_difference, quoted};
use crate::goldens::Golden;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind, TokenizerReport};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) tokenizers: Vec<TokenizerReport>,
    pub(crate) findings: Vec<Finding>,
}

/// How many tokens of the vocabulary are tried as texts, if nothing else shows a difference.
const MOST_TOKENS: usize = 4_000;

/// Judges the tokenizers of a model. `config` is its configuration, if that is not beside the weights.
pub(crate) fn judge(model: &Path, config: Option<&Path>, goldens: &[Golden]) -> Judged {
    let folder = folder_of(model);
    let mut judged = Judged::default();
    let texts: Vec<Recorded<'_>> = goldens.iter().flat_map(Recorded::of).collect();
    let mut sides: Vec<Side> = Kept::ALL.into_iter().filter_map(|kept| Side::open(&folder, kept)).collect();
    if sides.is_empty() {
        judged.findings.extend(nothing_to_judge(model, goldens));
        return judged;
    }
    for side in &mut sides {
        texts.iter().enumerate().for_each(|(at, text)| side.compare(at, text));
    }
    if let [slow, fast] = &mut sides[..] {
        fast.excuse(slow);
        judge_against_each_other(slow, fast, &folder);
    }
    for at in 0..sides.len() {
        let other = sides.iter().enumerate().find(|(other, side)| *other != at && side.is_right());
        let other = other.and_then(|(_, side)| Some((side.name(), side.read.as_ref()?.meaning.clone())));
        if let Some(side) = sides.get_mut(at) {
            side.conclude(goldens, &folder, other);
        }
    }
    let by_digest = || sides.iter().any(|side| goldens.iter().any(|golden| side.has_digest_of(golden)));
    if texts.is_empty() && !by_digest() {
        let message = "the golden has no texts: the tokenizer was not judged by it; deberta-verify tokenize --with-text \
                       makes a tokenizer.jsonl of them";
        judged.findings.push(Finding::new(FindingKind::TokenizerNotJudged, Outcome::Pass, message));
    } else if goldens.iter().all(|golden| digest_of(golden).is_none()) {
        judged.findings.extend(read_by_texts(&texts, &sides));
    }
    if let Some((side, read)) = sides.iter().find_map(|side| Some((side, side.read.as_ref()?))) {
        judged.findings.extend(config::check(&folder, config, &side.name(), &read.meaning));
    }
    for side in sides {
        judged.findings.extend(side.findings);
        judged.tokenizers.push(side.report);
    }
    judged
}

/// What follows if there is no tokenizer: nothing, unless a golden has texts for it. Published tokens alone are noted where
/// published values are.
fn nothing_to_judge(model: &Path, goldens: &[Golden]) -> Option<Finding> {
    let texts: usize = goldens.iter().map(|golden| golden.texts.len()).sum();
    // Of a weight file that is named alone, nothing else is asked.
    let outcome = if model.is_dir() { Outcome::Undecided } else { Outcome::Pass };
    (texts > 0).then(|| {
        let message = format!(
            "the golden has {texts} texts with their ids, the model has no tokenizer (vocab.json with merges.txt, spm.model, \
             tokenizer.json): it was not judged"
        );
        Finding::new(FindingKind::TokenizerNotJudged, outcome, message)
    })
}

/// How much of the vocabulary the texts read, where they are all that a tokenizer is judged by.
fn read_by_texts(texts: &[Recorded<'_>], sides: &[Side]) -> Option<Finding> {
    let read = sides.iter().find_map(|side| side.read.as_ref())?;
    let known: HashSet<u32> = read.meaning.tokens.iter().map(|(id, _)| *id).collect();
    let ids: HashSet<u32> = texts.iter().flat_map(|text| text.text.ids.iter().copied()).collect();
    let message = format!(
        "the golden has no tokenizer_digest: its {} texts read {} of the {} tokens of the vocabulary, and nothing compares the others \
         with those that the model was trained with",
        texts.len(),
        ids.intersection(&known).count(),
        known.len(),
    );
    Some(Finding::new(FindingKind::TokenizerNotJudged, Outcome::Pass, message))
}

/// The digest that a golden has of its tokenizer.
fn digest_of(golden: &Golden) -> Option<&String> {
    golden.case.as_ref()?.tokenizer_digest.as_ref()
}

/// A text of a golden.
struct Recorded<'g> {
    golden: &'g Golden,
    text: &'g PublishedTokens,
}

impl<'g> Recorded<'g> {
    fn of(golden: &'g Golden) -> impl Iterator<Item = Recorded<'g>> {
        let published = golden.case.iter().flat_map(|case| &case.tokenizer);
        published.chain(&golden.texts).map(move |text| Recorded { golden, text })
    }
}

/// The files of one kind.
struct Side {
    kept: Kept,
    folder: PathBuf,
    read: Option<Read>,
    report: TokenizerReport,
    findings: Vec<Finding>,
    /// The texts that got other tokens.
    wrong: Vec<Wrong>,
    /// How many texts the slow class makes other tokens of than the fast one that its files are converted to.
    apart: usize,
    first_apart: Option<String>,
}

/// What the files are read to.
struct Read {
    /// The fast class.
    fast: Box<FastTokenizer>,
    /// The slow class, of slow files.
    slow: Option<Tokenizer>,
    meaning: Meaning,
}

/// A text that got other tokens.
struct Wrong {
    /// Which of all texts.
    at: usize,
    golden: String,
    text: PublishedTokens,
    got: Encoded,
}

impl Side {
    /// Reads the files of a kind; nothing if there are none.
    fn open(folder: &Path, kept: Kept) -> Option<Side> {
        let files = kept.files(folder);
        if files.is_empty() {
            return None;
        }
        let report = TokenizerReport {
            class: kept.class(folder).to_owned(),
            files: files.into_iter().map(str::to_owned).collect(),
            outcome: Outcome::Pass,
            ..TokenizerReport::default()
        };
        let mut side = Side {
            kept,
            folder: folder.to_owned(),
            read: None,
            report,
            findings: Vec::new(),
            wrong: Vec::new(),
            apart: 0,
            first_apart: None,
        };
        match Read::open(folder, kept) {
            Ok(read) => {
                side.report.digest = Some(digest(&read.meaning));
                side.warn(&read);
                side.read = Some(read);
            }
            Err(error) => {
                let foreign = config::foreign_class(folder).map(|class| {
                    let message = format!(
                        "{}: the tokenizer is a {class}, which nothing here reads: {error}",
                        side.name()
                    );
                    Finding::new(FindingKind::FileNotJudged, Outcome::Pass, message)
                });
                let finding = foreign.unwrap_or_else(|| Finding::error(&error));
                side.report.outcome = side.report.outcome.max(finding.outcome);
                side.findings.push(finding);
            }
        }
        Some(side)
    }

    /// What reports call the files: `vocab.json and merges.txt`.
    fn name(&self) -> String {
        self.kept.own_files(&self.folder).join(" and ")
    }

    /// Whether it was compared, and agrees.
    fn is_right(&self) -> bool {
        self.report.compared > 0 && self.wrong.is_empty() && self.read.is_some()
    }

    fn has_digest_of(&self, golden: &Golden) -> bool {
        digest_of(golden).zip(self.report.digest.as_ref()).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
    }

    /// Says what transformers would do at random, and what else is to be known of the files.
    fn warn(&mut self, read: &Read) {
        for ignored in read.fast.ignored() {
            self.diverges("dropout", ignored.clone());
        }
        let others =
            read.fast.warnings().into_iter().filter(|warning| !read.fast.ignored().contains(warning));
        self.findings.extend(others.map(|said| Finding::new(FindingKind::Note, Outcome::Pass, said)));
    }

    /// Notes that the files differ from what they should be, and why.
    fn diverges(&mut self, cause: &str, message: String) {
        self.report.outcome = Outcome::Divergence;
        self.report.cause.get_or_insert_with(|| cause.to_owned());
        self.findings.push(Finding::new(FindingKind::TokenizerDiffers, Outcome::Divergence, message));
    }

    /// Compares what the files make of a text with what the golden has.
    ///
    /// Slow files agree if the slow class does. Where transformers' two classes make different tokens of a text, and the
    /// golden was recorded by the fast one, they agree if what they are converted to does.
    fn compare(&mut self, at: usize, recorded: &Recorded<'_>) {
        let Some(read) = &self.read else { return };
        self.report.compared += 1;
        let asked = recorded.text.asked();
        let fast = asked.encoded_fast(&read.fast);
        let slow = read.slow.as_ref().map(|slow| asked.encoded(slow));
        let made = slow.as_ref().unwrap_or(&fast);
        let got = match made {
            Ok(made) => made,
            Err(error) => {
                self.findings.push(Finding::error(error));
                self.report.outcome = self.report.outcome.max(Outcome::Undecided);
                return;
            }
        };
        let apart = slow.is_some() && fast.as_ref().is_ok_and(|fast| fast.ids != got.ids);
        let right = recorded.text.agrees(got)
            || apart && !read.has_own_options() && fast.as_ref().is_ok_and(|fast| recorded.text.agrees(fast))
            || self.kept == Kept::Fast && read.is_folded(&recorded.text.ids, &got.ids)
            || self.has_digest_of(recorded.golden);
        if apart {
            self.apart += 1;
            self.first_apart.get_or_insert_with(|| quoted(&recorded.text.text));
        }
        // What the slow class lacks is judged by the class that has it.
        let places =
            fast.as_ref().is_ok_and(|fast| fast.ids == recorded.text.ids && !recorded.text.agrees(fast));
        if !right || places && !self.has_digest_of(recorded.golden) {
            let got = match fast {
                Ok(fast) if right => fast,
                _ => got.clone(),
            };
            let (golden, text) = (recorded.golden.name.clone(), recorded.text.clone());
            self.wrong.push(Wrong { at, golden, text, got });
        }
    }

    /// Takes back what a golden that was recorded by the slow class says against tokenizer.json, where the slow files
    /// agree with the golden, and tokenizer.json does what they are converted to.
    fn excuse(&mut self, slow: &Side) {
        let Some(converted) = slow.read.as_ref().map(|read| &read.fast) else { return };
        let of_slow: HashSet<usize> = slow.wrong.iter().map(|wrong| wrong.at).collect();
        self.wrong.retain(|wrong| {
            let made = wrong.text.asked().encoded_fast(converted);
            let as_converted = made.is_ok_and(|made| made.ids == wrong.got.ids);
            !as_converted || of_slow.contains(&wrong.at) || wrong.got.ids == wrong.text.ids
        });
    }

    /// Says what differs from the goldens, and why. `other` is the name and meaning of files that agree with them.
    fn conclude(&mut self, goldens: &[Golden], folder: &Path, other: Option<(String, Meaning)>) {
        self.report.differ = self.wrong.len();
        let digest_differs = goldens
            .iter()
            .find(|golden| digest_of(golden).is_some() && self.read.is_some() && !self.has_digest_of(golden));
        let known = || other.clone().or_else(|| own_of_golden(goldens, folder));
        if let Some(wrong) = self.wrong.first() {
            let found = self.read.as_ref().and_then(|read| read.cause(wrong, known()));
            let (cause, why) =
                found.map_or(("unknown", String::new()), |(cause, why)| (cause, format!(": {why}")));
            let message = format!(
                "{}: {}: {}, as golden {} has it ({} of {} texts differ){why}",
                self.name(),
                quoted(&wrong.text.text),
                first_difference(&wrong.text, &wrong.got),
                wrong.golden,
                self.wrong.len(),
                self.report.compared
            );
            self.diverges(cause, message);
        } else if let Some(golden) = digest_differs {
            let why = self
                .read
                .as_ref()
                .zip(known())
                .and_then(|(read, (_, right))| differences(&right, &read.meaning).into_iter().next());
            let (cause, why) =
                why.map_or(("unknown", String::new()), |why| (why.cause, format!(": {}", why.what)));
            let own = self.report.digest.clone().unwrap_or_default();
            let message = format!(
                "{}: tokenizer digest {own}, that of golden {} is another: not the same tokenizer{why}",
                self.name(),
                golden.name
            );
            self.diverges(cause, message);
        }
        if self.apart > 0 && self.wrong.is_empty() {
            let message = format!(
                "{}: transformers' slow class makes other tokens than its fast class of {} of {} texts ({}), which is how the \
                 two are made (docs/tokenizers.md)",
                self.name(),
                self.apart,
                self.report.compared,
                self.first_apart.clone().unwrap_or_default()
            );
            self.findings.push(Finding::new(FindingKind::TokenizerClasses, Outcome::Pass, message));
        }
    }
}

impl Read {
    fn open(folder: &Path, kept: Kept) -> Result<Read> {
        let fast = kept.fast(folder)?;
        let slow = if kept == Kept::Slow { Some(open(folder, true)?) } else { None };
        Ok(Read { meaning: fast.meaning(), fast, slow })
    }

    /// Whether spm.model has options of its own that no conversion keeps: then the slow class alone does what it says.
    fn has_own_options(&self) -> bool {
        self.meaning.options.iter().any(|(name, _)| name.starts_with("spm.model "))
    }

    /// Whether the ids of the slow class, which spells what no piece does by its bytes, are those of the fast class, for which
    /// it is unknown.
    fn is_folded(&self, want: &[u32], got: &[u32]) -> bool {
        let token =
            |id: u32| self.meaning.tokens.get(usize::try_from(id).ok()?).map(|(_, token)| token.as_str());
        let is_byte = |id: u32| {
            token(id)
                .is_some_and(|token| token.len() == 6 && token.starts_with("<0x") && token.ends_with('>'))
        };
        let unknown = self.meaning.options.iter().find(|(name, _)| name == "unk_token");
        let Some(unknown) = unknown.and_then(|(_, id)| id.parse().ok()) else { return false };
        let folded = |ids: &[u32]| {
            let mut folded: Vec<u32> = ids.iter().map(|&id| if is_byte(id) { unknown } else { id }).collect();
            folded.dedup_by(|a, b| a == b && *a == unknown);
            folded
        };
        want.iter().any(|&id| is_byte(id)) && folded(want) == folded(got)
    }

    /// Why a text got other tokens: what differs from the files that are right, or what the text itself tells.
    fn cause(&self, wrong: &Wrong, right: Option<(String, Meaning)>) -> Option<(&'static str, String)> {
        if let Some((name, right)) = right
            && let Some(first) = differences(&right, &self.meaning).into_iter().next()
        {
            return Some((first.cause, format!("unlike {name}, {}", first.what)));
        }
        let (cause, why) = guess(&wrong.text, &wrong.got, &self.fast, &self.meaning)?;
        Some((cause, format!("likely {cause}: {why}")))
    }
}

/// The tokenizer in the folder of the golden's own model, if that is another than the release.
fn own_of_golden(goldens: &[Golden], release: &Path) -> Option<(String, Meaning)> {
    let release = release.canonicalize().ok()?;
    goldens.iter().find_map(|golden| {
        let folder = golden.model_folder().ok().flatten()?;
        let folder = folder.canonicalize().ok().filter(|folder| *folder != release)?;
        let kept = Kept::ALL.into_iter().find(|kept| !kept.files(&folder).is_empty())?;
        let meaning = kept.fast(&folder).ok()?.meaning();
        Some((format!("the tokenizer of golden {}", golden.name), meaning))
    })
}

/// Compares slow files, as they are converted, with tokenizer.json. What the goldens have said already is not said again.
fn judge_against_each_other(slow: &mut Side, fast: &mut Side, folder: &Path) {
    let (Some(of_slow), Some(of_fast)) = (&slow.read, &fast.read) else { return };
    let found = differences(&of_slow.meaning, &of_fast.meaning);
    let Some(first) = found.iter().find(|difference| difference.matters).or(found.first()) else { return };
    let shown = shown_by(&of_slow.fast, &of_fast.fast, &of_slow.meaning, &found);
    let names = format!("{} and {}", slow.name(), fast.name());
    if !first.matters && shown.is_none() {
        let message = format!(
            "{names} make the same tokens of all texts that were tried, and do not say the same: {}",
            first.what
        );
        fast.findings.push(Finding::new(FindingKind::TokenizerClasses, Outcome::Pass, message));
        return;
    }
    if !slow.wrong.is_empty() || !fast.wrong.is_empty() {
        return;
    }
    let by = match shown {
        Some((asked, want, got)) => {
            let want =
                PublishedTokens { ids: want.ids, tokens: Some(want.tokens), ..PublishedTokens::default() };
            let what = first_difference(&want, &got);
            format!("{}: {what}, as {} has it", quoted(&asked.text), slow.name())
        }
        None => "no text was found that shows it".to_owned(),
    };
    let reads = format!("transformers' {} reads tokenizer.json", Kept::Fast.class(folder));
    let message = format!("{names} are not the same tokenizer: {by}: {}; {reads}", first.what);
    fast.diverges(first.cause, message);
}

/// The first text of which two tokenizers make different tokens, and what they make of it.
fn shown_by(
    one: &FastTokenizer,
    other: &FastTokenizer,
    meaning: &Meaning,
    differences: &[Difference],
) -> Option<(Asked, Encoded, Encoded)> {
    let hints = differences.iter().flat_map(|difference| difference.hints.iter().cloned()).map(Asked::text);
    let probes = TEXTS.into_iter().map(Asked::text);
    let pairs =
        PAIRS.into_iter().map(|(text, pair)| Asked { text_pair: Some(pair.into()), ..Asked::text(text) });
    let tokens = meaning.tokens.iter().take(MOST_TOKENS).map(|(_, token)| token.replace(['Ġ', '▁'], " "));
    probes.chain(pairs).chain(hints).chain(tokens.map(Asked::text)).find_map(|asked| {
        let (one, other) = (asked.encoded_fast(one).ok()?, asked.encoded_fast(other).ok()?);
        (one != other).then_some((asked, one, other))
    })
}
