//! What the two processes tell each other: a length, that many bytes of JSON, and the numbers that it announces, in row-major
//! order, each with its least byte first.

use std::io::{self, Read, Write};

use deberta_converters::error::{Error, Kind as ErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backend::onnx::feed::{Given, Input, Kind, Numbers};
use crate::trace::tensor::{Data, Tensor};

/// The longest announcement.
const LONGEST: u64 = 64 << 20;

/// What is to be computed.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    inputs: Vec<Array<Kind>>,
    pub(super) outputs: Vec<String>,
    /// What the whole process may take, in bytes.
    pub(super) memory: u64,
    /// What all outputs may take.
    pub(super) most_output: u64,
}

/// What is announced of an array.
#[derive(Serialize, Deserialize)]
struct Array<T> {
    name: String,
    shape: Vec<usize>,
    of: T,
}

/// What the elements of an output are.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Element {
    I64,
    F32,
    F64,
}

/// What a process says of the graph that it has loaded.
#[derive(Serialize, Deserialize)]
pub(super) struct Loaded {
    pub(super) producer: String,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<String>,
    /// Of a restricted graph.
    pub(super) values: Vec<(String, String)>,
}

/// An answer.
pub(super) enum Reply {
    Loaded(Loaded),
    /// With the most memory that the process had so far.
    Computed {
        tensors: Vec<Tensor>,
        peak: u64,
    },
    Failed(Failure),
}

/// An answer as it is announced.
#[derive(Serialize, Deserialize)]
enum Announced {
    Loaded(Loaded),
    Computed { tensors: Vec<Array<Element>>, peak: u64 },
    Failed(Failure),
}

/// An error on its way.
#[derive(Serialize, Deserialize)]
pub(super) struct Failure {
    kind: ErrorKind,
    file: Option<String>,
    tensor: Option<String>,
    message: String,
    want_and_got: Option<(String, String)>,
}

impl Request {
    /// A request, and the bytes of its numbers.
    pub(super) fn new(
        given: Vec<Given>,
        outputs: &[String],
        memory: u64,
        most_output: u64,
    ) -> (Request, Vec<u8>) {
        let (mut inputs, mut bytes) = (Vec::new(), Vec::new());
        for Given { name, shape, numbers } in given {
            let of = match &numbers {
                Numbers::I32(values) => {
                    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                    Kind::I32
                }
                #[cfg(feature = "onnxruntime")]
                Numbers::I64(values) => {
                    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                    Kind::I64
                }
                Numbers::F32(values) => {
                    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                    Kind::F32
                }
            };
            inputs.push(Array { name, shape, of });
        }
        (Request { inputs, outputs: outputs.to_vec(), memory, most_output }, bytes)
    }

    pub(super) fn write(&self, stream: &mut impl Write, numbers: &[u8]) -> io::Result<()> {
        announce(stream, self)?;
        stream.write_all(numbers)
    }

    /// Reads a request with what is given to the graph. Nothing at the end of the stream.
    pub(super) fn read(stream: &mut impl Read) -> io::Result<Option<(Request, Vec<Given>)>> {
        let Some(mut request) = announced::<Request>(stream)? else { return Ok(None) };
        let mut given = Vec::new();
        for Array { name, shape, of } in std::mem::take(&mut request.inputs) {
            let numbers = match of {
                Kind::I32 => Numbers::I32(numbers(stream, &shape, i32::from_le_bytes)?),
                #[cfg(feature = "onnxruntime")]
                Kind::I64 => Numbers::I64(numbers(stream, &shape, i64::from_le_bytes)?),
                Kind::F32 => Numbers::F32(numbers(stream, &shape, f32::from_le_bytes)?),
            };
            given.push(Given { name, shape, numbers });
        }
        Ok(Some((request, given)))
    }
}

impl Reply {
    pub(super) fn write(self, stream: &mut impl Write) -> io::Result<()> {
        match self {
            Reply::Loaded(loaded) => announce(stream, &Announced::Loaded(loaded))?,
            Reply::Failed(failure) => announce(stream, &Announced::Failed(failure))?,
            Reply::Computed { tensors, peak } => {
                let array = |tensor: &Tensor| Array {
                    name: tensor.name.clone(),
                    shape: tensor.shape.clone(),
                    of: match tensor.data {
                        Data::Integers(_) => Element::I64,
                        Data::Floats(_) => Element::F32,
                        Data::Doubles(_) => Element::F64,
                    },
                };
                announce(
                    stream,
                    &Announced::Computed { tensors: tensors.iter().map(array).collect(), peak },
                )?;
                for tensor in tensors {
                    stream.write_all(&tensor.data.bytes())?;
                }
            }
        }
        stream.flush()
    }

