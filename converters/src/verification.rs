//! Whether what was written is what was meant to be written: it is read back, tensor by tensor.

use crate::checkpoint::Checkpoint;
use crate::convert::WrittenTensor;
use crate::digest::{TensorDigest, tensor_digest};
use crate::error::{Error, Kind, Result};
use crate::format::TensorFile;
use crate::int8::read_back;
use crate::output::Staged;
use crate::parallel;
use crate::progress::Progress;
use crate::shard::Shards;
use crate::source::Source;
use crate::targets::Target;
use crate::values::Values;

/// Reads the output back as any checkpoint and compares every tensor with what was meant to be written. Returns the digests of
/// all parameters.
///
/// # Errors
/// A tensor that is not there, or another one; files that cannot be read.
pub(crate) fn verify(
    input: &Checkpoint,
    written: &Shards<'_>,
    files: &[Staged],
    tensors: &[WrittenTensor],
    progress: &dyn Progress,
) -> Result<Vec<TensorDigest>> {
    let differs = |name: &str, what: &str| {
        Error::new(Kind::Verification, format!("{what}: this is a fault of the program or of the disk"))
            .in_tensor(name)
            .in_file(&written.path)
    };
    let is_rounded = written.targets().any(|target| target.int8.is_some());
    let read = if is_rounded {
        of_codes(input, written, files, progress)?
    } else {
        of_checkpoint(input, written, files, progress)?
    };
    if read.len() != input.bound.len() || tensors.len() != input.bound.len() {
        return Err(differs("", "not every parameter was written")
            .wanting(input.bound.len(), read.len().min(tensors.len())));
    }
    for ((source, tensor), (name, digest)) in input.bound.iter().zip(tensors).zip(&read) {
        if source.param.name != *name || tensor.expected != *digest {
            return Err(differs(name, "what was read back is not what was written")
                .wanting(tensor.expected.values, digest.values));
        }
    }
    Ok(read.into_iter().map(|(_, digest)| digest).collect())
}

/// The parameters of a checkpoint.
fn of_checkpoint(
    input: &Checkpoint,
    written: &Shards<'_>,
    files: &[Staged],
    progress: &dyn Progress,
) -> Result<Vec<(String, TensorDigest)>> {
    let paths = written.shards.iter().map(|shard| shard.path.clone()).collect();
    let source = Source::of_files(written.path.clone(), paths);
    let (opened, head) = (written.open(files)?, Some(input.head));
    let mut output = Checkpoint::from_files(source, written.format, opened, &input.config, head)?;
    output.check_copies()?;
    output.require_complete()?;
    let digests = output.tensor_digests(progress)?;
    Ok(output.bound.iter().map(|bound| bound.param.name.clone()).zip(digests).collect())
}

/// The parameters of a graph that holds some as codes and scales: of these, the numbers that they stand for.
fn of_codes(
    input: &Checkpoint,
    written: &Shards<'_>,
    files: &[Staged],
    progress: &dyn Progress,
) -> Result<Vec<(String, TensorDigest)>> {
    let opened = written.open(files)?;
    let file =
        opened.first().ok_or_else(|| Error::malformed("no file was written").in_file(&written.path))?;
    let targets: Vec<&Target> = written.targets().filter(|target| !target.is_scales()).collect();
    parallel::map(
        &targets,
        |target| target.info.byte_len().unwrap_or(0),
        |target| {
            let bound = input.bound.get(target.bound).ok_or_else(|| Error::malformed("no such parameter"))?;
            let (name, shape) = (&bound.param.name, &bound.param.shape);
            let digest = match target.int8 {
                Some(_) => read_back(file.as_ref(), name, shape, target.transposed)?,
                None => whole(file.as_ref(), target)?,
            };
            progress.advance((shape.iter().product::<usize>() * bound.dtype.size()) as u64);
            Ok((name.clone(), digest))
        },
    )
}

/// The digest of a tensor that is not rounded.
fn whole(file: &dyn TensorFile, target: &Target) -> Result<TensorDigest> {
    let index = file.tensors().iter().position(|info| info.name == target.info.name);
    let bytes = index.map(|index| file.read(index)).transpose()?.unwrap_or_default();
    let (dtype, shape) = (target.info.dtype, target.info.shape.clone());
    tensor_digest(&Values { bytes, dtype, shape, transposed: target.transposed })
}
