//! The formats of reports.

use std::path::Path;

use super::{Document, html, json, junit, markdown, text};

/// A format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Format {
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
}

impl Format {
    /// The format that the extension of a file stands for.
    pub fn of_file(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" | "log" => Some(Format::Text),
            "json" => Some(Format::Json),
            "xml" => Some(Format::Junit),
            "md" | "markdown" => Some(Format::Markdown),
            "html" | "htm" => Some(Format::Html),
            _ => None,
        }
    }

    /// The text of the report, which ends with a line break.
    pub fn render(self, document: &Document<'_>, style: text::Style) -> String {
        match self {
            Format::Text => text::render(document, style),
            Format::Json => json::render(document),
            Format::Junit => junit::render(document),
            Format::Markdown => markdown::render(document),
            Format::Html => html::render(document),
        }
    }
}
