//! What the pickles of a file would have called, had Python loaded them.
//!
//! The same machine runs as for reading, but with an environment that allows everything, does nothing and writes
//! down what was asked of it. It works on any pickle, and on files that [`open`](super::open) refuses.

use std::borrow::Cow;

use serde::Serialize;

use super::pickle::{Heap, Ops, run};
use super::zip::{self, Archive};
use super::{foreign, legacy};
use crate::error::{Error, Printable, Result};
use crate::mapped::Mapped;

mod event;
mod recorder;
mod render;
#[cfg(test)]
mod tests;

use recorder::{Listed, Recorder};

pub use event::{Event, EventKind};

/// Every call of every pickle in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// What holds the pickles.
    pub container: Container,
    /// The pickles, in the order of the file.
    pub pickles: Vec<AuditedPickle>,
    /// What is wrong with the container, or was not looked at, in words.
    pub problems: Vec<String>,
}

/// What holds the pickles of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// A zip archive, as torch writes it now.
    Zip,
    /// The stream that torch wrote before 1.6.
    LegacyStream,
    /// Pickles and nothing else, as far as can be told.
    Pickle,
}

/// What one pickle calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditedPickle {
    /// The entry of the archive that it is in, or what it is in a legacy stream.
    pub entry: String,
    /// Where it starts: in the unpacked entry of an archive, or else in the file.
    pub start: u64,
    /// What it calls, in order.
    pub events: Vec<Event>,
    /// Events on the allow-list that were left out because there are too many.
    pub omitted_allowed: u64,
    /// Events not on the allow-list that were left out because there are too many.
    pub omitted_refused: u64,
    /// Why the rest of the pickle could not be followed, and where, if so.
    pub stopped: Option<String>,
}

impl Audit {
    /// What reading a checkpoint would refuse, with the pickle that asks for it.
    pub fn refused(&self) -> impl Iterator<Item = (&AuditedPickle, &Event)> {
        self.pickles.iter().flat_map(|pickle| {
            pickle.events.iter().filter(|event| !event.allowed).map(move |event| (pickle, event))
        })
    }

    /// Whether everything was looked at and nothing would be refused.
    pub fn is_clean(&self) -> bool {
        let clean = |pickle: &AuditedPickle| pickle.stopped.is_none() && pickle.omitted_refused == 0;
        self.problems.is_empty() && self.pickles.iter().all(clean) && self.refused().next().is_none()
    }
}

/// Lists everything that the pickles in `file` would have called. Nothing is executed.
///
/// A pickle that is damaged or truncated is followed as far as it goes. An archive whose directory is damaged is
/// searched for entries.
///
/// # Errors
/// If the file is neither an archive nor a pickle.
pub fn audit(file: &Mapped) -> Result<Audit> {
    let mut auditor = Auditor::default();
    let container = if zip::is_archive(file) {
        auditor.archive(file);
        Container::Zip
    } else {
        auditor.stream(file)
    };
    if auditor.nothing_was_a_pickle() && container == Container::Pickle {
        let what = foreign(file).unwrap_or("neither a zip archive nor a pickle");
        return Err(Error::unsupported(format!("{what}: there is nothing to audit")).in_file(file.path()));
    }
    Ok(Audit { container, pickles: auditor.pickles, problems: auditor.problems })
}

/// How many pickles are looked at.
const MOST_PICKLES: usize = 1000;
/// How many entries of an archive without a directory are looked for.
const MOST_HEADERS: usize = 100_000;
/// How many bytes of compressed entries are unpacked, over all of them.
const MOST_UNPACKED: usize = 256 << 20;

#[derive(Default)]
struct Auditor {
    pickles: Vec<AuditedPickle>,
    problems: Vec<String>,
    /// Instructions so far: all pickles together have as many as the reader allows one file.
    steps: usize,
    /// Events listed so far.
    listed: Listed,
    unpacked: usize,
    /// Pickles that were not looked at.
    left_out: usize,
}

