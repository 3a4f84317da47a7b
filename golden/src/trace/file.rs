//! Trace files: safetensors with the tensors `inputs.<argument>`, `activations.<path>` and `outputs.<field>`.

use std::fs::File;
use std::path::{Path, PathBuf};

use deberta_converters::error::{Error, Result};
use deberta_converters::format::{FilePlan, TensorFile, safetensors};
use deberta_converters::mapped::Mapped;
use deberta_converters::opening::open;
use deberta_converters::output::Staged;
use deberta_converters::system::read_exact_at;
use deberta_converters::tensor::{Dtype, TensorInfo};

use crate::trace::points::is_of_inner_module;
use crate::trace::samples::{self, SAMPLES, STATISTICS, Sampled, Statistics};
use crate::trace::tensor::{Data, Tensor};

/// The value of `format` in a trace file's metadata.
pub const FORMAT: &str = "deberta-trace-1";

/// How the format of every version begins. Other programs write other things there, `pt` for one.
const FAMILIES: [&str; 2] = ["deberta-trace-", "deberta-samples-"];

/// A recorded run of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Who recorded what: `framework`, `producer`, `class`, `masked_rows`, ….
    pub metadata: Vec<(String, String)>,
    /// The tensors, by their full names.
    pub tensors: Vec<Tensor>,
}

/// What a trace file has of an activation or an output.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// All of it.
    Whole(Tensor),
    /// Samples and statistics.
    Sampled(Sampled),
}

impl Recorded {
    /// The shape of the whole tensor.
    pub fn shape(&self) -> &[usize] {
        match self {
            Recorded::Whole(tensor) => &tensor.shape,
            Recorded::Sampled(sampled) => &sampled.shape,
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
    ///
    /// ```
    /// use deberta_golden::Trace;
    ///
    /// let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/masked-lm/plain.safetensors");
    /// let trace = Trace::read(path.as_ref())?;
    /// assert_eq!(trace.metadata("class"), Some("DebertaForMaskedLM"));
    /// let logits = trace.get("outputs.logits").expect("every masked LM has logits");
    /// assert_eq!(logits.data.floats().map(|floats| floats.len()), Some(logits.shape.iter().product()));
    /// # Ok::<(), deberta_converters::Error>(())
    /// ```
    pub fn read(path: &Path) -> Result<Trace> {
        TraceFile::open(path)?.trace(|_| true)
    }

    /// Writes a trace file, replacing an existing one in one step. `format` is added to the metadata.
    ///
    /// # Errors
    /// A tensor whose shape does not count its elements, or whose name no trace may hold; the folder cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.stage(path)?.commit(true)
    }

    /// Does all of [`Trace::write`] but the last: the file has no name yet.
    pub(crate) fn stage(&self, path: &Path) -> Result<Staged> {
        if let Some(tensor) = self.tensors.iter().find(|tensor| !is_trace_name(&tensor.name)) {
            let message = "neither inputs.*, nor activations.*, nor outputs.*: no tensor of a trace";
            return Err(Error::malformed(message).in_tensor(&tensor.name).in_file(path));
        }
        stage_tensors(path, FORMAT, &self.metadata, &self.tensors)
    }
}

/// Writes tensors as a safetensors file of a format, which has no name yet.
///
/// # Errors
/// A tensor whose shape does not count its elements; the folder cannot be written.
pub(super) fn stage_tensors(
    path: &Path,
    format: &str,
    metadata: &[(String, String)],
    tensors: &[Tensor],
) -> Result<Staged> {
    let mut infos = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let (name, shape, count) = (tensor.name.clone(), tensor.shape.clone(), tensor.data.len());
        let counted = shape.iter().try_fold(1_usize, |product, &dimension| product.checked_mul(dimension));
        if counted != Some(count) {
            let message = format!("shape {shape:?} with {count} elements is no tensor of a trace");
            let error = Error::malformed(message).wanting_if(counted.map(|counted| (counted, count)));
            return Err(error.in_tensor(&name).in_file(path));
        }
        infos.push(TensorInfo { name, dtype: tensor.data.dtype(), shape });
    }
    let metadata: Vec<(&str, &str)> = std::iter::once(("format", format))
        .chain(metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())))
        .collect();
    let plan = safetensors::plan(&infos, &metadata)?;
    let file = Staged::create(path)?;
    file.set_len(plan.file_len())?;
    for (tensor, &offset) in tensors.iter().zip(plan.offsets()) {
        file.write_at(offset, &tensor.data.bytes())?;
    }
    for span in plan.seal(&[])? {
        file.write_at(span.offset, &span.bytes)?;
    }
    file.sync()?;
    Ok(file)
}

