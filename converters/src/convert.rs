//! The conversion pipeline: plan, write, read back, compare, name.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::digest::{TensorDigest, TensorHasher, tensor_digest};
use crate::error::{Error, Kind, Result};
use crate::format::{Extra, Format, keras as keras_format};
use crate::forward;
use crate::int8::{Int8Ledger, Noise, account, write_codes, write_scales};
use crate::ledger::{LargestRounding, Ledger, Side};
use crate::mapped::refuse_shrunk;
use crate::matching::Bound;
use crate::output::{Batch, Staged, refuse_as_weights};
use crate::parallel;
use crate::progress::Progress;
use crate::request::Request;
use crate::shard::{Shard, Shards};
use crate::source::{Source, is_shard};
use crate::targets::{Int8Part, Target, refuse_obstacles, targets};
use crate::tensor::Dtype;
use crate::values::{Rounding, Values};
use crate::verification::verify;

/// Converts `input` as `request` says: writes the output under no name, reads it back with the ordinary reader,
/// compares the digest of every tensor, and only then gives it its name.
///
/// # Errors
/// An incomplete input; a model that the target format cannot hold; an output that exists; anything that goes
/// wrong with reading or writing. No output is left behind.
///
/// ```
/// use deberta_converters::checkpoint::Checkpoint;
/// use deberta_converters::convert::convert;
/// use deberta_converters::format::Format;
/// use deberta_converters::request::{OnnxRequest, Request};
/// use deberta_converters::source::Source;
///
/// let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/trained/nli/tf_model.h5");
/// let (_, mut input) = Checkpoint::open(Source::locate(model.as_ref(), None, None)?, None, None)?;
/// let folder = tempfile::tempdir()?;
/// let request = Request {
///     to: Format::Safetensors,
///     output: folder.path().join("model.safetensors"),
///     companions: Vec::new(),
///     dtype: None,
///     max_shard_size: None,
///     replace: false,
///     onnx: OnnxRequest::default(),
/// };
/// let ledger = convert(&mut input, &request, &())?;
/// assert_eq!(ledger.output.digest, ledger.input.digest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn convert(input: &mut Checkpoint, request: &Request, progress: &dyn Progress) -> Result<Ledger> {
    let conversion = Conversion::stage(input, request, progress)?;
    let ledger = conversion.ledger.clone();
    together(vec![conversion])?.commit(request.replace)?;
    Ok(ledger)
}

/// An output that is written and found right, and has no name yet. It is gone when this is dropped.
pub struct Conversion {
    /// The account of it.
    pub ledger: Ledger,
    folder: PathBuf,
    companions: Vec<Staged>,
    /// The files of the weights, in the order in which they get their names: one that needs another comes after it.
    weights: Vec<Staged>,
    /// Old files that would be read in place of the new ones, or by nobody.
    superseded: Vec<PathBuf>,
}

