//! Limits on what a file may demand. Each limit is many times what known checkpoints need, and small enough
//! to refuse a file made to exhaust memory or time.

/// Entries in the zip's directory, or tensors in a safetensors file. A zip has one per storage; measured
/// checkpoints (those of the tests, and a medium voice without its optimizer) have 365 to 1,652.
pub const MAX_ENTRIES: u64 = 1 << 18;

/// Bytes of the header of a safetensors file. Measured: 63 kB for a tiny voice, about the same for a large
/// one.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Bytes of `data.pkl`. Measured: 58 kB to 197 kB. The pickle is read in place, so this bounds time, not memory.
pub const MAX_PICKLE_BYTES: u64 = 64 << 20;

/// Values that a pickle may create, counted as the machine creates them. The same checkpoints create 7,101 to
/// 28,185. Files made to reach this limit and [`MAX_VALUES`] took 85 MB to 107 MB of memory, excluding text.
pub const MAX_NODES: usize = 1 << 20;

/// Values in the finished tree; larger ones count by their size. A shared value counts each time it is
/// reached, so a few bytes that double a list thirty times ("memo bomb") hit this limit before they exhaust
/// memory.
pub const MAX_VALUES: usize = 1 << 20;

/// Bytes of text and byte strings in the finished tree; shared ones again count each time.
pub const MAX_TEXT_BYTES: usize = 64 << 20;

/// Slots of the memo. CPython stores nearly every value in it, so there may be as many slots as values.
pub const MAX_MEMO: usize = MAX_NODES;

/// Values waiting on the machine's stack. A state dict's `SETITEMS` batches 2,000 of them.
pub const MAX_STACK: usize = 1 << 20;

/// Nesting depth of containers. Real checkpoints stay below ten. All recursion (building, dropping and
/// printing a [`Value`](crate::Value)) is at most this deep.
pub const MAX_DEPTH: usize = 96;

/// Bytes of one `module.name`.
pub const MAX_GLOBAL_BYTES: usize = 512;

/// Axes of a tensor. PyTorch's own kernels stop at 64 as well.
pub const MAX_RANK: usize = 64;

/// Nesting depth of dicts in which tensors are searched for when no state dict is in its usual place.
/// StyleTTS2's `net.decoder.KEY` has two levels.
pub const MAX_STATE_DICT_DEPTH: usize = 4;

/// Bytes of a key joined from the names of nested dicts.
pub const MAX_KEY_BYTES: usize = 1 << 10;

/// Bytes that gathering one strided view may allocate. Stride 0 lets a view of four bytes claim any size, so
/// the file's length is no bound here. The limit applies to each tensor; the total of all tensors is up to
/// the caller, who knows which ones are used: [`TensorRef::nbytes`](crate::TensorRef::nbytes) gives the size
/// of each one before any memory is allocated.
pub const MAX_GATHER_BYTES: usize = 1 << 30;
