//! Labels in drawings.

use std::fmt::Display;

use crate::report::escape::markup;

/// A label in a drawing, which starts, ends or has its middle at x.
pub(super) fn label(x: impl Display, y: impl Display, anchor: &str, text: &str) -> String {
    let text = markup(text);
    format!("<text class=\"axis\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>\n")
}
