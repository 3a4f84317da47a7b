//! The tokenizers of a release: what was judged of them.

use serde::{Deserialize, Serialize};

use super::numbers::grouped;
use super::table::{Column, Row, Table};
use crate::judge::verdict::Outcome;

/// The result for the slow files of a tokenizer, or for its fast file. What there is to say is among the findings of the
/// report; each names the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerReport {
    /// The class of transformers that reads the files: `DebertaTokenizer`, `DebertaV2TokenizerFast`.
    pub class: String,
    /// The files.
    pub files: Vec<String>,
    /// The tokenizer digest; nothing if the files could not be read.
    pub digest: Option<String>,
    /// How many texts of goldens were compared.
    pub compared: usize,
    /// How many of them got other tokens.
    pub differ: usize,
    /// A word for why they did, or why slow and fast files differ: `merges-order`, …; nothing if they do not.
    pub cause: Option<String>,
    /// How it ends, by default.
    pub outcome: Outcome,
}

/// A row for the slow files, and one for the fast file; nothing if there are none.
pub(super) fn table(tokenizers: &[TokenizerReport]) -> Option<Table> {
    let row = |tokenizer: &TokenizerReport| {
        let digest = tokenizer.digest.as_deref().unwrap_or("-").chars().take(12).collect();
        Row {
            cells: vec![
                tokenizer.class.clone(),
                tokenizer.files.join(", "),
                grouped(tokenizer.compared),
                grouped(tokenizer.differ),
                digest,
            ],
            outcome: Some(tokenizer.outcome),
        }
    };
    (!tokenizers.is_empty()).then(|| Table {
        title: "tokenizers".to_owned(),
        columns: vec![
            Column::text("class"),
            Column::text("files"),
            Column::number("texts"),
            Column::number("differ"),
            Column::text("digest"),
        ],
        rows: tokenizers.iter().map(row).collect(),
    })
}
