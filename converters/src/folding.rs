//! Breaking lines that are too long for a terminal.

/// How much deeper what follows a break stands, in texts for people.
pub const HANGING: usize = 4;

/// Breaks lines of more than `width` columns between words. What follows a break stands `hanging` columns deeper than its line does;
/// a word is never broken, and the codes of colours take no room. With 16 columns and 4 deeper
///
/// ```text
///   pass plain: 17 points
/// ```
///
/// becomes
///
/// ```text
///   pass plain: 17
///       points
/// ```
pub fn fold(text: &str, width: usize, hanging: usize) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| fold_line(line, width, hanging)).collect();
    lines.join("\n")
}

fn fold_line(line: &str, width: usize, hanging: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let words = line.trim_start_matches(' ');
    let indent = line.len() - words.len();
    let mut folded = " ".repeat(indent);
    let mut column = indent;
    for (at, word) in words.split(' ').enumerate() {
        let length = columns(word);
        if at > 0 && column + 1 + length > width && length > 0 {
            folded.truncate(folded.trim_end_matches(' ').len());
            column = indent + hanging;
            folded.push('\n');
            folded.push_str(&" ".repeat(column));
        } else if at > 0 {
            folded.push(' ');
            column += 1;
        }
        folded.push_str(word);
        column += length;
    }
    folded
}

/// How many columns a text takes, without the codes of colours in it: `ESC [ … m`.
fn columns(text: &str) -> usize {
    let mut parts = text.split('\x1b');
    let first = parts.next().unwrap_or_default().chars().count();
    first
        + parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest).chars().count()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = "pass\n  pass plain: 17 points\n\n  a/path/that/is/longer/than/a/line it";
        let folded = "pass\n  pass plain: 17\n      points\n\n  a/path/that/is/longer/than/a/line\n      it";
        assert_eq!(fold(text, 16, 4), folded);
        assert_eq!(fold(text, 80, 4), text);
    }

    #[test]
    fn colours_take_no_room() {
        let text = "\x1b[1;32mpass\x1b[0m: 1 file";
        assert_eq!(fold(text, 12, 4), text);
        assert_eq!(fold(text, 11, 4), "\x1b[1;32mpass\x1b[0m: 1\n    file");
    }
}
