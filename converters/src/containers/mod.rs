//! What models are kept in besides the formats that are read here: whose it is, and the one command that leads on.
//!
//! ```text
//! table     every container: what it is told by, its name, the command
//! listing   what a folder has instead of weights under the usual names
//! page      the table as docs/formats/containers.md
//! ```

mod listing;
mod page;
mod table;

use deberta_reference::probe::matches;

use crate::error::Error;

#[cfg(feature = "cli")]
pub(crate) use listing::files_of;
pub(crate) use listing::instead_of_weights;
pub use page::page;
pub use table::CONTAINERS;

/// Something that a model may be in and that is not read here.
#[derive(Debug)]
pub struct Container {
    /// Whose it is, or what: `TensorFlow Lite`, `an archive`.
    pub name: &'static str,
    /// What it is told by: any of these.
    pub told_by: &'static [Sign],
    /// What leads on: a command, or what to take instead.
    pub lead: &'static str,
}

/// What a container is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The end of the file's name after its last dot.
    Extension(&'static str),
    /// The file's name, in which `*` stands for any text.
    Name(&'static str),
    /// A folder that the file is in: its name, or where it has a dot, the end of it.
    Folder(&'static str),
    /// The bytes at this offset.
    Bytes(usize, &'static [u8]),
    /// The last bytes.
    LastBytes(&'static [u8]),
    /// Text that the file starts with, whatever the case, after white space.
    Text(&'static str),
    /// Text among the first kilobyte of a file that starts with `<`.
    Markup(&'static str),
}

/// The container that a file is by its name alone, relative to the model's folder with `/` between folders.
pub fn by_name(path: &str) -> Option<&'static Container> {
    let path = path.to_lowercase();
    let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let told = |sign: &Sign| match *sign {
        Sign::Extension(known) => known == extension,
        Sign::Name(pattern) => matches(pattern, name),
        _ => false,
    };
    find(told)
}

/// The container that a file is by its name though it starts like a weight file: many are zip archives or pickles. Names that
/// PyTorch's own files have, too, tell nothing: `model.pth.tar`, `checkpoint`.
pub(crate) fn behind(path: &str) -> Option<&'static Container> {
    by_name(path).filter(|container| !["an archive", "TensorFlow's checkpoints"].contains(&container.name))
}

/// The container that a file is by the folders that it is in: `model.mlpackage/Data/…/weight.bin`.
pub fn by_folder(path: &str) -> Option<&'static Container> {
    let path = path.to_lowercase();
    let (folders, name) = path.rsplit_once('/')?;
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let holds = matches!(extension, "bin" | "xml" | "index" | "distcp") || name.contains(".data-");
    let told = |sign: &Sign| match *sign {
        Sign::Folder(known) => folders
            .split('/')
            .any(|folder| folder == known && holds || known.starts_with('.') && folder.ends_with(known)),
        _ => false,
    };
    find(told)
}

/// The container that a file is by its bytes.
pub fn by_bytes(bytes: &[u8]) -> Option<&'static Container> {
    const START: usize = 1024;
    let start = String::from_utf8_lossy(bytes.get(..START).unwrap_or(bytes)).to_lowercase();
    let start = start.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let told = |sign: &Sign| match *sign {
        Sign::Bytes(at, known) => bytes.get(at..).is_some_and(|rest| rest.starts_with(known)),
        Sign::LastBytes(known) => bytes.ends_with(known),
        Sign::Text(text) => start.starts_with(text),
        Sign::Markup(text) => start.starts_with('<') && start.contains(text),
        _ => false,
    };
    find(told)
}

fn find(told: impl Fn(&Sign) -> bool) -> Option<&'static Container> {
    CONTAINERS.iter().find(|container| container.told_by.iter().any(&told))
}

impl Container {
    /// What it is and what leads on, to follow an error.
    pub(crate) fn and_lead(&self) -> String {
        format!("; {}: {}", self.name, self.lead)
    }

    /// The error for a file that is one.
    pub(crate) fn refusal(&self) -> Error {
        Error::unsupported(format!("{}: {}", self.name, self.lead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_name_folder_and_bytes() {
        let name = |container: Option<&'static Container>| container.map_or("", |container| container.name);
        for (path, whose) in [
            ("flax_model.msgpack", "Flax"),
            ("a/rust_model.ot", "tch-rs (rust-bert)"),
            ("MODEL.GGUF", "llama.cpp"),
            ("deberta.ckpt.data-00000-of-00001", "TensorFlow's checkpoints"),
            ("openvino_model.xml", "OpenVINO"),
            ("zero_pp_rank_0_mp_rank_00_optim_states.pt", "DeepSpeed"),
            ("__0_0.distcp", "PyTorch's distributed checkpoints"),
            ("model.safetensors.incomplete", "an interrupted download"),
            ("model.safetensors", ""),
            ("pytorch_model.bin", ""),
        ] {
            assert_eq!(name(by_name(path)), whose, "{path}");
        }
        assert_eq!(name(behind("weights.npz")), "NumPy");
        for path in ["model.pth.tar", "checkpoint", "pytorch_model.bin"] {
            assert!(behind(path).is_none(), "{path}");
        }
        for (path, whose) in [
            ("model.mlpackage/Data/com.apple.CoreML/weights/weight.bin", "Core ML"),
            ("saved_model/variables/variables.data-00000-of-00001", "TensorFlow (SavedModel, frozen graph)"),
            ("openvino/model.bin", "OpenVINO"),
            ("openvino/model.safetensors", ""),
            ("model.bin", ""),
        ] {
            assert_eq!(name(by_folder(path)), whose, "{path}");
        }
        for (bytes, whose) in [
            (&b"GGUF\x03\0\0\0"[..], "llama.cpp"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
            (b"\x1f\x8b\x08", "gzip data"),
            (b"<?xml version=\"1.0\"?>\n<net name=\"m\" version=\"11\">", "OpenVINO"),
            (
                b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
                "a message of a storage server",
            ),
            (b"\xef\xbb\xbf <!DOCTYPE html>", "a web page, not a model"),
            (b"<svg xmlns=", "XML text, not a model"),
            (b"\0\0\0\0\x57\xfb\x80\x8b\x24\x75\x47\xdb", "TensorFlow's checkpoints"),
            (b"", ""),
        ] {
            assert_eq!(name(by_bytes(bytes)), whose, "{bytes:?}");
        }
    }

    #[test]
    fn every_container_has_a_sign_and_a_way_on() {
        for Container { name, told_by, lead } in CONTAINERS {
            assert!(!told_by.is_empty() && !lead.is_empty(), "{name}");
            let plain = |sign: &Sign| match sign {
                Sign::Extension(text)
                | Sign::Name(text)
                | Sign::Folder(text)
                | Sign::Text(text)
                | Sign::Markup(text) => text.to_lowercase() == **text,
                Sign::Bytes(..) | Sign::LastBytes(_) => true,
            };
            assert!(told_by.iter().all(plain), "{name}: signs are compared in lower case");
        }
    }
}
