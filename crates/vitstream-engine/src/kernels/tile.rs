//! The micro-kernel: a tile of rows times a panel of one or two registers of output channels.
//!
//! Straight-line code, a variable per accumulator: with a loop over an array of accumulators the compiler keeps them in
//! memory and a third of the speed is left. A benchmark watches this (`cargo bench`).

/// Reads a register.
///
/// # Safety
/// `p` must be valid for reading `L` floats.
#[inline(always)]
unsafe fn load<const L: usize>(p: *const f32) -> [f32; L] {
    // SAFETY: the caller's; arrays of floats have no invalid values.
    unsafe { p.cast::<[f32; L]>().read_unaligned() }
}

/// `acc += x * w`, fused or not.
#[inline(always)]
pub(super) fn mul_add<const L: usize, const FMA: bool>(x: f32, w: &[f32; L], acc: &mut [f32; L]) {
    for l in 0..L {
        acc[l] = if FMA { x.mul_add(w[l], acc[l]) } else { x * w[l] + acc[l] };
    }
}

/// Where a tile reads.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// What tap 0 of the tile's first row reads.
    pub(super) x: *const f32,
    pub(super) x_stride: usize,
    pub(super) taps: usize,
    pub(super) tap_step: usize,
    pub(super) c_in: usize,
    /// The panel, `[taps][c_in][registers * L]`.
    pub(super) weights: *const f32,
}

macro_rules! tile {
    ($two:ident $one:ident $rows:literal; $(($r:literal $a:ident $b:ident))+) => {
        /// Two registers wide.
        ///
        /// # Safety
        /// For each of the tile's rows `r`, each `tap` and `c` of `s`,
        /// `x + r * x_stride + tap * tap_step + c` must be readable, and `taps * c_in * 2 * L` floats at `weights`.
        #[inline(always)]
        unsafe fn $two<const L: usize, const FMA: bool>(s: Source, out: &mut [[[f32; L]; 2]; ROWS]) {
            $(let mut $a = [0f32; L]; let mut $b = [0f32; L];)+
            let mut w = s.weights;
            for tap in 0..s.taps {
                // SAFETY: the caller's, for the pointer arithmetic and the loads of this tap.
                unsafe {
                    let x = s.x.add(tap * s.tap_step);
                    for c in 0..s.c_in {
                        let (w0, w1) = (load::<L>(w), load::<L>(w.add(L)));
                        w = w.add(2 * L);
                        $(
                            let v = *x.add($r * s.x_stride + c);
                            mul_add::<L, FMA>(v, &w0, &mut $a);
                            mul_add::<L, FMA>(v, &w1, &mut $b);
                        )+
                    }
                }
            }
            $(out[$r] = [$a, $b];)+
        }

        /// One register wide.
        ///
        /// # Safety
        /// As for two registers, but `taps * c_in * L` floats at `weights`.
        #[inline(always)]
        unsafe fn $one<const L: usize, const FMA: bool>(s: Source, out: &mut [[[f32; L]; 2]; ROWS]) {
            $(let mut $a = [0f32; L];)+
            let mut w = s.weights;
            for tap in 0..s.taps {
                // SAFETY: the caller's, for the pointer arithmetic and the loads of this tap.
                unsafe {
                    let x = s.x.add(tap * s.tap_step);
                    for c in 0..s.c_in {
                        let w0 = load::<L>(w);
                        w = w.add(L);
                        $( mul_add::<L, FMA>(*x.add($r * s.x_stride + c), &w0, &mut $a); )+
                    }
                }
            }
            $(out[$r][0] = $a;)+
        }
    };
}

/// The most rows a tile has on any instruction set.
pub(super) const ROWS: usize = 14;

macro_rules! tiles {
    ($(($two:ident $one:ident $rows:literal $r:literal $a:ident $b:ident))+) => {
        tiles!(@step [] $(($two $one $rows $r $a $b))+);

        /// Computes the first `rows` rows of a tile into `out`; `rows` is 1 to `MAX`.
        ///
        /// # Safety
        /// As for a tile of `rows` rows, one or two registers wide as `wide` says.
        #[inline(always)]
        pub(super) unsafe fn run<const L: usize, const FMA: bool, const MAX: usize>(
            rows: usize,
            wide: bool,
            s: Source,
            out: &mut [[[f32; L]; 2]; ROWS],
        ) {
            match (rows, wide) {
                $(
                    // SAFETY: the caller's.
                    ($rows, true) if $rows <= MAX => unsafe { $two::<L, FMA>(s, out) },
                    // SAFETY: the caller's.
                    ($rows, false) if $rows <= MAX => unsafe { $one::<L, FMA>(s, out) },
                )+
                _ => unreachable!("a tile has 1 to MAX rows"),
            }
        }
    };
    (@step [$($done:tt)*] ($two:ident $one:ident $rows:literal $r:literal $a:ident $b:ident) $($rest:tt)*) => {
        tile!($two $one $rows; $($done)* ($r $a $b));
        tiles!(@step [$($done)* ($r $a $b)] $($rest)*);
    };
    (@step [$($done:tt)*]) => {};
}

tiles! {
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
}