/// An open trace file, whose tensors are read when they are needed. It is not mapped: the pages of a long trace would stay
/// in memory.
pub struct TraceFile {
    path: PathBuf,
    file: File,
    metadata: Vec<(String, String)>,
    /// Every tensor, and where its bytes start; of a sampled trace the inputs alone.
    tensors: Vec<(TensorInfo, u64)>,
    /// What a sampled trace has.
    sampled: Vec<Sampled>,
}

impl TraceFile {
    /// Opens a trace file.
    ///
    /// # Errors
    /// Not safetensors; another version than [`FORMAT`] and [`samples::FORMAT`]; a tensor that is neither an input, nor an
    /// activation, nor an output; a dtype other than i64, f32 and f64; no inputs at all; samples that do not fit their list.
    pub fn open(path: &Path) -> Result<TraceFile> {
        let opened = open(path)?;
        let mapped = safetensors::open(Mapped::from_file(&opened, path)?)?;
        let format =
            mapped.metadata().iter().find(|(key, _)| key == "format").map(|(_, value)| value.as_str());
        let is_sampled = format == Some(samples::FORMAT);
        let of_family = |format: &&str| FAMILIES.iter().any(|family| format.starts_with(family));
        if let Some(format) = format.filter(of_family).filter(|&format| !is_sampled && format != FORMAT) {
            let message = format!("format {format:?}, expected {FORMAT:?} or {:?}", samples::FORMAT);
            return Err(Error::unsupported(message).in_file(path));
        }
        let mut tensors = Vec::with_capacity(mapped.tensors().len());
        for (info, &(start, _)) in mapped.tensors().iter().zip(mapped.ranges()) {
            let wrong = |message: String| Error::malformed(message).in_tensor(&info.name).in_file(path);
            let is_table = is_sampled && TABLES.contains(&info.name.as_str());
            if !is_table && (!is_trace_name(&info.name) || (is_sampled && !info.name.starts_with("inputs.")))
            {
                return Err(wrong(
                    "neither inputs.*, nor activations.*, nor outputs.*: not a trace".to_owned(),
                ));
            }
            if !matches!(info.dtype, Dtype::F32 | Dtype::F64 | Dtype::I64) {
                return Err(wrong(format!("dtype {}, a trace holds f32, f64 and i64", info.dtype))
                    .wanting("f32, f64 or i64", info.dtype));
            }
            tensors.push((info.clone(), start as u64));
        }
        if !tensors.iter().any(|(info, _)| info.name.starts_with("inputs.")) {
            return Err(Error::malformed("no tensor is named inputs.*: not a trace").in_file(path));
        }
        let metadata = mapped.metadata().to_vec();
        let mut trace =
            TraceFile { path: path.to_owned(), file: opened, metadata, tensors, sampled: Vec::new() };
        if is_sampled {
            trace.sampled = trace.table().map_err(|error| error.in_file(path))?;
            trace.tensors.retain(|(info, _)| info.name.starts_with("inputs."));
        }
        Ok(trace)
    }

    /// What a sampled trace has, from its two tables and the list of their rows.
    fn table(&self) -> Result<Vec<Sampled>> {
        let listed = samples::listed(self.metadata(samples::TENSORS).unwrap_or_default())?;
        let table = |name: &str, width: usize| match self.tensor(name)? {
            Some(Tensor { shape, data: Data::Floats(values), .. }) if shape == [listed.len(), width] => {
                Ok(values)
            }
            Some(Tensor { shape, .. }) => {
                let message = format!(
                    "shape {shape:?}, the list of tensors asks for [{}, {width}] of f32",
                    listed.len()
                );
                let want = format!("[{}, {width}]", listed.len());
                Err(Error::malformed(message).wanting(want, format_args!("{shape:?}")).in_tensor(name))
            }
            None => Err(Error::malformed("missing: a sampled trace has it").in_tensor(name)),
        };
        let (numbers, statistics) = (table(TABLES[0], SAMPLES)?, table(TABLES[1], STATISTICS)?);
        let rows = numbers.chunks_exact(SAMPLES).zip(statistics.chunks_exact(STATISTICS));
        let sampled = listed.iter().zip(rows).filter_map(|((name, shape), (numbers, statistics))| {
            let count = shape.iter().product::<usize>().min(SAMPLES);
            Some(Sampled {
                name: name.clone(),
                shape: shape.clone(),
                samples: numbers.get(..count)?.to_vec(),
                statistics: Statistics::from_row(statistics)?,
            })
        });
        Ok(sampled.collect())
    }

