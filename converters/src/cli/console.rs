//! What a program is asked about its own output, by arguments that every subcommand takes: colours and silence; and how wide a line
//! of the terminal is.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use clap::{Args, Command, ValueEnum};

use crate::folding::{HANGING, fold};

/// Arguments of every subcommand.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ConsoleArgs {
    /// Say only what is wrong: no progress, and of a result the conclusion alone
    #[arg(short, long, global = true, display_order = BEHIND)]
    quiet: bool,
    /// When to print in colours: auto does on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    color: Color,
}

/// Where help shows these arguments: behind those of a subcommand.
const BEHIND: usize = 900;

/// When to print in colours.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Color {
    /// On a terminal, unless <https://no-color.org> is asked for
    #[default]
    Auto,
    Always,
    Never,
}

/// What was asked for; a process runs one program, once.
static ASKED: OnceLock<ConsoleArgs> = OnceLock::new();

impl ConsoleArgs {
    /// Lets all that the process prints heed them.
    pub fn apply(self) {
        let _ = ASKED.set(self);
    }
}

/// Whether only what is wrong is to be said.
pub fn is_quiet() -> bool {
    ASKED.get().is_some_and(|asked| asked.quiet)
}

/// Whether progress is to be shown: on a terminal, unless it is to be quiet.
pub fn shows_progress() -> bool {
    std::io::stderr().is_terminal() && !is_quiet()
}

/// Whether standard output is to be in colours.
pub fn has_colors() -> bool {
    match ASKED.get().copied().unwrap_or_default().color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
            std::io::stdout().is_terminal() && !unwanted && !dumb
        }
    }
}

/// How many columns a line of the terminal has that is standard output; nothing if it is none. `COLUMNS` says it for a terminal that
/// does not.
pub fn width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = terminal_size::terminal_size_of(&stdout).map(|(width, _)| usize::from(width.0));
    let size = size.or_else(|| std::env::var("COLUMNS").ok()?.parse().ok());
    size.map(|width| width.max(NARROWEST))
}

/// The fewest columns that anything is laid out for.
const NARROWEST: usize = 40;

/// Lays out a text for people on the terminal that is standard output; a text that goes elsewhere stays as it is.
pub fn laid_out(text: &str) -> String {
    width().map_or_else(|| text.to_owned(), |width| fold(text, width, HANGING))
}

/// Puts the arguments of [`ConsoleArgs`] behind a subcommand that they stand before, as in `-q list`: clap takes none for a
/// subcommand of a program that has arguments of its own, too, once another argument has been seen.
pub fn subcommand_first(
    program: impl FnOnce() -> Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut at = 1;
    while let Some(argument) = arguments.get(at).and_then(|argument| argument.to_str()) {
        match argument {
            "-q" | "--quiet" => at += 1,
            "--color" => at += 2,
            _ if argument.starts_with("--color=") => at += 1,
            _ => break,
        }
    }
    let subcommand = arguments.get(at).and_then(|argument| argument.to_str());
    if at > 1
        && subcommand.is_some_and(|name| program().find_subcommand(name).is_some())
        && let Some(from_first) = arguments.get_mut(1..=at)
    {
        from_first.rotate_right(1);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subcommand_is_found_behind_arguments_of_the_console() {
        let program = || Command::new("program").subcommand(Command::new("list"));
        let moved = |arguments: &[&str]| {
            let moved = subcommand_first(program, arguments.iter().map(OsString::from));
            moved.iter().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            moved(&["program", "-q", "--color", "never", "list", "x"]),
            "program list -q --color never x"
        );
        assert_eq!(moved(&["program", "-q", "--model", "x"]), "program -q --model x");
        assert_eq!(moved(&["program", "list", "-q"]), "program list -q");
        assert_eq!(moved(&["program"]), "program");
    }
}
