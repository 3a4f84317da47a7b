//! What was verified and what came of it, for people and for programs.
//!
//! ```text
//! results                 what was found: of a model, of its weight files, of their runs
//! rules                   what of it fails
//! shard  merge            a policy that several machines verify, and the one report of theirs
//! document                the results of one model or of a policy, and what every format says of them
//! table                   rows and columns, made from what was found
//! text  html  markdown    for people
//! card                    for the card of the model
//! json  junit             for programs
//! annotations             for GitHub
//! verdict  arbitration  numbers  growth  escape    the words, numbers and texts that these are made of
//! ```

use std::path::Path;

use deberta_converters::printable::{self, lines};

pub mod annotations;
mod arbitration;
mod card;
mod document;
mod escape;
mod f16_range;
mod growth;
mod html;
mod json;
mod junit;
mod losses;
mod markdown;
mod merge;
mod numbers;
mod quantization;
mod results;
mod rules;
mod shard;
pub mod table;
mod text;
mod tokenizers;
mod verdict;

pub use document::{Document, Headline, Subject, Totals};
pub(crate) use f16_range::beyond_f16;
pub use losses::{LayerLoss, Losses, NodeLoss};
pub use merge::{Merged, merge};
pub(crate) use quantization::LOWERED;
pub use quantization::{Answer, Cost, QuantizationReport};
pub(crate) use results::name_of;
pub use results::{Diagnosis, FileReport, Finding, FindingKind, PRODUCER, Report, RunReport, SCHEMA};
pub use rules::{PaddingRule, Rule, Rules, UnjudgedRule};
pub use shard::PolicyShard;
pub use text::Style;
pub use tokenizers::TokenizerReport;

/// A format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum ReportFormat {
    /// For the terminal
    Text,
    /// For programs; docs/report.md describes it
    Json,
    /// JUnit XML, for CI systems
    Junit,
    /// For a comment on a pull request
    Markdown,
    /// One page with plots, which opens offline
    Html,
    /// A section for the model's card, in Markdown
    Card,
}

impl ReportFormat {
    /// The format that the extension of a file stands for; a name that ends in `card.md` is that of a card.
    pub fn of_file(path: &Path) -> Option<ReportFormat> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        if name.ends_with("card.md") {
            return Some(ReportFormat::Card);
        }
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" | "log" => Some(ReportFormat::Text),
            "json" => Some(ReportFormat::Json),
            "xml" => Some(ReportFormat::Junit),
            "md" | "markdown" => Some(ReportFormat::Markdown),
            "html" | "htm" => Some(ReportFormat::Html),
            _ => None,
        }
    }

    /// The text of the report, which ends with a line break.
    pub fn render(self, document: &Document<'_>, style: text::Style) -> String {
        match self {
            ReportFormat::Text => lines(&text::render(document, style), style.color).into_owned(),
            ReportFormat::Json => printable::json(&json::render(document)).into_owned(),
            ReportFormat::Junit => junit::render(document),
            ReportFormat::Markdown => lines(&markdown::render(document), false).into_owned(),
            ReportFormat::Html => html::render(document),
            ReportFormat::Card => lines(&card::render(document), false).into_owned(),
        }
    }
}