impl Conversion {
    /// Does all of [`convert`] but the last: the output has no name yet.
    ///
    /// # Errors
    /// As [`convert`].
    pub fn stage(input: &mut Checkpoint, request: &Request, progress: &dyn Progress) -> Result<Conversion> {
        input.check_copies()?;
        input.require_complete()?;
        refuse_obstacles(input, request)?;

        let targets = targets(input, request)?;
        let output = Shards::plan(input, request, &targets)?;
        let folder = request.output.parent().unwrap_or(Path::new("")).to_owned();
        let companions = request.companions.iter().map(|companion| companion.path.as_path());
        for path in companions.chain(output.paths()) {
            refuse_as_weights(path)?;
            if path.parent().unwrap_or(Path::new("")) != folder {
                let why = "is in another folder than the weights: they appear together in one";
                return Err(Error::new(Kind::Request, why).in_file(path));
            }
        }
        let index_path = output.index_path();
        for path in output.paths().chain(index_path.as_deref()) {
            if path.exists() && !request.replace {
                return Err(crate::output::exists(path));
            }
        }

        let companions = request
            .companions
            .iter()
            .map(|companion| small(&companion.path, companion.content.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        let index = index_path.map(|path| small(&path, output.index_text()?.as_bytes())).transpose()?;
        let mut files = output.paths().map(Staged::create).collect::<Result<Vec<_>>>()?;
        let all_written = AtomicBool::new(false);
        let written = thread::scope(|scope| {
            // The disk is slower than the page cache: it is kept busy from the first byte on.
            let flush = || flush_until(&all_written, &files);
            let flushing = thread::Builder::new().spawn_scoped(scope, flush);
            let written = write_and_verify(input, &output, &files, &all_written, progress);
            all_written.store(true, Ordering::Release);
            let failed = || Error::new(Kind::Io, "the disk could not be waited for");
            let flushed = match flushing {
                Ok(flushing) => flushing.join().unwrap_or_else(|_| Err(failed())),
                // The system gives no thread.
                Err(_) => flush(),
            };
            // The reason of most errors that there are then.
            refuse_shrunk()?;
            let written = written?;
            flushed.map(|()| written)
        })?;

        let superseded = if request.replace { superseded(&output) } else { Vec::new() };
        let mut ledger = ledger(input, request, &written);
        ledger.notes.extend(
            superseded.iter().map(|path| format!("{} goes: the new shards are in its place", path.display())),
        );
        files.extend(index);
        Ok(Conversion { ledger, folder, companions, weights: files, superseded })
    }
}

/// The files of conversions to one folder, which appear together: first what nobody reads alone, and last, of every conversion, the
/// weights, the index of shards, or the graph.
///
/// # Errors
/// Conversions to several folders; the end was asked for.
pub fn together(conversions: Vec<Conversion>) -> Result<Batch> {
    Error::unless_stopped()?;
    let folder = conversions.first().map(|first| first.folder.clone()).unwrap_or_default();
    let (mut batch, mut last) = (Batch::in_folder(&folder), Vec::new());
    for mut conversion in conversions {
        if conversion.folder != folder {
            let why =
                format!("is not {}: outputs of one run appear together in one folder", folder.display());
            return Err(Error::new(Kind::Request, why).in_file(&conversion.folder));
        }
        conversion.companions.into_iter().for_each(|file| batch.add_shared(file));
        last.extend(conversion.weights.pop());
        conversion.weights.into_iter().for_each(|file| batch.add(file));
        conversion.superseded.into_iter().for_each(|path| batch.supersede(path));
    }
    last.into_iter().for_each(|file| batch.add(file));
    Ok(batch)
}

/// What was written and found right.
struct Written<'o> {
    output: &'o Shards<'o>,
    /// What became of every parameter, in the order of [`Checkpoint::bound`].
    tensors: Vec<WrittenTensor>,
    /// The digest of every parameter as it was read back.
    digests: Vec<TensorDigest>,
}

/// Writes all files and reads them back.
fn write_and_verify<'o>(
    input: &Checkpoint,
    output: &'o Shards<'_>,
    files: &[Staged],
    all_written: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Written<'o>> {
    progress.start("writing", output.byte_len());
    let mut tensors = Vec::with_capacity(input.bound.len());
    for (shard, file) in output.shards.iter().zip(files) {
        tensors.extend(shard.write(input, file, progress)?);
    }
    tensors.sort_by_key(|tensor| tensor.bound);
    for (shard, file) in output.shards.iter().zip(files) {
        if let Some(offset) = shard.plan.digest_offset() {
            let digest = input.digest(tensors.iter().map(|tensor| &tensor.expected)).to_string();
            file.write_at(offset, digest.as_bytes())?;
        }
    }
    all_written.store(true, Ordering::Release);
    progress.start("verifying", input.data_len());
    let digests = verify(input, output, files, &tensors, progress)?;
    Ok(Written { output, tensors, digests })
}

