//! Reads model checkpoints as lazy tensors and inert metadata, and never executes anything from them.
