//! The zip format, which torch has written since 1.6 (torch/serialization.py `_save`, caffe2/serialize).
//!
//! `<name>/data.pkl` is the pickle, `<name>/data/<key>` are the storages, `<name>/version` and `<name>/byteorder`
//! say how they are written.

use super::contents::Contents;
use super::pickle::{Heap, Ops, run};
use super::rebuild::{StorageDeclaration, Workshop};
use super::storage::Storage;
use super::zip::{Archive, Entry};
use crate::containers::{Container, by_name};
use crate::error::{Error, Printable, Result};

/// The newest version of the format (`kMaxSupportedFileFormatVersion`).
const NEWEST_VERSION: u32 = 10;

/// More bytes than the pickle of any checkpoint has. It is read as a whole.
const LARGEST_PICKLE: usize = 64 << 20;

/// A deflated storage of more bytes than this must not be smaller than one part in [`MOST_DEFLATED`] of them.
/// Weights hardly compress at all.
const FREE_DEFLATED: usize = 16 << 20;
const MOST_DEFLATED: usize = 64;

/// Reads the checkpoint that the archive `file` holds.
pub(crate) fn read(file: &[u8]) -> Result<Contents> {
    let archive = Archive::parse(file)?;
    let folder = folder(&archive)?;
    let record = |name: &str| archive.entry(&format!("{folder}/{name}"));
    check_version(record("version").or_else(|| record(".data/version")), file)?;
    check_small_records(&archive, folder, file)?;
    let swapped = is_big_endian(record("byteorder"), file)?;
    let pickle = record("data.pkl").ok_or_else(|| not_a_checkpoint(&archive))?.read(file, LARGEST_PICKLE)?;

    let (mut heap, mut workshop) = (Heap::default(), Workshop::default());
    let root = run(&mut Ops::new(&pickle, 0, "data.pkl"), &mut heap, &mut workshop)?;
    Contents::resolve(&heap, &workshop, root, file.len(), |_, declaration| {
        let name = format!("{folder}/data/{}", declaration.key);
        let entry = archive.entry(&name).ok_or_else(|| {
            Error::malformed(format!("its storage \"{}\" is not in the archive", Printable(&name)))
        })?;
        storage(entry, declaration)
            .map(|storage| storage.with_byte_order(swapped && declaration.element.size > 1))
    })
}

/// The folder that all records are in: the one that has the pickle.
fn folder(archive: &Archive) -> Result<&str> {
    let mut folders = archive.entries().iter().filter_map(|entry| {
        entry.name.strip_suffix("/data.pkl").filter(|folder| !folder.is_empty() && !folder.contains('/'))
    });
    let folder = folders.next().ok_or_else(|| not_a_checkpoint(archive))?;
    if let Some(other) = folders.next() {
        return Err(Error::malformed(format!(
            "a zip archive with two checkpoints, \"{}\" and \"{}\"",
            Printable(folder),
            Printable(other)
        )));
    }
    if has_code(archive, folder) {
        return Err(Error::unsupported(
            "a TorchScript program, not a state dict: load it with torch.jit.load and torch.save its state_dict()",
        ));
    }
    Ok(folder)
}

/// Whether `file` is a TorchScript program, an archive like that of a checkpoint with code beside the storages.
pub fn is_script(file: &[u8]) -> bool {
    let pickled = |entry: &Entry| entry.name.strip_suffix("/data.pkl").map(str::to_owned);
    Archive::parse(file).is_ok_and(|archive| {
        archive.entries().iter().filter_map(pickled).any(|folder| has_code(&archive, &folder))
    })
}

fn has_code(archive: &Archive, folder: &str) -> bool {
    let code = |entry: &Entry| entry.name.strip_prefix(folder).is_some_and(|name| name.starts_with("/code/"));
    archive.entry(&format!("{folder}/constants.pkl")).is_some() || archive.entries().iter().any(code)
}

