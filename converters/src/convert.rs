//! The conversion pipeline: plan, write, read back, compare, name.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::digest::{TensorDigest, TensorHasher, checkpoint_digest};
use crate::error::{Error, Kind, Result};
use crate::format::{Format, TensorFile, keras as keras_format, onnx as onnx_format, open_file};
use crate::forward;
use crate::ledger::{LargestRounding, Ledger, Side};
use crate::matching::{Aside, Bound};
use crate::output::Staged;
use crate::parallel;
use crate::progress::Progress;
use crate::request::Request;
use crate::shard::Shard;
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
pub fn convert(input: &mut Checkpoint, request: &Request, progress: &dyn Progress) -> Result<Ledger> {
    input.check_copies()?;
    input.require_complete()?;
    refuse_obstacles(input, request)?;

    let targets = targets(input, request)?;
    let shards = Shard::plan_all(input, request, &targets)?;
    for path in shards.iter().map(|shard| &shard.path).chain(index_path(request, &shards).as_ref()) {
        if path.exists() && !request.replace {
            return Err(crate::output::exists(path));
        }
    }

    let files = shards.iter().map(|shard| Staged::create(&shard.path)).collect::<Result<Vec<_>>>()?;
    let all_written = AtomicBool::new(false);
    let (written, output_digests) = thread::scope(|scope| {
        // The disk is slower than the page cache: it is kept busy from the first byte on.
        let flushing = scope.spawn(|| flush_until(&all_written, &files));
        let checked = write_and_verify(input, request, &shards, &files, &all_written, progress);
        all_written.store(true, Ordering::Release);
        let flushed =
            flushing.join().unwrap_or_else(|_| Err(Error::new(Kind::Io, "the disk could not be waited for")));
        let checked = checked?;
        flushed.map(|()| checked)
    })?;

    let ledger = ledger(input, request, &targets, &shards, &written, &output_digests);
    commit(request, &shards, files)?;
    Ok(ledger)
}

