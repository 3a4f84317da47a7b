//! `--ort-library`: which ONNX Runtime computes.

use std::path::PathBuf;

use clap::Args;
use deberta_converters::error::Result;

/// Which library of ONNX Runtime is loaded, where one is needed.
#[derive(Debug, Args)]
pub(super) struct LibraryArgs {
    /// Library of ONNX Runtime, 1.24 or later, for graphs that it computes; that of pip's onnxruntime when not given
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
}

impl LibraryArgs {
    /// Takes it, if one was given.
    ///
    /// # Errors
    /// There is no such file; this program was built without ONNX Runtime.
    pub(super) fn select(&self) -> Result<()> {
        match &self.ort_library {
            None => Ok(()),
            #[cfg(feature = "onnxruntime")]
            Some(path) => crate::backend::use_library(path),
            #[cfg(not(feature = "onnxruntime"))]
            Some(_) => crate::backend::BackendName::OnnxRuntime.require(),
        }
    }
}
