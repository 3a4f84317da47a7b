//! Keras HDF5 checkpoints.
