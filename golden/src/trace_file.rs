//! Trace files: safetensors with the tensors `inputs.<argument>`, `activations.<path>` and `outputs.<field>`.

use std::borrow::Cow;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use deberta_converters::error::{Error, Result};
use deberta_converters::format::{FilePlan, TensorFile, safetensors};
use deberta_converters::mapped::Mapped;
use deberta_converters::output::Staged;
use deberta_converters::tensor::{Dtype, TensorInfo};

/// The value of `format` in a trace file's metadata.
pub const FORMAT: &str = "deberta-trace-1";

/// How the format of every version begins. Other programs write other things there, `pt` for one.
const FAMILY: &str = "deberta-trace-";

/// A recorded run of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Who recorded what: `framework`, `producer`, `class`, `masked_rows`, ….
    pub metadata: Vec<(String, String)>,
    /// The tensors, by their full names.
    pub tensors: Vec<Tensor>,
}

/// A recorded tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// `inputs.input_ids`, `activations.deberta.encoder.layer.0`, `outputs.logits`.
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Data,
}

/// The elements of a recorded tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Token ids, positions, labels.
    Integers(Vec<i64>),
    /// Everything that was computed, and masks.
    Floats(Vec<f32>),
    /// The same, computed in f64.
    Doubles(Vec<f64>),
}