impl Auditor {
    /// The pickles in an archive.
    fn archive(&mut self, file: &[u8]) {
        match Archive::parse(file) {
            Ok(archive) => {
                for entry in archive.entries() {
                    let packed = file.get(entry.packed.clone()).unwrap_or_default();
                    self.entry(&entry.name, packed, entry.deflated);
                }
            }
            Err(error) => {
                self.problems.push(error.to_string());
                for header in zip::local_headers(file).take(MOST_HEADERS) {
                    let rest = file.get(header.data_at..).unwrap_or_default();
                    let len = header.packed_len.and_then(|len| usize::try_from(len).ok());
                    let packed = len.and_then(|len| rest.get(..len)).unwrap_or(rest);
                    self.entry(header.name, packed, header.deflated);
                }
            }
        }
        if self.left_out > 0 {
            self.problems.push(format!("{} pickles were not looked at", self.left_out));
        }
        if self.pickles.is_empty() {
            self.problems.push("no entry of the archive is a pickle".to_owned());
        }
    }

    fn entry(&mut self, name: &str, packed: &[u8], deflated: bool) {
        let is_pickle = name.ends_with(".pkl") || name.ends_with(".pickle");
        if !is_pickle && !looks_like_pickle(name, packed, deflated) {
            return;
        }
        if self.pickles.len() == MOST_PICKLES {
            self.left_out += 1;
            return;
        }
        let name = Printable(name).to_string();
        let bytes = if deflated {
            let bytes = zip::inflate_prefix(packed, MOST_UNPACKED - self.unpacked);
            self.unpacked += bytes.len();
            if self.unpacked == MOST_UNPACKED {
                self.problems.push(format!("entry \"{name}\" was unpacked in part only: it is too large"));
            }
            Cow::Owned(bytes)
        } else {
            Cow::Borrowed(packed)
        };
        self.pickle(&bytes, 0, &name);
    }

    /// The pickles of a file that is a sequence of them: at least one, and raw data behind them in a legacy stream.
    fn stream(&mut self, file: &[u8]) -> Container {
        let is_legacy = legacy::is_legacy(file);
        let mut at = 0;
        for index in 0..MOST_PICKLES {
            let name = match (is_legacy, legacy::PICKLES.get(index)) {
                (true, Some(name)) => (*name).to_owned(),
                (true, None) => break,
                (false, _) => format!("pickle {}", index + 1),
            };
            let end = self.pickle(file, at, &name);
            let Some(end) = end.filter(|&end| end < file.len()) else { break };
            at = end;
        }
        // What follows a pickle need not be one.
        if !is_legacy && self.pickles.len() > 1 && self.pickles.last().is_some_and(was_no_pickle) {
            self.pickles.pop();
            self.problems.push(format!("{} bytes behind the last pickle, at byte {at}", file.len() - at));
        }
        if is_legacy { Container::LegacyStream } else { Container::Pickle }
    }

    /// The pickle at byte `start` of `bytes`. Returns its end, if it could be followed to there.
    fn pickle(&mut self, bytes: &[u8], start: usize, name: &str) -> Option<usize> {
        let (mut heap, mut recorder) = (Heap::default(), Recorder::new(self.listed));
        let mut ops = Ops::new(bytes, start, name);
        let result =
            heap.charge(self.steps, ops.place()).and_then(|()| run(&mut ops, &mut heap, &mut recorder));
        self.steps = heap.steps();
        self.listed = recorder.listed;
        self.pickles.push(AuditedPickle {
            entry: name.to_owned(),
            start: start as u64,
            events: recorder.events,
            omitted_allowed: recorder.omitted_allowed,
            omitted_refused: recorder.omitted_refused,
            stopped: result.as_ref().err().map(Error::to_string),
        });
        result.is_ok().then(|| ops.at())
    }

    fn nothing_was_a_pickle(&self) -> bool {
        self.pickles.iter().all(was_no_pickle)
    }
}

/// Whether nothing came of following it.
fn was_no_pickle(pickle: &AuditedPickle) -> bool {
    pickle.stopped.is_some() && pickle.events.is_empty()
}

/// Whether an entry that is not called a pickle starts as those of protocol 2 and above do. Storages may do so by
/// chance, and nobody unpickles them.
fn looks_like_pickle(name: &str, packed: &[u8], deflated: bool) -> bool {
    let is_storage = name.rsplit_once('/').is_some_and(|(folder, _)| folder.ends_with("data"));
    let start = if deflated { Cow::Owned(zip::inflate_prefix(packed, 2)) } else { Cow::Borrowed(packed) };
    !is_storage && matches!(start.as_ref(), [0x80, 2..=5, ..])
}
