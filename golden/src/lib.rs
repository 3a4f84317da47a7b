//! Golden traces of DeBERTa models: what was put in, what every module computed, what came out.
//!
//! A [`Backend`] runs a [`Class`] on the inputs of a [`Trace`] and records a trace of its own; a [`Case`] says which
//! traces belong to a model, and how close another run must come.
//!
//! Open [`verify`] first: it is what the program does without a subcommand, and uses the modules above it here.
//!
//! ```text
//! trace                    one recorded run: tensors, class, inputs, padding, every probe point in the order of execution
//! case  goldens  yaml      what a folder says of its traces, and where goldens are looked for
//! backend                  who computes: the reference implementation, the graph of a file, libtorch
//! coverage                 what the inputs exercise of a configuration
//! judge                    how far two tensors are apart, how far they may be, and the verdict
//! report                   what was found, what of it fails, and six formats that show it
//! inventory                the files of a release, and what of them is judged
//! record                   goldens that the reference makes: of texts, and of inputs that exercise a model
//! verify                   every weight file of a model against every trace
//! policy                   verify.yaml: the models of a release, and what they must pass
//! bless  workshop          new recordings in the place of old ones; models of the recipe
//! fault                    what goes wrong with models, as changes of them
//!   diagnose                 undoes faults, to explain a divergence
//!   selftest                 injects faults, to test the comparison
//! tokens                   what tokenizers make of texts, and whether it is what the goldens say
//! task                     how good a model is at what it was trained for
//! cli                      one file a subcommand
//! ```
//!
//! First steps, each with an example: [verify a model](verify::verify()), [read a report](report::Report),
//! [read a trace](Trace::read), [run a graph](backend::Onnx).
//!
//! The program `deberta-verify` is the feature `cli`, models from the Hugging Face hub the feature `hub`: both are on by
//! default, and a user of the library needs neither (`default-features = false`). `tch` and `onnxruntime` add backends:
//! [`backend`].

pub mod backend;
pub mod bless;
pub mod case;
#[cfg(feature = "cli")]
pub mod cli;
pub mod coverage;
pub mod diagnose;
pub mod fault;
pub mod goldens;
pub mod inventory;
pub mod judge;
pub mod policy;
pub mod record;
pub mod report;
pub mod selftest;
pub mod task;
pub mod tokens;
pub mod trace;
pub mod verify;
pub mod workshop;
mod yaml;

pub use backend::{Backend, Reference};
pub use case::Case;
pub use trace::{Class, Data, Slice, Tensor, Trace};