    /// Reads an answer. Nothing at the end of the stream.
    pub(super) fn read(stream: &mut impl Read) -> io::Result<Option<Reply>> {
        Ok(match announced(stream)? {
            None => None,
            Some(Announced::Loaded(loaded)) => Some(Reply::Loaded(loaded)),
            Some(Announced::Failed(failure)) => Some(Reply::Failed(failure)),
            Some(Announced::Computed { tensors, peak }) => {
                let mut read = Vec::new();
                for Array { name, shape, of } in tensors {
                    let data = match of {
                        Element::I64 => Data::Integers(numbers(stream, &shape, i64::from_le_bytes)?),
                        Element::F32 => Data::Floats(numbers(stream, &shape, f32::from_le_bytes)?),
                        Element::F64 => Data::Doubles(numbers(stream, &shape, f64::from_le_bytes)?),
                    };
                    read.push(Tensor { name, shape, data });
                }
                Some(Reply::Computed { tensors: read, peak })
            }
        })
    }

    /// The error for an answer to another question.
    pub(super) fn unexpected(self) -> Error {
        Error::unsupported("the process for the graph answers what it was not asked")
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        Failure {
            kind: error.kind(),
            file: error.file().map(str::to_owned),
            tensor: error.tensor().map(str::to_owned),
            message: error.message().to_owned(),
            want_and_got: error.want_and_got().map(|(want, got)| (want.to_owned(), got.to_owned())),
        }
    }
}

impl Failure {
    /// The error that it was.
    pub(super) fn error(self) -> Error {
        let Failure { kind, file, tensor, message, want_and_got } = self;
        let error = Error::new(kind, message).wanting_if(want_and_got);
        let error = tensor.iter().fold(error, |error, tensor| error.in_tensor(tensor));
        file.iter().fold(error, |error, file| error.in_file(file.as_ref()))
    }
}

fn announce(stream: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(what)?;
    stream.write_all(&(text.len() as u64).to_le_bytes())?;
    stream.write_all(&text)
}

fn announced<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 8];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let length = u64::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = Vec::new();
    stream.take(length).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// As many numbers as a shape has.
fn numbers<const N: usize, T>(
    stream: &mut impl Read,
    shape: &[usize],
    number: fn([u8; N]) -> T,
) -> io::Result<Vec<T>> {
    let count = shape.iter().try_fold(N as u64, |bytes, &axis| bytes.checked_mul(axis as u64));
    let count = count.ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = Vec::new();
    if stream.take(count).read_to_end(&mut bytes)? as u64 != count {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (chunks, _) = bytes.as_chunks::<N>();
    Ok(chunks.iter().map(|&chunk| number(chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let given =
            vec![Given { name: "a".to_owned(), shape: vec![2, 1], numbers: Numbers::F32(vec![1.5, -0.0]) }];
        let (request, numbers) = Request::new(given, &["b".to_owned()], 7, 8);
        let mut bytes = Vec::new();
        request.write(&mut bytes, &numbers).unwrap();
        let (request, given) = Request::read(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!((request.outputs, request.memory, request.most_output), (vec!["b".to_owned()], 7, 8));
        assert!(matches!(&given[0].numbers, Numbers::F32(values) if values[..] == [1.5, 0.0]));

        let tensor =
            Tensor { name: "t".to_owned(), shape: vec![3], data: Data::Integers(vec![1, -2, i64::MAX]) };
        let mut bytes = Vec::new();
        Reply::Computed { tensors: vec![tensor.clone()], peak: 5 }.write(&mut bytes).unwrap();
        let failure = Error::malformed("wrong").in_tensor("x").in_file("f".as_ref());
        Reply::Failed((&failure).into()).write(&mut bytes).unwrap();
        let mut stream = bytes.as_slice();
        let Some(Reply::Computed { tensors, peak: 5 }) = Reply::read(&mut stream).unwrap() else { panic!() };
        assert_eq!(tensors, [tensor]);
        let Some(Reply::Failed(heard)) = Reply::read(&mut stream).unwrap() else { panic!() };
        let heard = heard.error();
        assert_eq!((heard.to_string(), heard.kind()), (failure.to_string(), failure.kind()));
        assert!(Reply::read(&mut stream).unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_is_an_error_and_takes_no_memory() {
        assert!(Reply::read(&mut [255_u8; 4096].as_slice()).is_err());
        let mut lie = Vec::new();
        let tensors = vec![Array { name: "t".to_owned(), shape: vec![1 << 40, 1 << 10], of: Element::F64 }];
        announce(&mut lie, &Announced::Computed { tensors, peak: 0 }).unwrap();
        assert!(Reply::read(&mut lie.as_slice()).is_err());
    }
}
