//! The conversion pipeline: plan, write, read back, compare, name.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::digest::{TensorDigest, TensorHasher};
use crate::error::{Error, Kind, Result};
use crate::format::{Extra, keras as keras_format};
use crate::forward;
use crate::ledger::{LargestRounding, Ledger, Side};
use crate::matching::Bound;
use crate::output::Staged;
use crate::parallel;
use crate::progress::Progress;
use crate::request::{Companion, Request};
use crate::shard::{Shard, Shards};
use crate::source::Source;
use crate::targets::{Target, refuse_obstacles, targets};
use crate::tensor::Dtype;
use crate::values::Rounding;

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
    input.check_copies()?;
    input.require_complete()?;
    refuse_obstacles(input, request)?;

    let targets = targets(input, request.to, request.dtype)?;
    let output = Shards::plan(input, request, &targets)?;
    for path in output.shards.iter().map(|shard| &shard.path).chain(output.index_path().as_ref()) {
        if path.exists() && !request.replace {
            return Err(crate::output::exists(path));
        }
    }

    let files = output.shards.iter().map(|shard| Staged::create(&shard.path)).collect::<Result<Vec<_>>>()?;
    let all_written = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        // The disk is slower than the page cache: it is kept busy from the first byte on.
        let flush = || flush_until(&all_written, &files);
        let flushing = thread::Builder::new().spawn_scoped(scope, flush);
        let written = write_and_verify(input, &output, &files, &all_written, progress);
        all_written.store(true, Ordering::Release);
        let flushed = match flushing {
            Ok(flushing) => flushing
                .join()
                .unwrap_or_else(|_| Err(Error::new(Kind::Io, "the disk could not be waited for"))),
            // The system gives no thread.
            Err(_) => flush(),
        };
        let written = written?;
        flushed.map(|()| written)
    })?;

    let ledger = ledger(input, request, &written);
    Error::unless_stopped()?;
    commit(&output, files, &request.companions, request.replace)?;
    Ok(ledger)
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
struct WrittenTensor {
    bound: usize,
    /// Of the values that were read.
    source: TensorDigest,
    /// Of the values that were written, which differ from those read only by a change of dtype.
    expected: TensorDigest,
    rounding: Rounding,
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
    let rounding = values.strips(dtype, target.transposed, |strip| {
        Error::unless_stopped()?;
        if checksummed {
            crc32.update(strip);
        }
        if hashed_on_the_way {
            hasher.update(strip)?;
        }
        file.write_at(at, strip)?;
        at += strip.len() as u64;
        progress.advance(strip.len() as u64);
        Ok(())
    })?;
    if target.repeated {
        return Ok((None, crc32.finalize()));
    }
    if !hashed_on_the_way {
        values.strips(dtype, false, |strip| hasher.update(strip))?;
    }
    let expected = hasher.finish();
    let source = if dtype == values.dtype { expected } else { crate::digest::tensor_digest(&values)? };
    Ok((Some(WrittenTensor { bound: target.bound, source, expected, rounding }), crc32.finalize()))
}

/// Reads the output back as any checkpoint and compares every tensor with what was meant to be written.
fn verify(
    input: &Checkpoint,
    written: &Shards<'_>,
    files: &[Staged],
    tensors: &[WrittenTensor],
    progress: &dyn Progress,
) -> Result<Vec<TensorDigest>> {
    let paths = written.shards.iter().map(|shard| shard.path.clone()).collect();
    let source = Source { path: written.path.clone(), files: paths, weight_map: None };
    let (opened, head) = (written.open(files)?, Some(input.head));
    let mut output = Checkpoint::from_files(source, written.format, opened, &input.config, head)?;
    output.check_copies()?;
    output.require_complete()?;
    let digests = output.tensor_digests(progress)?;
    let differs = |name: &str, what: &str| {
        Error::new(Kind::Verification, format!("{what}: this is a fault of the program or of the disk"))
            .in_tensor(name)
            .in_file(&written.path)
    };
    if output.bound.len() != input.bound.len() || tensors.len() != input.bound.len() {
        return Err(differs("", "not every parameter was written"));
    }
    for ((source, tensor), (bound, read)) in
        input.bound.iter().zip(tensors).zip(output.bound.iter().zip(&digests))
    {
        if source.param.name != bound.param.name || tensor.expected != *read {
            return Err(differs(&bound.param.name, "what was read back is not what was written"));
        }
    }
    Ok(digests)
}

/// The account of the conversion.
fn ledger(input: &Checkpoint, request: &Request, written: &Written<'_>) -> Ledger {
    let output = written.output;
    let bytes = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut kept_aside = input.aside.clone();
    let mut dtypes: Vec<(String, usize)> = Vec::new();
    let mut widened = 0;
    for target in output.targets().filter(|target| !target.repeated) {
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
        also_written: request.companions.iter().map(|companion| companion.path.clone()).collect(),
        weights: output.shards.iter().map(|shard| shard.path.clone()).chain(output.index_path()).collect(),
    }
}

/// Gives every file its name: companions first, then the weights, then the index without which shards are nothing.
fn commit(output: &Shards<'_>, files: Vec<Staged>, companions: &[Companion], replace: bool) -> Result<()> {
    let small = |path: &Path, content: &[u8]| -> Result<Staged> {
        let file = Staged::create(path)?;
        file.write_at(0, content)?;
        file.sync()?;
        Ok(file)
    };
    let beside = companions.iter().map(|companion| small(&companion.path, companion.content.as_ref()));
    let beside = beside.collect::<Result<Vec<_>>>()?;
    let index_path = output.index_path();
    let index = match &index_path {
        Some(path) => Some(small(path, output.index_text()?.as_bytes())?),
        None => None,
    };
    if let Some(path) = index_path.filter(|path| path.exists()) {
        // Old and new shards must never be mixed under one index.
        std::fs::remove_file(&path).map_err(|error| Error::io(&path, "replace", error))?;
    }
    let paths = companions.iter().map(|companion| &companion.path);
    let paths: Vec<&PathBuf> = paths.chain(output.shards.iter().map(|shard| &shard.path)).collect();
    let staged = beside.into_iter().chain(files).chain(index);
    for (done, file) in staged.enumerate() {
        if let Err(error) = file.commit(replace) {
            // Without --force nothing was there before: what this run named goes again.
            if !replace {
                for path in paths.iter().take(done) {
                    let _ = std::fs::remove_file(path);
                }
            }
            return Err(error);
        }
    }
    Ok(())
}
