//! What a file may ask for. Each limit is many times what the checkpoints at hand need, and small enough
//! that a file made to exhaust memory or time is refused first.

/// Entries in the zip's directory, or tensors in a safetensors file. One per storage: the checkpoints measured (of
/// the tests, and of a medium voice without its optimizer) have 365 to 1,652.
pub const MAX_ENTRIES: u64 = 1 << 18;

/// Bytes of the header of a safetensors file. Measured: 63 kB for a tiny voice, about as much for a large one.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Bytes of `data.pkl`. Measured: 58 kB to 197 kB. The pickle is read in place, so this bounds time, not memory.
pub const MAX_PICKLE_BYTES: u64 = 64 << 20;

/// Values a pickle may create, counted as the machine makes them. The same checkpoints make 7,101 to
/// 28,185. Files made to reach this and [`MAX_VALUES`] were measured at 85 MB to 107 MB of memory, text apart.
pub const MAX_NODES: usize = 1 << 20;

/// Values in the finished tree, larger ones counted by their size. A shared value counts each time it is reached,
/// so that a few bytes which double a list thirty times ("memo bomb") end here rather than in memory.
pub const MAX_VALUES: usize = 1 << 20;

/// Bytes of text and byte strings in the finished tree, shared ones again counted each time.
pub const MAX_TEXT_BYTES: usize = 64 << 20;

/// Slots of the memo. CPython puts nearly every value into it: as many as there may be values.
pub const MAX_MEMO: usize = MAX_NODES;

/// Values waiting on the machine's stack. A state dict's `SETITEMS` batches 2,000 of them.
pub const MAX_STACK: usize = 1 << 20;

/// Containers within containers. Real checkpoints stay below ten. Everything that recurses (building, dropping,
/// printing a [`Value`](crate::Value)) recurses at most this deep.
pub const MAX_DEPTH: usize = 96;

/// Bytes of one `module.name`.
pub const MAX_GLOBAL_BYTES: usize = 512;

/// Axes of a tensor. PyTorch's own kernels stop at 64 as well.
pub const MAX_RANK: usize = 64;

/// Levels of dicts within dicts in which tensors are looked for when no state dict is where one usually is. StyleTTS2's
/// `net.decoder.KEY` has two.
pub const MAX_STATE_DICT_DEPTH: usize = 4;

/// Bytes of a key that is put together from the names of dicts within dicts.
pub const MAX_KEY_BYTES: usize = 1 << 10;

/// Bytes that gathering one strided view may allocate. Stride 0 lets a view of four bytes claim any size, so the
/// file's length bounds nothing here. It bounds each tensor; what all of them may take together is for the caller to
/// decide, who knows which of them are used: [`TensorRef::nbytes`](crate::TensorRef::nbytes) says what each would take
/// before anything is laid out.
pub const MAX_GATHER_BYTES: usize = 1 << 30;