/// Sends what is written to the disk, until all that will be written is there.
fn flush_until(all_written: &AtomicBool, files: &[Staged]) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    loop {
        let last = all_written.load(Ordering::Acquire);
        files.iter().try_for_each(Staged::sync)?;
        if last {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
}

/// What became of a parameter when it was written.
pub(crate) struct WrittenTensor {
    bound: usize,
    /// Of the values that were read.
    source: TensorDigest,
    /// Of the values that were written, which differ from those read only by a change of dtype, or by being rounded to int8.
    pub(crate) expected: TensorDigest,
    rounding: Rounding,
    /// What it cost to round them to int8, if they were.
    noise: Option<Noise>,
}

impl Shard<'_> {
    /// Writes every tensor and then everything else.
    fn write(
        &self,
        input: &Checkpoint,
        file: &Staged,
        progress: &dyn Progress,
    ) -> Result<Vec<WrittenTensor>> {
        file.set_len(self.plan.file_len())?;
        let work: Vec<(&Target, u64)> =
            self.targets.iter().copied().zip(self.plan.offsets().iter().copied()).collect();
        let checksummed = self.plan.wants_crc32();
        let results = parallel::map(
            &work,
            |(target, _)| target.info.byte_len().unwrap_or(0),
            |&(target, offset)| {
                let bound =
                    input.bound.get(target.bound).ok_or_else(|| Error::malformed("no such parameter"))?;
                let result = write_tensor(input, bound, target, file, offset, checksummed, progress);
                result.map_err(|error| error.in_tensor(&bound.stored_name).in_file(&input.source.path))
            },
        )?;
        let (written, crc32): (Vec<Option<WrittenTensor>>, Vec<u32>) = results.into_iter().unzip();
        for span in self.plan.seal(if checksummed { &crc32 } else { &[] })? {
            file.write_at(span.offset, &span.bytes)?;
        }
        Ok(written.into_iter().flatten().collect())
    }
}

/// Writes one tensor and returns what was written of its parameter (nothing for a repetition), and the CRC-32 of
/// its bytes.
fn write_tensor(
    input: &Checkpoint,
    bound: &Bound,
    target: &Target,
    file: &Staged,
    offset: u64,
    checksummed: bool,
    progress: &dyn Progress,
) -> Result<(Option<WrittenTensor>, u32)> {
    let values = input.values(bound)?;
    let dtype = target.info.dtype;
    let mut crc32 = crc32fast::Hasher::new();
    let mut hasher = TensorHasher::new(dtype, &values.shape);
    // A strip that is in the canonical layout is hashed while it is in the cache.
    let hashed_on_the_way = !target.repeated && !target.transposed;
    let mut at = offset;
    let mut write = |strip: &[u8]| {
        Error::unless_stopped()?;
        file.write_at(at, strip)?;
        at += strip.len() as u64;
        progress.advance(strip.len() as u64);
        Ok(())
    };
    if let Some(part) = target.int8 {
        return Ok((write_rounded(&values, target, part, write)?, 0));
    }
    let rounding = values.strips(dtype, target.transposed, |strip| {
        if checksummed {
            crc32.update(strip);
        }
        if hashed_on_the_way {
            hasher.update(strip)?;
        }
        write(strip)
    })?;
    if target.repeated {
        return Ok((None, crc32.finalize()));
    }
    if !hashed_on_the_way {
        values.strips(dtype, false, |strip| hasher.update(strip))?;
    }
    let expected = hasher.finish();
    let source = if dtype == values.dtype { expected } else { tensor_digest(&values)? };
    let written = WrittenTensor { bound: target.bound, source, expected, rounding, noise: None };
    Ok((Some(written), crc32.finalize()))
}

