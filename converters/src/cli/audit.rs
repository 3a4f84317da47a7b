//! `audit`: what the pickles of a file would call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::arguments::HubArgs;
use super::exit_status::ExitStatus;
use super::print::{Output, print_json, print_text};
use crate::containers::files_of;
use crate::error::{Error, Kind, Printable, Result};
use crate::format::Format;
use crate::format::torch::{Audit, AuditedPickle, Container, Event, EventKind, audit, sniff};
use crate::hub::hub_id;
use crate::mapped::Mapped;

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 if conversion would allow everything, 1 if it would refuse something, or if \
    the file could not be followed to its end."
)]
pub(super) struct AuditArgs {
    /// PyTorch file, or any pickle; also one that conversion refuses. Or a folder, of which every pickle is read, or a hub id,
    /// of which the PyTorch weights are
    input: PathBuf,
    #[command(flatten)]
    hub: HubArgs,
    /// List what is allowed too
    #[arg(long)]
    all: bool,
    /// How the findings are printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Output,
}

/// The version of what `audit --format json` prints.
const SCHEMA: &str = "deberta-audit-1";

/// What `audit --format json` prints.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Found {
    One(Report),
    Several(Reports),
}

/// What it prints of one file.
#[derive(Serialize)]
pub(super) struct Report {
    schema: &'static str,
    path: PathBuf,
    clean: bool,
    #[serde(flatten)]
    audit: Audit,
}

/// What it prints of several files.
#[derive(Serialize)]
pub(super) struct Reports {
    schema: &'static str,
    path: PathBuf,
    clean: bool,
    files: Vec<Report>,
    /// What could not be looked at, and why.
    failed: Vec<String>,
}

impl AuditArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let found = self.report()?;
        match self.format {
            Output::Json => print_json(&found)?,
            Output::Text => print_text(&found.text(self.all))?,
        }
        Ok(if found.is_clean() { ExitStatus::Success } else { ExitStatus::Failure })
    }

    /// Follows the pickles.
    pub(super) fn report(&self) -> Result<Found> {
        let paths = self.files()?;
        let mut files: Vec<Report> = Vec::with_capacity(paths.len());
        let mut failed = Vec::new();
        for path in &paths {
            match Mapped::open(path).and_then(|file| audit(&file)) {
                Ok(audit) => files.push(Report::new(path.clone(), audit)),
                Err(error) if paths.len() == 1 => return Err(error),
                Err(error) => failed.push(error.to_string()),
            }
        }
        if paths.len() == 1
            && let Some(report) = files.pop()
        {
            return Ok(Found::One(report));
        }
        let clean = failed.is_empty() && files.iter().all(|report| report.clean);
        Ok(Found::Several(Reports { schema: SCHEMA, path: self.input.clone(), clean, files, failed }))
    }

    /// The file that is named, or every file of a folder that may be a pickle.
    fn files(&self) -> Result<Vec<PathBuf>> {
        if self.input.is_dir() {
            self.hub.check(&[&self.input])?;
            let files = pickles(&self.input);
            if files.is_empty() {
                let why =
                    "no file in this folder that may be a pickle: .bin, .pt, .pth, .ckpt, .pkl and the like";
                return Err(Error::new(Kind::Io, why).in_file(&self.input));
            }
            return Ok(files);
        }
        if hub_id(&self.input)?.is_none() {
            return self.hub.check(&[&self.input]).map(|()| vec![self.input.clone()]);
        }
        Ok(self.hub.locate(&self.input, Some(Format::PyTorch))?.files)
    }
}

impl Found {
    fn is_clean(&self) -> bool {
        match self {
            Found::One(report) => report.clean,
            Found::Several(reports) => reports.clean,
        }
    }

