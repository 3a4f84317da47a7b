//! `audit`: what the pickles of a file would call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::arguments::HubArgs;
use super::exit_status::ExitStatus;
use super::print::{Output, print, print_json};
use crate::error::{Error, Kind, Printable, Result};
use crate::format::Format;
use crate::format::torch::{Audit, AuditedPickle, Container, Event, EventKind, audit};
use crate::hub::hub_id;
use crate::mapped::Mapped;

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 if conversion would allow everything, 1 if it would refuse something, or if \
    the file could not be followed to its end."
)]
pub(super) struct AuditArgs {
    /// PyTorch file, or any pickle; also one that conversion refuses. Or a model folder or hub id with one PyTorch file
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

/// What `audit --format json` prints.
#[derive(Serialize)]
pub(super) struct Report {
    schema: &'static str,
    path: PathBuf,
    clean: bool,
    #[serde(flatten)]
    audit: Audit,
}

impl AuditArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let report = self.report()?;
        match self.format {
            Output::Json => print_json(&report)?,
            Output::Text => print(&self.text(&report.path, &report.audit))?,
        }
        Ok(if report.clean { ExitStatus::Success } else { ExitStatus::Failure })
    }

    /// Follows the pickles.
    pub(super) fn report(&self) -> Result<Report> {
        let path = self.file()?;
        let audit = audit(&Mapped::open(&path)?)?;
        Ok(Report { schema: "deberta-audit-1", path, clean: audit.is_clean(), audit })
    }

    fn file(&self) -> Result<PathBuf> {
        if hub_id(&self.input)?.is_none() && !self.input.is_dir() {
            return self.hub.check(&[&self.input]).map(|()| self.input.clone());
        }
        let source = self.hub.locate(&self.input, Some(Format::PyTorch), None)?;
        match source.files.as_slice() {
            [file] => Ok(file.clone()),
            files => {
                let why = format!("lists {} files: audit each of them", files.len());
                Err(Error::new(Kind::Request, why).in_file(&source.path))
            }
        }
    }

    fn text(&self, path: &Path, audit: &Audit) -> String {
        let container = match audit.container {
            Container::Zip => "zip archive",
            Container::LegacyStream => "legacy stream",
            Container::Pickle => "bare pickle",
        };
        let mut lines = vec![format!("{}: {container}, {} pickles", path.display(), audit.pickles.len())];
        lines.extend(audit.problems.iter().map(|problem| format!("problem: {}", Printable(problem))));
        for pickle in &audit.pickles {
            self.pickle(pickle, &mut lines);
        }
        let refused = audit.refused().count();
        lines.push(match (audit.is_clean(), refused) {
            (true, _) => "verdict: nothing but what a checkpoint needs".to_owned(),
            (false, 0) => "verdict: could not be followed to its end".to_owned(),
            (false, _) => format!("verdict: {refused} requests that conversion refuses"),
        });
        lines.join("\n")
    }

    fn pickle(&self, pickle: &AuditedPickle, lines: &mut Vec<String>) {
        lines.push(format!("\n{} (from byte {})", Printable(&pickle.entry), pickle.start));
        let mut allowed: BTreeMap<String, usize> = BTreeMap::new();
        for event in &pickle.events {
            if event.allowed && !self.all {
                *allowed.entry(format!("{} {}", verb(event.kind), event.target)).or_default() += 1;
            } else {
                lines.push(line(event));
            }
        }
        lines.extend(
            allowed.iter().map(|(what, count)| format!("  allowed  {count:>8} x {}", Printable(what))),
        );
        for (count, which) in [(pickle.omitted_allowed, "allowed"), (pickle.omitted_refused, "REFUSED")] {
            if count > 0 {
                lines.push(format!("  {which}  {count:>8} more, not listed"));
            }
        }
        if let Some(stopped) = &pickle.stopped {
            lines.push(format!("  stopped  {}", Printable(stopped)));
        }
    }
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