/// Gives `write` the codes or the scales of values that are rounded to int8; the codes are their parameter's tensor.
fn write_rounded(
    values: &Values<'_>,
    target: &Target,
    part: Int8Part,
    write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Option<WrittenTensor>> {
    match part {
        Int8Part::Scales(most) => write_scales(values, most, write).map(|()| None),
        Int8Part::Codes(most) => {
            let (expected, noise, rounding) = write_codes(values, most, target.transposed, write)?;
            let (bound, source) = (target.bound, tensor_digest(values)?);
            Ok(Some(WrittenTensor { bound, source, expected, rounding, noise: Some(noise) }))
        }
    }
}

/// The account of the conversion.
fn ledger(input: &Checkpoint, request: &Request, written: &Written<'_>) -> Ledger {
    let output = written.output;
    let bytes = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut kept_aside = input.aside.clone();
    let mut dtypes: Vec<(String, usize)> = Vec::new();
    let mut widened = 0;
    for target in output.targets().filter(|target| !target.repeated && !target.is_scales()) {
        let Some(bound) = input.bound.get(target.bound) else { continue };
        let dtype = target.info.dtype.to_string();
        match dtypes.iter_mut().find(|(known, _)| *known == dtype) {
            Some((_, count)) => *count += 1,
            None => dtypes.push((dtype, 1)),
        }
        widened += usize::from(
            bound.dtype == Dtype::BF16 && target.info.dtype == Dtype::F32 && request.dtype.is_none(),
        );
        if target.info.name.starts_with(keras_format::KEPT_ASIDE) {
            let what = format!("in group {}, which TensorFlow does not read", keras_format::KEPT_ASIDE);
            kept_aside.push(Extra { name: bound.param.name.clone(), what });
        }
    }
    let mut notes = input.notes.clone();
    if widened > 0 {
        notes.push(format!(
            "{widened} tensors were bf16, which HDF5 does not have: written as f32, without loss"
        ));
    }
    let input_digest = input.digest(written.tensors.iter().map(|tensor| &tensor.source)).to_string();
    if input.metadata(forward::CLASS_KEY) == Some(input.class_name())
        && let Some(told) = input.metadata(forward::DIGEST_KEY).filter(|told| *told != input_digest)
    {
        notes.push(format!(
            "the input's metadata tell the digest {told}: its weights were changed afterwards"
        ));
    }
    let transposed = output.targets().filter(|target| {
        !target.repeated
            && !target.is_scales()
            && input.bound.get(target.bound).is_some_and(|bound| bound.transposed != target.transposed)
    });
    let rounding = request.dtype.map(|_| {
        let rounding = |tensor: &WrittenTensor| {
            Some((input.bound.get(tensor.bound)?.param.name.as_str(), tensor.rounding))
        };
        LargestRounding::of(written.tensors.iter().filter_map(rounding))
    });
    Ledger {
        input: Side {
            path: input.source.path.clone(),
            format: input.format.to_string(),
            files: input.source.files.len(),
            bytes: input.source.files.iter().map(bytes).sum(),
            digest: input_digest,
        },
        output: Side {
            path: output.index_path().unwrap_or_else(|| output.path.clone()),
            format: output.format.to_string(),
            files: output.shards.len(),
            bytes: output.byte_len(),
            digest: input.digest(&written.digests).to_string(),
        },
        class: input.class_name(),
        layers: input.config.num_hidden_layers,
        parameters: input.parameter_count(),
        dtypes,
        mapped: input.bound.len(),
        transposed: transposed.count(),
        aliased: output.shards.iter().map(|shard| shard.aliases.len()).sum(),
        repeated: output.targets().filter(|target| target.repeated).count(),
        copies_checked: input.copies.len(),
        kept_aside,
        notes,
        rounding,
        int8: int8(input, request, written),
        also_written: request.companions.iter().map(|companion| companion.path.clone()).collect(),
    }
}

/// What rounding to int8 did, if it was asked for.
fn int8(input: &Checkpoint, request: &Request, written: &Written<'_>) -> Option<Int8Ledger> {
    let options = request.onnx.forward.int8.as_ref().filter(|_| request.to == Format::Onnx)?;
    let mut rounded = forward::rounded(&input.config, input.head, &request.onnx.forward).unwrap_or_default();
    // What the class does not use need not be there.
    rounded.kept.retain(|name| input.parameter(name).is_some());
    let weights = written
        .tensors
        .iter()
        .filter_map(|tensor| Some((input.bound.get(tensor.bound)?.param.name.as_str(), tensor.noise?)));
    let in_f32 = input.parameter_count() as u64 * Dtype::F32.size() as u64;
    let stored = written.output.targets().filter_map(|target| target.info.byte_len().ok()).sum::<usize>();
    Some(account(weights, rounded, options.most(), [in_f32, stored as u64]))
}

/// A small file, on the disk.
fn small(path: &Path, content: &[u8]) -> Result<Staged> {
    let file = Staged::create(path)?;
    file.write_at(0, content)?;
    file.sync()?;
    Ok(file)
}

/// The old files in whose place shards come: the single file, which would be read first, and the shards of an index that is
/// replaced, which would be read by nobody.
fn superseded(output: &Shards<'_>) -> Vec<PathBuf> {
    let Some(index) = output.index_path() else { return Vec::new() };
    let listed = if index.exists() { Source::locate(&index, None, None).ok() } else { None };
    let listed = listed.into_iter().flat_map(|source| source.files);
    let listed = listed.filter(|path| is_shard(&path.to_string_lossy()));
    let old = std::iter::once(output.path.clone()).chain(listed);
    old.filter(|old| output.paths().all(|path| path != old) && old.is_file()).collect()
}
