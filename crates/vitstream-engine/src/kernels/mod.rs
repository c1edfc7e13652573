//! The inner loops, and the only `unsafe` of the crate.
//!
//! Everything numerical is written once, in [`generic`] and [`tile`], over `[f32; L]` arrays. The macro below
//! instantiates it for each instruction set inside functions that carry `#[target_feature]`, so that the
//! compiler turns an array into a register; [`Kernels`] chooses among them at run time.
//!
//! # Contracts
//! - A [`Kernels`] exists only for an instruction set that [`Kernels::new`] found on this machine, which
//!   makes calls of `#[target_feature]` functions sound.
//! - The request of [`memory`] to the allocator touches no memory in use.
//! - A block of [`memory`] is a range of a mapping to which nothing else refers.
//! - The convolution reads through raw pointers in [`tile`]; [`ConvTask::check`] proves the ranges before the
//!   first read and panics otherwise. [`Epilogue::check`] does the same for the memory that the epilogues in
//!   [`generic`] read and write. Winograd's transforms cut the slices that they access by pointer to the
//!   required length. All other code indexes slices.
//!
//! # Same sum, same order
//! An output value is one chain of fused multiply-adds: taps in order of time, input channels in order. Which
//! tile a row falls into changes neither the operations nor their order, so any partition of rows gives the
//! same bits.
#![allow(unsafe_code)]

mod generic;
mod memory;
mod task;
mod tile;
mod weights;
mod winograd;

pub use memory::give_back_freed_memory;
pub(crate) use memory::{Arena, Block};
pub(crate) use task::{
    ConvTask, DepthwiseTask, DotTask, Epilogue, NormTask, SoftmaxTask, TransformTask, WinogradTask,
};
pub(crate) use weights::{Weights, narrow};

use std::cell::Cell;

use crate::error::Error;
use crate::workers::{in_pool, join};
use task::{Columns, Split};

/// Instruction set of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Isa {
    /// The widest available on this machine.
    #[default]
    Auto,
    /// x86-64 with AVX-512 F, VL, BW, DQ.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// AArch64.
    Neon,
    /// WebAssembly built with `-C target-feature=+simd128`. Without fused multiply-add.
    Simd128,
    /// The instructions of the target's baseline, without fused multiply-add.
    Scalar,
}

impl Isa {
    /// The widest available on this machine, which `Auto` selects.
    pub fn widest() -> Self {
        let widest_first = [Self::Avx512, Self::Avx2, Self::Neon, Self::Simd128];
        widest_first.into_iter().find(|isa| isa.available()).unwrap_or(Self::Scalar)
    }

    /// A short lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Simd128 => "simd128",
            Self::Scalar => "scalar",
        }
    }

    fn available(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && Self::Avx2.available()
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => true,
            Self::Scalar => true,
            _ => false,
        }
    }
}

/// A token for an instruction set that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernels {
    /// Never `Auto`, always available.
    isa: Isa,
    /// Number of threads among which a task may be divided.
    threads: usize,
}

thread_local! {
    /// The other thread's results for some channels, for the duration of a task.
    static COLUMNS: Cell<Columns> = const { Cell::new(Columns::new()) };
}

/// Number of multiply-adds below which a second thread is not worthwhile.
const MIN_COST: usize = 1 << 19;

impl Kernels {
    pub(crate) fn new(isa: Isa, threads: usize) -> Result<Self, Error> {
        match isa {
            Isa::Auto => Ok(Self { isa: Isa::widest(), threads }),
            isa if isa.available() => Ok(Self { isa, threads }),
            isa => Err(Error::Isa(isa.name())),
        }
    }

    pub(crate) fn isa(self) -> Isa {
        self.isa
    }

    /// Computes the rows of a convolution.
    pub(crate) fn conv(self, task: ConvTask<'_>) {
        self.share(task, self.threads);
    }

    /// Computes the rows of a convolution by Winograd's method.
    pub(crate) fn winograd(self, task: WinogradTask<'_>) {
        self.share(task, self.threads);
    }

    /// Divides a task among `threads` threads of the pool that this thread belongs to, if any.
    fn share<T: Split>(self, mut task: T, threads: usize) {
        if threads < 2 || task.rows() * task.row_cost() < MIN_COST || !in_pool() {
            return task.run(self);
        }
        let half = threads / 2;
        let channels = (task.channels() / 2).next_multiple_of(2 * self.lanes());
        if task.rows() <= task.rows_for_channels() && channels < task.channels() {
            let mut room = COLUMNS.take();
            let (before, after) = task.split_channels(channels, &mut room);
            join(|| self.share(before, half), || self.share(after, threads - half));
            task.take_channels(channels, &room);
            COLUMNS.set(room);
            return;
        }
        let rows = (task.rows() * half / threads).next_multiple_of(task.grain());
        if rows > 0 && rows < task.rows() {
            let (before, after) = task.split(rows);
            join(|| self.share(before, half), || self.share(after, threads - half));
        } else {
            task.run(self);
        }
    }

