//! Streams speech from an exported VITS pair.