/// What an archive without a pickle is.
fn not_a_checkpoint(archive: &Archive) -> Error {
    let any = |test: &dyn Fn(&str) -> bool| archive.entries().iter().any(|entry| test(&entry.name));
    let is_package = any(&|name| name.contains("/.data/extern_modules"));
    let what = if is_package {
        "a torch.package archive"
    } else if any(&is_exported) {
        "a torch.export program"
    } else if any(&|name| name == "data.pkl") {
        "a zip archive whose records are in no folder, which torch does not load either"
    } else if any(&|name| name.ends_with(".npy")) {
        "a NumPy archive"
    } else if any(&|name| name == "model.weights.h5") {
        "a Keras 3 archive"
    } else {
        "a zip archive without a data.pkl"
    };
    let known = if is_package {
        Some("; torch.package.PackageImporter('FILE').load_pickle('PACKAGE', 'NAME') has the module, whose state_dict() is \
              what to save".to_owned())
    } else {
        by_name(what_is_it(archive)).map(Container::and_lead)
    };
    Error::unsupported(format!("{what}, not a checkpoint of torch.save{}", known.unwrap_or_default()))
}

/// Whether an archive with an entry of this name is one of torch.export.
fn is_exported(name: &str) -> bool {
    name.ends_with("/archive_format") || name.ends_with("/models/model.json")
}

/// The name that files like the archive have, if it is of a known kind.
fn what_is_it(archive: &Archive) -> &'static str {
    let any = |test: &dyn Fn(&str) -> bool| archive.entries().iter().any(|entry| test(&entry.name));
    if any(&is_exported) {
        "model.pt2"
    } else if any(&|name| name == "model.weights.h5") {
        "model.keras"
    } else if any(&|name| name.ends_with(".npy")) {
        "arrays.npz"
    } else if any(&|name| {
        name.ends_with("pytorch_model.bin") || name.ends_with(".safetensors") || name.ends_with("config.json")
    }) {
        "model.zip"
    } else {
        ""
    }
}

fn check_version(record: Option<&Entry>, file: &[u8]) -> Result<()> {
    let record = record.ok_or_else(|| Error::malformed("the archive has no record \"version\""))?;
    let text = record.read(file, 16)?;
    let version = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u32>().ok());
    match version {
        Some(1..=NEWEST_VERSION) => Ok(()),
        Some(version) => Err(Error::unsupported(format!(
            "version {version} of the format, at most {NEWEST_VERSION} is known"
        ))),
        None => Err(Error::malformed("the record \"version\" holds no number")),
    }
}

/// Verifies the checksums of the records that are neither storages nor read otherwise, such as
/// `.format_version` and `.data/serialization_id`. Nothing depends on them, but damage in one place is rarely alone.
fn check_small_records(archive: &Archive, folder: &str, file: &[u8]) -> Result<()> {
    const SMALL: usize = 4096;
    let storages = format!("{folder}/data/");
    let small = |entry: &&Entry| entry.len <= SMALL && !entry.name.starts_with(&storages);
    archive.entries().iter().filter(small).try_for_each(|entry| entry.read(file, SMALL).map(drop))
}

/// Files without the record are little-endian.
fn is_big_endian(record: Option<&Entry>, file: &[u8]) -> Result<bool> {
    let Some(record) = record else { return Ok(false) };
    match record.read(file, 16)?.as_ref() {
        b"little" => Ok(false),
        b"big" => Ok(true),
        _ => Err(Error::malformed("the record \"byteorder\" says neither \"little\" nor \"big\"")),
    }
}

fn storage(entry: &Entry, declaration: &StorageDeclaration) -> Result<Storage> {
    let declared =
        usize::try_from(declaration.len).ok().and_then(|len| len.checked_mul(declaration.element.size));
    if declared != Some(entry.len) {
        return Err(Error::malformed(format!(
            "its storage \"{}\" is declared as {} elements of {} bytes, the archive has {} bytes",
            Printable(&entry.name),
            declaration.len,
            declaration.element.size,
            entry.len
        ))
        .wanting_if(declared.map(|declared| (declared, entry.len))));
    }
    if !entry.deflated {
        return Ok(Storage::plain(entry.name.clone(), entry.packed.clone(), Some(entry.crc32)));
    }
    if entry.len > FREE_DEFLATED && entry.len / MOST_DEFLATED > entry.packed.len() {
        return Err(Error::refused(format!(
            "its storage \"{}\" unpacks {} bytes to {}: refused as a zip bomb (torch itself never compresses; \
             torch.load and torch.save make a plain file of it)",
            Printable(&entry.name),
            entry.packed.len(),
            entry.len
        )));
    }
    Ok(Storage::deflated(entry.name.clone(), entry.packed.clone(), entry.len, entry.crc32))
}
