//! Where ONNX Runtime's library is: where the user says, or else in the Python that the user works with.
//!
//! Nothing is downloaded, and nothing is loaded before a graph needs it. The places, in this order: `--ort-library`,
//! `ORT_DYLIB_PATH`, then pip's package `onnxruntime` in the environment that is active (`VIRTUAL_ENV`, `CONDA_PREFIX`), in
//! that of this program, and in those of the Pythons on `PATH`. An empty `ORT_DYLIB_PATH` says that there is none.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use deberta_converters::error::{Error, Kind, Result};

/// The variable that says where the library is.
pub(super) const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The variables with the folder of an environment of Python.
const ENVIRONMENTS: [&str; 2] = ["VIRTUAL_ENV", "CONDA_PREFIX"];

/// The library that the user named.
static NAMED: OnceLock<PathBuf> = OnceLock::new();

/// Takes the library that the user names for the rest of the process, before any other.
///
/// # Errors
/// There is no such file.
pub fn use_library(path: &Path) -> Result<()> {
    if !path.is_file() {
        let message = "no such file: --ort-library names ONNX Runtime's library, libonnxruntime.so";
        return Err(Error::new(Kind::Request, message).in_file(path));
    }
    // Whoever names two gets the first.
    let _ = NAMED.set(path.to_owned());
    Ok(())
}

/// The library, if there is one.
pub fn library() -> Option<PathBuf> {
    if let Some(named) = NAMED.get().cloned().or_else(|| env::var_os(VARIABLE).map(PathBuf::from)) {
        // An empty variable says that there is none.
        return Some(named).filter(|path| !path.as_os_str().is_empty());
    }
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let active = ENVIRONMENTS.into_iter().filter_map(set);
    active.chain(own_prefixes()).chain(prefixes_on_path()).find_map(|prefix| in_prefix(&prefix))
}

/// The folders that this program may be installed in by pip: that of its own `bin`, or, where Python runs it, of Python's.
fn own_prefixes() -> impl Iterator<Item = PathBuf> {
    let started = env::args_os().next().map(PathBuf::from).filter(|path| path.is_absolute());
    let programs = started.into_iter().chain(env::current_exe().ok());
    programs.filter_map(|program| prefix_of(program.parent()?))
}

/// The folders of the Pythons on `PATH`.
fn prefixes_on_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let has_python =
        |folder: &PathBuf| ["python3", "python", "python.exe"].iter().any(|name| folder.join(name).is_file());
    folders
        .into_iter()
        .filter(|folder| folder.is_absolute())
        .filter(has_python)
        .filter_map(|folder| prefix_of(&folder))
}

/// The folder above `bin` or `Scripts`; on Windows, Python's own folder.
fn prefix_of(folder: &Path) -> Option<PathBuf> {
    let is_of_programs = ["bin", "Scripts"].iter().any(|name| folder.ends_with(name));
    if is_of_programs { folder.parent().map(Path::to_owned) } else { Some(folder.to_owned()) }
}

/// The library of pip's package in the folder of a Python.
fn in_prefix(prefix: &Path) -> Option<PathBuf> {
    let mut folders = vec![prefix.join("Lib/site-packages"), prefix.join("lib/python3/dist-packages")];
    for lib in ["lib", "lib64", "local/lib"] {
        let mut versions = entries(&prefix.join(lib), |name| name.starts_with("python3."));
        // The newest first, by the number behind the point.
        let minor =
            |path: &PathBuf| -> Option<u32> { path.file_name()?.to_str()?.rsplit('.').next()?.parse().ok() };
        versions.sort_by_key(|path| std::cmp::Reverse(minor(path)));
        folders.extend(
            versions
                .iter()
                .flat_map(|version| ["site-packages", "dist-packages"].map(|name| version.join(name))),
        );
    }
    folders.iter().find_map(|folder| {
        let mut libraries = entries(&folder.join("onnxruntime/capi"), is_library);
        libraries.sort();
        libraries.into_iter().find(|path| path.is_file())
    })
}

/// Whether a file of the package is the library, and not one that it loads itself.
fn is_library(name: &str) -> bool {
    let versioned = name
        .strip_prefix("libonnxruntime.")
        .is_some_and(|rest| rest.starts_with("so") || rest.ends_with("dylib"));
    versioned || name == "onnxruntime.dll"
}

/// The entries of a folder whose names are wanted; none if there is no such folder.
fn entries(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(&wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(prefix: &Path, python: &str, names: &[&str]) {
        let capi = prefix.join(python).join("onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        names.iter().for_each(|name| fs::write(capi.join(name), "").unwrap());
    }

    #[test]
    fn the_library_of_the_newest_python_is_found() {
        let prefix = tempfile::tempdir().unwrap();
        assert_eq!(in_prefix(prefix.path()), None);
        let names = [
            "libonnxruntime_providers_shared.so",
            "libonnxruntime.so.1.32.0",
            "onnxruntime_pybind11_state.so",
        ];
        installed(prefix.path(), "lib/python3.9/site-packages", &names);
        installed(prefix.path(), "lib/python3.13/site-packages", &names);
        let found = in_prefix(prefix.path()).unwrap();
        assert!(
            found.ends_with("lib/python3.13/site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0"),
            "{found:?}"
        );
    }

    #[test]
    fn what_the_library_loads_itself_is_not_the_library() {
        for name in [
            "libonnxruntime.so",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime.1.32.0.dylib",
            "onnxruntime.dll",
        ] {
            assert!(is_library(name), "{name}");
        }
        for name in
            ["libonnxruntime_providers_shared.so", "onnxruntime_pybind11_state.so", "libonnxruntime4j.so"]
        {
            assert!(!is_library(name), "{name}");
        }
    }

    #[test]
    fn programs_are_in_a_prefix() {
        assert_eq!(prefix_of(Path::new("/v/bin")), Some("/v".into()));
        assert_eq!(prefix_of(Path::new("C/Python313")), Some("C/Python313".into()));
    }

    #[test]
    fn a_library_that_is_not_there_is_refused() {
        let error = use_library(Path::new("/no/such/libonnxruntime.so")).unwrap_err().to_string();
        assert!(error.contains("no such file: --ort-library names"), "{error}");
    }
}
