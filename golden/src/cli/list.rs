//! `list`: the goldens there are.

use std::path::PathBuf;

use clap::Args;
use deberta_converters::cli::print_text;
use deberta_converters::error::Result;

use super::exit_status::ExitStatus;
use crate::goldens::Golden;
use crate::report::name_of;
use crate::trace::class::Class;
use crate::trace::file::TraceFile;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Folders with goldens, or with folders of goldens; what comes with this program when not given
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,
}

impl ListArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let mut goldens = Vec::new();
        for folder in &self.folders {
            match Golden::find(folder)? {
                Some(golden) => goldens.push(golden),
                None => goldens.extend(Golden::below(folder)?),
            }
        }
        if self.folders.is_empty() {
            for id in Golden::shipped_ids() {
                goldens.extend(Golden::shipped(id)?);
            }
        }
        for golden in goldens {
            describe(&golden)?;
        }
        Ok(ExitStatus::Success)
    }
}

fn describe(golden: &Golden) -> Result<()> {
    let place =
        golden.folder.as_ref().map_or_else(|| golden.name.clone(), |folder| folder.display().to_string());
    let about = golden.case.as_ref().map_or("", |case| case.description.as_str());
    print_text(format!("{place}  {about}").trim_end())?;
    for path in &golden.traces {
        let file = TraceFile::open(path)?;
        let class = Class::of(&file.trace(|_| false)?)?;
        let class = class.map_or_else(|| "no class".to_owned(), |class| class.to_string());
        let points = file.names().filter(|name| !name.starts_with("inputs.")).count();
        let name = name_of(path);
        print_text(&format!(
            "  {name}  {class}, {points} points, by {}",
            file.metadata("producer").unwrap_or("unknown")
        ))?;
    }
    let slices = golden.case.as_ref().map_or(&[][..], |case| case.slices.as_slice());
    for slice in slices {
        let source = golden.case.as_ref().and_then(|case| case.source.as_deref()).unwrap_or("unknown source");
        print_text(&format!("  {} {:?}: published values, {source}", slice.tensor_name(), slice.ranges))?;
    }
    Ok(())
}
