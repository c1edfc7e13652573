//! The micro-kernel: a tile of rows times a panel of one or two registers of output channels.
//!
//! Straight-line code with a variable per accumulator: with a loop over an array of accumulators, the
//! compiler keeps them in memory and only a third of the speed remains. The example `measure` shows it:
//! GFLOP/s of every shape next to the peak of register multiply-adds.

/// Reads a register.
///
/// # Safety
/// `p` must be valid for reading `L` floats.
#[inline(always)]
pub(super) unsafe fn load<const L: usize>(p: *const f32) -> [f32; L] {
    // SAFETY: the caller's; arrays of floats have no invalid values.
    unsafe { p.cast::<[f32; L]>().read_unaligned() }
}

/// Prefetches the cache line at `p`, which may be any address.
#[inline(always)]
pub(super) fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program sees, and faults nowhere.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// `acc += x * w`, fused or not.
#[inline(always)]
pub(super) fn mul_add<const L: usize, const FMA: bool>(x: f32, w: &[f32; L], acc: &mut [f32; L]) {
    for l in 0..L {
        acc[l] = if FMA { x.mul_add(w[l], acc[l]) } else { x * w[l] + acc[l] };
    }
}

/// The memory that a tile reads.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// The input of tap 0 for the tile's first row.
    pub(super) x: *const f32,
    pub(super) x_stride: usize,
    pub(super) taps: usize,
    pub(super) tap_step: usize,
    pub(super) c_in: usize,
    /// The panel, `[taps][c_in][registers * L]`.
    pub(super) weights: *const f32,
    /// Distance in floats from a weight to the data prefetched meanwhile; 0 for none.
    pub(super) ahead: isize,
}

/// The sums of a tile: two registers for each row, of which the second is unspecified in a narrow panel.
pub(super) type Sums<const L: usize> = [[[f32; L]; 2]; ROWS];

/// The tiles of an instruction set, see [`tiles`].
pub(super) type Run<const L: usize> = unsafe fn(usize, bool, Source, &mut Sums<L>);

/// Largest number of rows of a tile on any instruction set.
pub(super) const ROWS: usize = 14;

/// Defines the tiles of an instruction set, and `run`, which chooses among them.
///
/// Each tile is a separate function: if they were inlined into one, their accumulators would meet where the
/// branches join, and the compiler would no longer keep them in registers.
macro_rules! tiles {
    ($feature:tt $lanes:literal $fma:literal $max:literal) => {
        tile::tiles!(@each $feature $lanes $fma $max []
            (two1 one1 1 0 a0 b0)
            (two2 one2 2 1 a1 b1)
            (two3 one3 3 2 a2 b2)
            (two4 one4 4 3 a3 b3)
            (two5 one5 5 4 a4 b4)
            (two6 one6 6 5 a5 b5)
            (two7 one7 7 6 a6 b6)
            (two8 one8 8 7 a7 b7)
            (two9 one9 9 8 a8 b8)
            (two10 one10 10 9 a9 b9)
            (two11 one11 11 10 a10 b10)
            (two12 one12 12 11 a11 b11)
            (two13 one13 13 12 a12 b12)
            (two14 one14 14 13 a13 b13)
        );

        /// Computes the first `rows` rows of a tile into `out`; `rows` is 1 to the most that this instruction
        /// set has.
        ///
        /// # Safety
        /// For each row `r` of the tile, each `tap` and `c` of `s`, `x + r * x_stride + tap * tap_step + c`
        /// must be readable, and `taps * c_in` times one or, for a wide panel, two registers at `weights`.
        unsafe fn run(rows: usize, wide: bool, s: tile::Source, out: &mut tile::Sums<$lanes>) {
            tile::tiles!(@dispatch $max rows wide s out
                1 two1 one1, 2 two2 one2, 3 two3 one3, 4 two4 one4, 5 two5 one5, 6 two6 one6, 7 two7 one7,
                8 two8 one8, 9 two9 one9, 10 two10 one10, 11 two11 one11, 12 two12 one12, 13 two13 one13,
                14 two14 one14);
        }
    };
    (@dispatch $max:literal $rows:ident $wide:ident $s:ident $out:ident $($n:literal $two:ident $one:ident),+) => {
        match ($rows, $wide) {
            $(
                // SAFETY: the caller's; this module's functions are only reached where its instruction set
                // is.
                ($n, true) if $n <= $max => unsafe { $two($s, $out) },
                // SAFETY: as above.
                ($n, false) if $n <= $max => unsafe { $one($s, $out) },
            )+
            _ => unreachable!("a tile has 1 to MAX rows"),
        }
    };
    (@each $feature:tt $lanes:literal $fma:literal $max:literal [$($done:tt)*]
        ($two:ident $one:ident $rows:literal $r:literal $a:ident $b:ident) $($rest:tt)*
    ) => {
        tile::tiles!(@one $feature $lanes $fma $two $one; $($done)* ($r $a $b));
        tile::tiles!(@each $feature $lanes $fma $max [$($done)* ($r $a $b)] $($rest)*);
    };
    (@each $feature:tt $lanes:literal $fma:literal $max:literal [$($done:tt)*]) => {};
    (@one [$($feature:literal)?] $lanes:literal $fma:literal $two:ident $one:ident; $(($r:literal $a:ident $b:ident))+) => {
        /// A tile two registers wide.
        ///
        /// # Safety
        /// As for `run`.
        $(#[target_feature(enable = $feature)])?
        #[inline(never)]
        unsafe fn $two(s: tile::Source, out: &mut tile::Sums<$lanes>) {
            $(let mut $a = [0f32; $lanes]; let mut $b = [0f32; $lanes];)+
            let mut w = s.weights;
            for tap in 0..s.taps {
                // SAFETY: the caller's, for the pointer arithmetic and the loads of this tap.
                unsafe {
                    let x = s.x.add(tap * s.tap_step);
                    for c in 0..s.c_in {
                        let (w0, w1) = (tile::load::<$lanes>(w), tile::load::<$lanes>(w.add($lanes)));
                        tile::prefetch(w.wrapping_offset(s.ahead));
                        // Two of the narrower registers share a cache line.
                        if $lanes > 8 {
                            tile::prefetch(w.wrapping_offset(s.ahead).wrapping_add($lanes));
                        }
                        w = w.add(2 * $lanes);
                        $(
                            let v = *x.add($r * s.x_stride + c);
                            tile::mul_add::<$lanes, $fma>(v, &w0, &mut $a);
                            tile::mul_add::<$lanes, $fma>(v, &w1, &mut $b);
                        )+
                    }
                }
            }
            $(out[$r] = [$a, $b];)+
        }

        /// A tile one register wide.
        ///
        /// # Safety
        /// As for `run`.
        $(#[target_feature(enable = $feature)])?
        #[inline(never)]
        unsafe fn $one(s: tile::Source, out: &mut tile::Sums<$lanes>) {
            $(let mut $a = [0f32; $lanes];)+
            let mut w = s.weights;
            for tap in 0..s.taps {
                // SAFETY: the caller's, for the pointer arithmetic and the loads of this tap.
                unsafe {
                    let x = s.x.add(tap * s.tap_step);
                    for c in 0..s.c_in {
                        let w0 = tile::load::<$lanes>(w);
                        w = w.add($lanes);
                        $( tile::mul_add::<$lanes, $fma>(*x.add($r * s.x_stride + c), &w0, &mut $a); )+
                    }
                }
            }
            $(out[$r][0] = $a;)+
        }
    };
}
pub(super) use tiles;