/// Writes all files and reads them back. Returns what was written, by parameter, and the digests of what was read.
fn write_and_verify(
    input: &Checkpoint,
    request: &Request,
    shards: &[Shard<'_>],
    files: &[Staged],
    all_written: &AtomicBool,
    progress: &dyn Progress,
) -> Result<(Vec<Written>, Vec<TensorDigest>)> {
    progress.start("writing", shards.iter().map(|shard| shard.plan.file_len()).sum());
    let mut written = Vec::with_capacity(input.bound.len());
    for (shard, file) in shards.iter().zip(files) {
        written.extend(shard.write(input, file, progress)?);
    }
    written.sort_by_key(|tensor| tensor.bound);
    let names = || input.bound.iter().map(|bound| bound.param.name.as_str());
    for (shard, file) in shards.iter().zip(files) {
        if let Some(offset) = shard.plan.digest_offset() {
            let digest = checkpoint_digest(names().zip(written.iter().map(|written| written.expected)));
            file.write_at(offset, digest.to_string().as_bytes())?;
        }
    }
    all_written.store(true, Ordering::Release);
    progress.start("verifying", input.data_len());
    let digests = verify(input, request, shards, files, &written, progress)?;
    Ok((written, digests))
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
struct Written {
    bound: usize,
    /// Of the values that were read.
    source: TensorDigest,
    /// Of the values that were written, which differ from those read only by a change of dtype.
    expected: TensorDigest,
    rounding: Rounding,
}

impl Shard<'_> {
    /// Writes every tensor and then everything else.
    fn write(&self, input: &Checkpoint, file: &Staged, progress: &dyn Progress) -> Result<Vec<Written>> {
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
        let (written, crc32): (Vec<Option<Written>>, Vec<u32>) = results.into_iter().unzip();
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
) -> Result<(Option<Written>, u32)> {
    let values = input.values(bound)?;
    let dtype = target.info.dtype;
    let mut crc32 = crc32fast::Hasher::new();
    let mut hasher = TensorHasher::new(dtype, &values.shape);
    // A strip that is in the canonical layout is hashed while it is in the cache.
    let hashed_on_the_way = !target.repeated && !target.transposed;
    let mut at = offset;
    let rounding = values.strips(dtype, target.transposed, |strip| {
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
    Ok((Some(Written { bound: target.bound, source, expected, rounding }), crc32.finalize()))
}

/// Reads the output back as any checkpoint and compares every tensor with what was meant to be written.
fn verify(
    input: &Checkpoint,
    request: &Request,
    shards: &[Shard<'_>],
    files: &[Staged],
    written: &[Written],
    progress: &dyn Progress,
) -> Result<Vec<TensorDigest>> {
    let opened = open_staged(request, shards, files)?;
    let paths = shards.iter().map(|shard| shard.path.clone()).collect();
    let source = Source { path: request.output.clone(), files: paths, weight_map: None };
    let mut output = Checkpoint::from_files(source, request.to, opened, &input.config, Some(input.head))?;
    output.check_copies()?;
    output.require_complete()?;
    let digests = output.tensor_digests(progress)?;
    let differs = |name: &str, what: &str| {
        Error::new(Kind::Verification, format!("{what}: this is a fault of the program or of the disk"))
            .in_tensor(name)
            .in_file(&request.output)
    };
    if output.bound.len() != input.bound.len() || written.len() != input.bound.len() {
        return Err(differs("", "not every parameter was written"));
    }
    for ((source, written), (bound, read)) in
        input.bound.iter().zip(written).zip(output.bound.iter().zip(&digests))
    {
        if source.param.name != bound.param.name || written.expected != *read {
            return Err(differs(&bound.param.name, "what was read back is not what was written"));
        }
    }
    Ok(digests)
}

/// Opens files that have no names yet.
fn open_staged(
    request: &Request,
    shards: &[Shard<'_>],
    files: &[Staged],
) -> Result<Vec<Box<dyn TensorFile>>> {
    let ([.., model], Format::Onnx) = (files, request.to) else {
        return files.iter().map(|file| Ok(open_file(file.map()?)?.1)).collect();
    };
    let external = |location: &Path| {
        let mut all = shards.iter().zip(files);
        match all.find(|(shard, _)| shard.path.file_name() == Some(location.as_os_str())) {
            Some((_, file)) => file.map(),
            None => Err(Error::malformed("no such external data").in_file(location)),
        }
    };
    Ok(vec![Box::new(onnx_format::open_with(model.map()?, &external)?)])
}

fn ledger(
    input: &Checkpoint,
    request: &Request,
    targets: &[Target],
    shards: &[Shard<'_>],
    written: &[Written],
    output_digests: &[TensorDigest],
) -> Ledger {
    let names = || input.bound.iter().map(|bound| bound.param.name.as_str());
    let bytes = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut kept_aside: Vec<Aside> = input.aside.clone();
    let mut dtypes: Vec<(String, usize)> = Vec::new();
    let mut widened = 0;
    for target in targets.iter().filter(|target| !target.repeated) {
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
            kept_aside.push(Aside { name: bound.param.name.clone(), what });
        }
    }
    let mut notes = input.notes.clone();
    if widened > 0 {
        notes.push(format!(
            "{widened} tensors were bf16, which HDF5 does not have: written as f32, without loss"
        ));
    }
    let digest = checkpoint_digest(names().zip(written.iter().map(|written| written.source))).to_string();
    if input.metadata(forward::CLASS_KEY) == Some(input.head.class_name())
        && let Some(told) = input.metadata(forward::DIGEST_KEY).filter(|told| *told != digest)
    {
        notes.push(format!(
            "the input's metadata tell the digest {told}: its weights were changed afterwards"
        ));
    }
    let transposed = targets.iter().filter(|target| {
        !target.repeated
            && input.bound.get(target.bound).is_some_and(|bound| bound.transposed != target.transposed)
    });
    let rounding = request.dtype.map(|_| {
        let rounding =
            |written: &Written| Some((input.bound.get(written.bound)?.param.name.as_str(), written.rounding));
        LargestRounding::of(written.iter().filter_map(rounding))
    });
    Ledger {
        input: Side {
            path: input.source.path.clone(),
            format: input.format.to_string(),
            files: input.source.files.len(),
            bytes: input.source.files.iter().map(bytes).sum(),
            digest,
        },
        output: Side {
            path: index_path(request, shards).unwrap_or_else(|| request.output.clone()),
            format: request.to.to_string(),
            files: shards.len(),
            bytes: shards.iter().map(|shard| shard.plan.file_len()).sum(),
            digest: checkpoint_digest(names().zip(output_digests.iter().copied())).to_string(),
        },
        class: input.head.class_name(),
        layers: input.config.num_hidden_layers,
        parameters: input.parameter_count(),
        dtypes,
        mapped: input.bound.len(),
        transposed: transposed.count(),
        aliased: shards.iter().map(|shard| shard.aliases.len()).sum(),
        repeated: targets.iter().filter(|target| target.repeated).count(),
        copies_checked: input.copies.len(),
        kept_aside,
        notes,
        rounding,
        also_written: request.companions.iter().map(|companion| companion.path.clone()).collect(),
    }
}

/// The index of a sharded output.
fn index_path(request: &Request, shards: &[Shard<'_>]) -> Option<PathBuf> {
    (shards.len() > 1 && request.to != Format::Onnx)
        .then(|| request.output.with_file_name(request.to.index_name()))
}

/// Gives every file its name: companions first, then the weights, then the index without which shards are nothing.
fn commit(request: &Request, shards: &[Shard<'_>], files: Vec<Staged>) -> Result<()> {
    let small = |path: &Path, text: &str| -> Result<Staged> {
        let file = Staged::create(path)?;
        file.write_at(0, text.as_bytes())?;
        file.sync()?;
        Ok(file)
    };
    let companions = request
        .companions
        .iter()
        .map(|companion| small(&companion.path, &companion.text))
        .collect::<Result<Vec<_>>>()?;
    let index_path = index_path(request, shards);
    let index = match &index_path {
        Some(path) => Some(small(path, &index_text(shards)?)?),
        None => None,
    };
    if let Some(path) = index_path.filter(|path| path.exists()) {
        // Old and new shards must never be mixed under one index.
        std::fs::remove_file(&path).map_err(|error| Error::io(&path, "replace", error))?;
    }
    let paths: Vec<PathBuf> = request
        .companions
        .iter()
        .map(|companion| companion.path.clone())
        .chain(shards.iter().map(|shard| shard.path.clone()))
        .collect();
    let staged = companions.into_iter().chain(files).chain(index);
    for (done, file) in staged.enumerate() {
        if let Err(error) = file.commit(request.replace) {
            // Without --force nothing was there before: what this run named goes again.
            if !request.replace {
                for path in paths.iter().take(done) {
                    let _ = std::fs::remove_file(path);
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

fn index_text(shards: &[Shard<'_>]) -> Result<String> {
    let mut weight_map = std::collections::BTreeMap::new();
    let mut total_size = 0_u64;
    for shard in shards {
        let name = shard.path.file_name().unwrap_or_default().to_string_lossy();
        for target in &shard.targets {
            total_size += target.info.byte_len()? as u64;
            weight_map.insert(target.info.name.clone(), name.clone());
        }
        for alias in &shard.aliases {
            weight_map.insert(alias.clone(), name.clone());
        }
    }
    let index = serde_json::json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
    serde_json::to_string_pretty(&index)
        .map(|text| text + "\n")
        .map_err(|error| Error::malformed(format!("cannot make a shard index: {error}")))
}
