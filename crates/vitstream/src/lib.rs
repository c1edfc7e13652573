//! Turns a trained VITS / Piper voice into a streaming voice, and speaks with it.
