//! What a program says of its own command line: help, `completions` for a shell and pages for `man`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::print::{print, print_as_it_is};
use crate::error::{Error, Result};
use crate::output::replace;

/// Says what clap has to say in place of a run, which is the help, the version, or what is wrong with the arguments, and returns
/// the exit status.
pub fn tell(told: &clap::Error) -> u8 {
    // As clap itself does, which has nobody to tell it to, either.
    let _ = told.print();
    let _ = std::io::stdout().flush();
    u8::try_from(told.exit_code()).unwrap_or(2)
}

/// What is wrong with arguments, in one line.
pub fn said(told: &clap::Error) -> String {
    let text = told.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    first.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that is to read them
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder for the pages; it is made if it is not there, and pages in it are replaced
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl CompletionsArgs {
    /// Prints the completions of a program.
    ///
    /// # Errors
    /// A standard output that cannot be written to.
    pub fn run(self, mut program: Command) -> Result<ExitCode> {
        let name = program.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, name, &mut script);
        let mut script = String::from_utf8_lossy(&script).into_owned();
        if self.shell == Shell::Bash {
            // clap_complete 4.6 calls a subcommand `deberta__convert__subcmd__diff` where it is recognised and
            // `deberta__subcmd__convert__subcmd__diff` where it is completed, if the program's name has a hyphen:
            // https://github.com/clap-rs/clap/issues/6421
            script = script.replace("__subcmd__", "__");
        }
        print_as_it_is(script.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl ManArgs {
    /// Writes the pages of a program: one for itself, one for each of its subcommands.
    ///
    /// # Errors
    /// A folder that cannot be made or written to.
    pub fn run(self, mut program: Command) -> Result<ExitCode> {
        std::fs::create_dir_all(&self.folder).map_err(|error| Error::io(&self.folder, "make", error))?;
        program.build();
        self.write(&program)?;
        let mut pages = 1;
        for subcommand in program.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
            self.write(subcommand)?;
            pages += 1;
        }
        print(&format!("{}: {pages} pages", self.folder.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, command: &Command) -> Result<()> {
        let page = clap_mangen::Man::new(command.clone());
        let path = self.folder.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text).map_err(|error| Error::io(&path, "write", error))?;
        replace(&path, &text)
    }
}