    /// Whether the trace has samples and statistics of its points alone.
    pub fn is_sampled(&self) -> bool {
        !self.sampled.is_empty()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A value of the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The full names of the inputs, activations and outputs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let whole = self.tensors.iter().map(|(info, _)| info.name.as_str());
        whole.chain(self.sampled.iter().map(|sampled| sampled.name.as_str()))
    }

    /// Whether some name starts so.
    pub fn has_any(&self, prefix: &str) -> bool {
        self.names().any(|name| name.starts_with(prefix))
    }

    /// The full names of the activations and outputs, and apart from them those that no class computes by themselves
    /// ([`is_of_inner_module`]).
    pub fn points(&self) -> (Vec<&str>, Vec<&str>) {
        let points = self.names().filter(|name| !name.starts_with("inputs."));
        points.partition(|name| !is_of_inner_module(name))
    }

    /// The shape of a tensor, whole or sampled; nothing if there is none of this full name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let whole = self.tensors.iter().map(|(info, _)| (&info.name, &info.shape));
        let mut all = whole.chain(self.sampled.iter().map(|sampled| (&sampled.name, &sampled.shape)));
        all.find(|(known, _)| *known == name).map(|(_, shape)| shape.as_slice())
    }

    /// Reads what the file has of a point; nothing if there is none of this full name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn recorded(&self, name: &str) -> Result<Option<Recorded>> {
        match self.sampled.iter().find(|sampled| sampled.name == name) {
            Some(sampled) => Ok(Some(Recorded::Sampled(sampled.clone()))),
            None => Ok(self.tensor(name)?.map(Recorded::Whole)),
        }
    }

    /// Reads a tensor; nothing if there is none of this full name.
    ///
    /// # Errors
    /// The file cannot be read; it has samples of this tensor alone.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        self.refuse_sampled(|sampled| sampled == name)?;
        let found = self.tensors.iter().find(|(info, _)| info.name == name);
        found.map(|(info, start)| self.read(info, *start)).transpose()
    }

    /// Refuses to pass over tensors of which the file has samples.
    fn refuse_sampled(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        match self.sampled.iter().find(|sampled| wanted(&sampled.name)) {
            Some(sampled) => {
                let message = "the trace has samples of it alone, and this needs all of its numbers";
                Err(Error::unsupported(message).in_tensor(&sampled.name).in_file(&self.path))
            }
            None => Ok(()),
        }
    }

    /// Reads the inputs, and the metadata.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn inputs(&self) -> Result<Trace> {
        self.trace(|name| name.starts_with("inputs."))
    }

    /// Reads the inputs, the activations and outputs that a class computes, and the metadata.
    ///
    /// # Errors
    /// The file cannot be read; it has samples alone.
    pub fn known(&self) -> Result<Trace> {
        self.trace(|name| !is_of_inner_module(name))
    }

    /// Reads the tensors whose full names are wanted, and the metadata.
    ///
    /// # Errors
    /// The file cannot be read; it has samples alone of one of them.
    pub fn trace(&self, wanted: impl Fn(&str) -> bool) -> Result<Trace> {
        self.refuse_sampled(&wanted)?;
        let tensors = self.tensors.iter().filter(|(info, _)| wanted(&info.name));
        let tensors = tensors.map(|(info, start)| self.read(info, *start)).collect::<Result<_>>()?;
        Ok(Trace { metadata: self.metadata.clone(), tensors })
    }

    fn read(&self, info: &TensorInfo, start: u64) -> Result<Tensor> {
        let mut bytes = vec![0; info.byte_len()?];
        read_exact_at(&self.file, &mut bytes, start).map_err(|error| Error::io(&self.path, "read", error))?;
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

/// The tensors of a sampled trace that hold what is known of its points.
const TABLES: [&str; 2] = ["samples", "statistics"];

/// Writes nothing but what [`Trace::read`] takes.
fn is_trace_name(name: &str) -> bool {
    ["inputs.", "activations.", "outputs."].iter().any(|prefix| name.starts_with(prefix))
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
        assert_eq!(crate::trace::folder::find(folder.path()).unwrap(), [path]);
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
}