    /// The report for people; what is allowed is listed if `all` is.
    fn text(&self, all: bool) -> String {
        let reports = match self {
            Found::One(report) => return report.text(all),
            Found::Several(reports) => reports,
        };
        let mut texts: Vec<String> = reports.files.iter().map(|report| report.text(all)).collect();
        texts.extend(reports.failed.iter().map(|why| format!("not followed: {why}")));
        let clean = reports.files.iter().filter(|report| report.clean).count();
        texts.push(format!("{clean} of {} files hold nothing but what a checkpoint needs", texts.len()));
        texts.join("\n\n")
    }
}

impl Report {
    fn new(path: PathBuf, audit: Audit) -> Report {
        Report { schema: SCHEMA, path, clean: audit.is_clean(), audit }
    }

    fn text(&self, all: bool) -> String {
        let Report { path, audit, .. } = self;
        let container = match audit.container {
            Container::Zip => "zip archive",
            Container::LegacyStream => "legacy stream",
            Container::Pickle => "bare pickle",
        };
        let mut lines = vec![format!("{}: {container}, {} pickles", path.display(), audit.pickles.len())];
        lines.extend(audit.problems.iter().map(|problem| format!("problem: {}", Printable(problem))));
        for pickle in &audit.pickles {
            pickle_lines(pickle, all, &mut lines);
        }
        let refused = audit.refused().count();
        lines.push(match (audit.is_clean(), refused) {
            (true, _) => "verdict: nothing but what a checkpoint needs".to_owned(),
            (false, 0) => "verdict: could not be followed to its end".to_owned(),
            (false, _) => format!("verdict: {refused} requests that conversion refuses"),
        });
        lines.join("\n")
    }
}

fn pickle_lines(pickle: &AuditedPickle, all: bool, lines: &mut Vec<String>) {
    lines.push(format!("\n{} (from byte {})", Printable(&pickle.entry), pickle.start));
    let mut allowed: BTreeMap<String, usize> = BTreeMap::new();
    for event in &pickle.events {
        if event.allowed && !all {
            *allowed.entry(format!("{} {}", verb(event.kind), event.target)).or_default() += 1;
        } else {
            lines.push(line(event));
        }
    }
    lines.extend(allowed.iter().map(|(what, count)| format!("  allowed  {count:>8} x {}", Printable(what))));
    for (count, which) in [(pickle.omitted_allowed, "allowed"), (pickle.omitted_refused, "REFUSED")] {
        if count > 0 {
            lines.push(format!("  {which}  {count:>8} more, not listed"));
        }
    }
    if let Some(stopped) = &pickle.stopped {
        lines.push(format!("  stopped  {}", Printable(stopped)));
    }
}

/// The files of a folder, and of the folders in it, that may be pickles by their names and their first bytes.
fn pickles(folder: &Path) -> Vec<PathBuf> {
    const DEEPEST: usize = 8;
    const MOST: usize = 200_000;
    const PICKLED: [&str; 12] =
        ["bin", "pt", "pth", "th", "ckpt", "pkl", "pickle", "joblib", "ptl", "ot", "distcp", "model"];
    let may_be_pickle = |name: &str| {
        let path = folder.join(name);
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        (extension.is_empty() || PICKLED.contains(&extension.as_str()))
            && Mapped::open(&path)
                .map_or(!extension.is_empty(), |file| sniff(&file) || extension.starts_with("p"))
    };
    files_of(folder, DEEPEST, MOST)
        .into_iter()
        .filter(|name| may_be_pickle(name))
        .map(|name| folder.join(name))
        .collect()
}

fn line(event: &Event) -> String {
    let verdict = if event.allowed { "allowed" } else { "REFUSED" };
    let arguments =
        if event.arguments.is_empty() { String::new() } else { format!("  {}", Printable(&event.arguments)) };
    format!(
        "  {verdict}  byte {:>6}  {} {}{arguments}",
        event.offset,
        verb(event.kind),
        Printable(&event.target)
    )
}

fn verb(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Import => "import",
        EventKind::Extension => "extension",
        EventKind::Call => "call",
        EventKind::New => "new",
        EventKind::SetState => "set state of",
        EventKind::AddItems => "add items to",
    }
}
