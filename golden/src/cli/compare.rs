//! `compare`: a recorded run against another one.

use std::path::PathBuf;

use clap::Args;
use deberta_converters::error::{Error, Kind, Result};

use super::exit_status::ExitStatus;
use super::output::OutputArgs;
use crate::judge::tolerance::{Tolerance, Tolerances};
use crate::report::Document;
use crate::verify::traces::{Settings, compare};

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Trace that is taken to be right
    golden: PathBuf,
    /// Trace that is judged
    candidate: PathBuf,
    /// How far a number may be off; the default tolerances when not given
    #[arg(long, value_name = "NUMBER")]
    atol: Option<f64>,
    /// How far a number may be off in relation to the expected one; 0 when only --atol is given
    #[arg(long, value_name = "NUMBER")]
    rtol: Option<f64>,
    /// Compare what both traces have, and leave the rest out
    #[arg(long)]
    common: bool,
    /// Trace of the same inputs that was recorded with --precision f64: says of points that differ, or nearly, whose
    /// error is larger
    #[arg(long, value_name = "TRACE")]
    arbiter: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl CompareArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let tolerances = match (self.atol, self.rtol) {
            (None, None) => Tolerances::default(),
            (atol, rtol) => {
                let tolerance =
                    Tolerance { atol: atol.unwrap_or(0.0), rtol: rtol.unwrap_or(0.0), scale: 0.0 };
                tolerance.check().map_err(|error| Error::new(Kind::Request, format!("--{error}")))?;
                Tolerances::uniform(tolerance)
            }
        };
        let settings = Settings { tolerances, common: self.common, arbiter: self.arbiter };
        let output = self.output.open(Vec::new())?;
        let report = compare(&self.golden, &self.candidate, &settings)?;
        output.show(&Document::of(&report))
    }
}
