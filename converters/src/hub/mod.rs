//! Models of the Hugging Face hub: from its cache on this disk, else from the hub itself.
//!
//! The cache is the one of Python's huggingface_hub, file for file, and so are the environment variables: see
//! `docs/hub.md`. Without the feature `hub` neither is looked at: a hub id is an error.

#[cfg(feature = "hub")]
mod client;
mod id;
mod resolve;
mod wanted;

#[cfg(feature = "hub")]
pub use client::Hub;
pub use id::{ModelId, Revision};
pub use resolve::{Listed, Located, hub_id, locate, resolve};
pub use wanted::Wanted;