impl Data {
    /// Real numbers as f32, rounded if they are f64. Nothing if they are integers.
    pub fn floats(&self) -> Option<Cow<'_, [f32]>> {
        match self {
            Data::Integers(_) => None,
            Data::Floats(values) => Some(Cow::Borrowed(values)),
            Data::Doubles(values) => Some(values.iter().map(|&value| value as f32).collect()),
        }
    }

    /// All of them as f64.
    pub(crate) fn numbers(&self) -> Cow<'_, [f64]> {
        match self {
            Data::Integers(values) => values.iter().map(|&value| value as f64).collect(),
            Data::Floats(values) => values.iter().map(|&value| f64::from(value)).collect(),
            Data::Doubles(values) => Cow::Borrowed(values),
        }
    }

    fn len(&self) -> usize {
        match self {
            Data::Integers(values) => values.len(),
            Data::Floats(values) => values.len(),
            Data::Doubles(values) => values.len(),
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Data::Integers(_) => Dtype::I64,
            Data::Floats(_) => Dtype::F32,
            Data::Doubles(_) => Dtype::F64,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Data::Integers(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Data::Floats(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Data::Doubles(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

impl Trace {
    /// The trace without f64: rounded to f32.
    pub fn in_f32(mut self) -> Trace {
        for tensor in &mut self.tensors {
            if let (Data::Doubles(_), Some(floats)) = (&tensor.data, tensor.data.floats()) {
                tensor.data = Data::Floats(floats.into_owned());
            }
        }
        self
    }

    /// The tensor of this full name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// A value of the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Reads a trace file.
    ///
    /// # Errors
    /// What [`TraceFile::open`] refuses.
    pub fn read(path: &Path) -> Result<Trace> {
        TraceFile::open(path)?.trace(|_| true)
    }

    /// Writes a trace file, replacing an existing one in one step. `format` is added to the metadata.
    ///
    /// # Errors
    /// A tensor whose shape does not count its elements, or whose name no trace may hold; the folder cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut infos = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            let counted =
                tensor.shape.iter().try_fold(1_usize, |product, &dimension| product.checked_mul(dimension));
            if counted != Some(tensor.data.len()) || !is_trace_name(&tensor.name) {
                let message = format!(
                    "shape {:?} with {} elements is no tensor of a trace",
                    tensor.shape,
                    tensor.data.len()
                );
                return Err(Error::malformed(message).in_tensor(&tensor.name).in_file(path));
            }
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            infos.push(TensorInfo { name, dtype: tensor.data.dtype(), shape });
        }
        let metadata: Vec<(&str, &str)> = std::iter::once(("format", FORMAT))
            .chain(self.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            .collect();
        let plan = safetensors::plan(&infos, &metadata)?;
        let file = Staged::create(path)?;
        file.set_len(plan.file_len())?;
        for (tensor, &offset) in self.tensors.iter().zip(plan.offsets()) {
            file.write_at(offset, &tensor.data.bytes())?;
        }
        for span in plan.seal(&[])? {
            file.write_at(span.offset, &span.bytes)?;
        }
        file.commit(true)
    }
}

/// An open trace file, whose tensors are read when they are needed. It is not mapped: the pages of a long trace would stay
/// in memory.
pub struct TraceFile {
    path: PathBuf,
    file: File,
    metadata: Vec<(String, String)>,
    /// Every tensor, and where its bytes start.
    tensors: Vec<(TensorInfo, u64)>,
}

impl TraceFile {
    /// Opens a trace file.
    ///
    /// # Errors
    /// Not safetensors; another version than [`FORMAT`]; a tensor that is neither an input, nor an activation, nor an
    /// output; a dtype other than i64, f32 and f64; no inputs at all.
    pub fn open(path: &Path) -> Result<TraceFile> {
        let opened = File::open(path).map_err(|error| Error::io(path, "open", error))?;
        let mapped = safetensors::open(Mapped::from_file(&opened, path)?)?;
        let format =
            mapped.metadata().iter().find(|(key, _)| key == "format").map(|(_, value)| value.as_str());
        if let Some(format) = format.filter(|format| format.starts_with(FAMILY) && *format != FORMAT) {
            let message = format!("format {format:?}, expected {FORMAT:?}");
            return Err(Error::unsupported(message).in_file(path));
        }
        let mut tensors = Vec::with_capacity(mapped.tensors().len());
        for (info, &(start, _)) in mapped.tensors().iter().zip(mapped.ranges()) {
            let wrong = |message: String| Error::malformed(message).in_tensor(&info.name).in_file(path);
            if !is_trace_name(&info.name) {
                return Err(wrong(
                    "neither inputs.*, nor activations.*, nor outputs.*: not a trace".to_owned(),
                ));
            }
            if !matches!(info.dtype, Dtype::F32 | Dtype::F64 | Dtype::I64) {
                return Err(wrong(format!("dtype {}, a trace holds f32, f64 and i64", info.dtype)));
            }
            tensors.push((info.clone(), start as u64));
        }
        if !tensors.iter().any(|(info, _)| info.name.starts_with("inputs.")) {
            return Err(Error::malformed("no tensor is named inputs.*: not a trace").in_file(path));
        }
        Ok(TraceFile { path: path.to_owned(), file: opened, metadata: mapped.metadata().to_vec(), tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A value of the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The full names of the tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(info, _)| info.name.as_str())
    }

    /// Reads a tensor; nothing if there is none of this full name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        let found = self.tensors.iter().find(|(info, _)| info.name == name);
        found.map(|(info, start)| self.read(info, *start)).transpose()
    }

    /// Reads the inputs, and the metadata.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn inputs(&self) -> Result<Trace> {
        self.trace(|name| name.starts_with("inputs."))
    }

    /// Reads the tensors whose full names are wanted, and the metadata.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn trace(&self, wanted: impl Fn(&str) -> bool) -> Result<Trace> {
        let tensors = self.tensors.iter().filter(|(info, _)| wanted(&info.name));
        let tensors = tensors.map(|(info, start)| self.read(info, *start)).collect::<Result<_>>()?;
        Ok(Trace { metadata: self.metadata.clone(), tensors })
    }

    fn read(&self, info: &TensorInfo, start: u64) -> Result<Tensor> {
        let mut bytes = vec![0; info.byte_len()?];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| Error::io(&self.path, "read", error))?;
        let data = match info.dtype {
            Dtype::I64 => {
                Data::Integers(bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect())
            }
            Dtype::F64 => Data::Doubles(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect()),
            _ => Data::Floats(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        };
        Ok(Tensor { name: info.name.clone(), shape: info.shape.clone(), data })
    }
}

/// Writes nothing but what [`Trace::read`] takes.
fn is_trace_name(name: &str) -> bool {
    ["inputs.", "activations.", "outputs."].iter().any(|prefix| name.starts_with(prefix))
}

/// The traces in a folder: every safetensors file whose tensors are a trace's, by path.
///
/// # Errors
/// The folder cannot be read.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, "open", error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::io(folder, "read", error))?.path();
        let is_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
        if is_safetensors
            && safetensors::open(Mapped::open(&path)?)?
                .tensors()
                .iter()
                .any(|info| info.name.starts_with("inputs."))
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let tensor =
            |name: &str, shape: &[usize], data| Tensor { name: name.into(), shape: shape.into(), data };
        Trace {
            metadata: vec![("class".into(), "DebertaModel".into())],
            tensors: vec![
                tensor("inputs.input_ids", &[1, 2], Data::Integers(vec![5, -1])),
                tensor("outputs.logits", &[2], Data::Floats(vec![0.5, f32::MIN_POSITIVE])),
                tensor("outputs.loss", &[1], Data::Doubles(vec![0.1])),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain.safetensors");
        trace().write(&path).unwrap();
        let read = Trace::read(&path).unwrap();
        assert_eq!(read.get("inputs.input_ids"), trace().get("inputs.input_ids"));
        assert_eq!(read.get("outputs.logits"), trace().get("outputs.logits"));
        assert_eq!(read.get("outputs.loss"), trace().get("outputs.loss"));
        assert_eq!(read.in_f32().get("outputs.loss").unwrap().data, Data::Floats(vec![0.1]));
        let read = Trace::read(&path).unwrap();
        assert_eq!((read.metadata("format"), read.metadata("class")), (Some(FORMAT), Some("DebertaModel")));
        assert_eq!(find(folder.path()).unwrap(), [path]);
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let mut wrong = trace();
        wrong.tensors[0].name = "weights.x".into();
        assert!(wrong.write(&path).unwrap_err().to_string().contains("weights.x"));
        let mut wrong = trace();
        wrong.tensors[1].shape = vec![3];
        assert!(wrong.write(&path).unwrap_err().to_string().contains("shape [3] with 2 elements"));
        let mut outputs_only = trace();
        outputs_only.tensors.remove(0);
        outputs_only.write(&path).unwrap();
        assert!(Trace::read(&path).unwrap_err().to_string().contains("no tensor is named inputs.*"));
    }

    #[test]
    fn recorded_traces_are_read() {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/rel-mlm");
        if !shared.is_dir() {
            println!("skipped: {} is not there", shared.display());
            return;
        }
        let traces = find(&shared).unwrap();
        assert!(traces.len() >= 7, "{traces:?}");
        for path in traces {
            let trace = Trace::read(&path).unwrap();
            assert!(trace.get("outputs.logits").is_some(), "{}", path.display());
            assert!(trace.metadata("class").is_some_and(|class| class.ends_with("DebertaForMaskedLM")));
        }
    }
}