    /// Applies `work` to each of `items`, each with its own buffers, distributed over the threads.
    pub(crate) fn for_each<T: Sync, R: Send>(
        self,
        items: &[T],
        rooms: &mut [R],
        work: &(impl Fn(Self, &T, &mut R) + Sync),
    ) {
        if self.threads < 2 || items.len() < 2 || !in_pool() {
            return items.iter().zip(rooms).for_each(|(item, room)| work(self, item, room));
        }
        let half = items.len() / 2;
        let (items, items_after) = items.split_at(half);
        let (rooms, rooms_after) = rooms.split_at_mut(half);
        let threads = self.threads / 2;
        let (before, after) = (Self { threads, ..self }, Self { threads: self.threads - threads, ..self });
        join(|| before.for_each(items, rooms, work), || after.for_each(items_after, rooms_after, work));
    }

    /// Floats in a register.
    pub(crate) fn lanes(self) -> usize {
        match self.isa {
            Isa::Avx512 => 16,
            Isa::Avx2 => 8,
            _ => 4,
        }
    }
}

/// One module per instruction set, each with the same functions, and the dispatching methods of [`Kernels`].
macro_rules! instantiate {
    (sets $sets:tt functions $functions:tt) => {
        instantiate!(@modules $sets $functions);
        impl Kernels {
            instantiate!(@dispatch $sets $functions);
        }
    };
    (@modules {
        $( $(#[$attr:meta])* $module:ident = $isa:ident [$($feature:literal)?] $lanes:literal $fma:literal $rows:literal; )+
    } $functions:tt) => {
        $(
            $(#[$attr])*
            mod $module {
                use super::*;
                tile::tiles!([$($feature)?] $lanes $fma $rows);
                instantiate!(@functions [$($feature)?] $lanes $fma $rows $functions);
            }
        )+
    };
    (@functions $feature:tt $lanes:literal $fma:literal $rows:literal {
        $( $(#[$doc:meta])* fn $name:ident $args:tt; )+
    }) => {
        $(instantiate!(@function $feature $lanes $fma $rows $name $args);)+
    };
    (@function [$($feature:literal)?] $lanes:literal $fma:literal $rows:literal $name:ident (task: $ty:ty)) => {
        $(#[target_feature(enable = $feature)])?
        pub(super) fn $name(task: $ty) {
            generic::$name::<$lanes, $fma, $rows>(task, run);
        }
    };
    (@dispatch $sets:tt { $( $(#[$doc:meta])* fn $name:ident $args:tt; )+ }) => {
        $(instantiate!(@method $sets [$(#[$doc])*] $name $args);)+
    };
    (@method {
        $( $(#[$attr:meta])* $module:ident = $isa:ident [$($feature:literal)?] $lanes:literal $fma:literal $rows:literal; )+
    } [$($doc:tt)*] $name:ident (task: $ty:ty)) => {
        $($doc)*
        #[allow(unused_unsafe, reason = "a feature of the baseline needs no unsafe call")]
        pub(crate) fn $name(self, task: $ty) {
            match self.isa {
                $(
                    $(#[$attr])*
                    // SAFETY: a `Kernels` with this instruction set exists, so the machine has it (see the
                    // contracts).
                    Isa::$isa => unsafe { $module::$name(task) },
                )+
                _ => unreachable!("a Kernels is made for an available instruction set"),
            }
        }
    };
}

instantiate! {
    sets {
        #[cfg(target_arch = "x86_64")]
        avx512 = Avx512 ["avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"] 16 true 14;
        #[cfg(target_arch = "x86_64")]
        avx2 = Avx2 ["avx2,fma"] 8 true 6;
        #[cfg(target_arch = "aarch64")]
        neon = Neon ["neon"] 4 true 12;
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        simd128 = Simd128 ["simd128"] 4 false 6;
        scalar = Scalar [] 4 false 6;
    }
    functions {
        /// Computes the rows of a convolution on this thread.
        fn conv_rows(task: &mut ConvTask<'_>);
        /// Computes the rows of a convolution by Winograd's method on this thread.
        fn winograd_rows(task: &mut WinogradTask<'_>);
        /// Transforms the weights of a convolution for Winograd's method.
        fn transform_weights(task: &mut TransformTask<'_>);
        /// Computes samples: a convolution to one channel, then tanh.
        fn dot_tanh(task: &mut DotTask<'_>);
        /// Layer norm, optionally followed by GELU.
        fn layer_norm(task: &mut NormTask<'_>);
        /// Softmax.
        fn softmax(task: &mut SoftmaxTask<'_>);
        /// Computes the rows of a depth-wise convolution.
        fn depthwise(task: &mut DepthwiseTask<'_>);
    }
}

#[cfg(test)]
mod tests;
