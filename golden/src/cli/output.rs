//! Where reports go: the terminal, files, GitHub.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use deberta_converters::cli::{console, print_as_it_is};
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::output;

use super::exit_status::ExitStatus;
use super::terminal::{command, say};
use crate::report::annotations::annotations;
use crate::report::{Document, ReportFormat, Style};

/// Which reports to write, and how.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// What to print; text when not given
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<ReportFormat>,
    /// Write a report to a file, too, and replace what is there; may be repeated. The extension says the format (.txt,
    /// .json, .xml for junit, .md, card.md for a section of the model's card, .html), and --format for any other
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Show every point, and not only those around the first divergence
    #[arg(long)]
    all_points: bool,
}

/// What was asked for, found to be possible.
pub(super) struct Output {
    format: ReportFormat,
    files: Vec<(PathBuf, ReportFormat)>,
    all_points: bool,
}

impl OutputArgs {
    /// Checks, before anything is computed, that the reports, and those of a policy, can be written. One that the policy asks
    /// for, too, is written once.
    ///
    /// # Errors
    /// An extension that says no format; the same file twice; a folder that is not there.
    pub(super) fn open(&self, of_policy: Vec<PathBuf>) -> Result<Output> {
        let asked = if self.json { Some(ReportFormat::Json) } else { self.format };
        let (mut files, mut own, mut of_the_policy) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let asked_for = self.report.iter().cloned().map(|path| (path, false));
        for (path, by_policy) in asked_for.chain(of_policy.into_iter().map(|path| (path, true))) {
            let format = ReportFormat::of_file(&path).or(asked).ok_or_else(|| {
                let message = "which format? expected .txt, .json, .xml, .md or .html, or --format";
                Error::new(Kind::Request, message).in_file(&path)
            })?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let real = folder.canonicalize().map_err(|error| Error::io(folder, "write to", error))?;
            if path.is_dir() {
                return Err(Error::new(Kind::Request, "a folder: --report names a file").in_file(&path));
            }
            let real = real.join(path.file_name().unwrap_or_default());
            let twice = own.contains(&real);
            let seen = if by_policy { &mut of_the_policy } else { &mut own };
            if !seen.insert(real) {
                return Err(Error::new(Kind::Request, "two reports in one file").in_file(&path));
            }
            if !(by_policy && twice) {
                output::check(&path)?;
                files.push((path, format));
            }
        }
        Ok(Output { format: asked.unwrap_or(ReportFormat::Text), files, all_points: self.all_points })
    }
}

impl Output {
    /// Prints and writes the report; the exit status is its outcome.
    pub(super) fn show(&self, document: &Document<'_>) -> Result<ExitStatus> {
        self.print(document)?;
        self.write(document)?;
        Ok(document.outcome().into())
    }

    /// Prints and writes the report of what could not be done at all; as text it is told on standard error.
    pub(super) fn show_failure(&self, document: &Document<'_>) -> Result<()> {
        if self.format != ReportFormat::Text {
            self.print(document)?;
        }
        self.write(document)
    }

    /// Prints the report.
    fn print(&self, document: &Document<'_>) -> Result<()> {
        let style = Style {
            color: console::has_colors(),
            all_points: self.all_points,
            width: console::width(),
            brief: console::is_quiet(),
        };
        let text = self.format.render(document, style);
        // A report is printable as it is, and may have colours.
        print_as_it_is(text.strip_suffix('\n').unwrap_or(&text))
    }

    /// Writes the reports to their files, each whole or not at all, and tells GitHub if it runs this.
    ///
    /// # Errors
    /// A file cannot be written.
    fn write(&self, document: &Document<'_>) -> Result<()> {
        for (path, format) in &self.files {
            output::replace(path, format.render(document, self.style()).as_bytes())?;
        }
        if std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true") {
            // Both streams are searched for commands; standard output may be a report in a format of its own.
            for line in annotations(document, |report, file| in_repository(&report.place, file)) {
                command(&line);
            }
            summarize(&ReportFormat::Markdown.render(document, self.style()));
        }
        Ok(())
    }

    /// How the reports in files look.
    fn style(&self) -> Style {
        Style { all_points: self.all_points, ..Style::default() }
    }
}

/// The path of a weight file in the repository that GitHub checked out, if it is there.
fn in_repository(model: &Path, file: &str) -> Option<String> {
    let path = if model.is_dir() { model.join(file) } else { model.to_owned() };
    let workspace = PathBuf::from(std::env::var_os("GITHUB_WORKSPACE")?).canonicalize().ok()?;
    let path = path.canonicalize().ok()?;
    Some(path.strip_prefix(workspace).ok()?.to_str()?.to_owned())
}

/// Adds Markdown to the summary of the step, if GitHub gave it a file.
fn summarize(markdown: &str) {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else { return };
    let file = std::fs::File::options().append(true).create(true).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(markdown.as_bytes())) {
        say(&format!("warning: {}: cannot write the summary: {error}", PathBuf::from(path).display()));
    }
}
