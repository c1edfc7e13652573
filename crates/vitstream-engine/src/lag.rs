//! Computes how far the rows of a stream lag behind the pushed frames, before anything runs.

/// The end of a stream when `frames` frames are known, with `rate` rows per frame: it is at `frames * rate`
/// minus `least` to `most` rows, and at a time that exceeds a multiple of `step` by `phase`.
///
/// This describes a stream that continues: near the beginning there may be no row yet, and at the end of an
/// utterance every row is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge {
    rate: i64,
    least: i64,
    most: i64,
    step: i64,
    phase: i64,
}

/// Blocks of rows that are computed as a whole: the first ends at `first`, each later one has `block` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) block: i64,
    /// 0 if the first block is as long as the others.
    pub(crate) first: i64,
}

impl Edge {
    /// The stream of the frames themselves.
    pub(crate) fn frames() -> Self {
        Self { rate: 1, least: 0, most: 0, step: 1, phase: 0 }
    }

    /// Smallest lag in rows.
    pub(crate) fn least(self) -> i64 {
        self.least
    }

    /// Largest lag in rows.
    pub(crate) fn most(self) -> i64 {
        self.most
    }

    /// Rows per frame.
    pub(crate) fn rate(self) -> i64 {
        self.rate
    }

    /// The end of a stream that needs `rows` more rows of this one.
    pub(crate) fn behind(self, rows: i64) -> Self {
        Self {
            least: self.least + rows,
            most: self.most + rows,
            phase: (self.phase - rows).rem_euclid(self.step),
            ..self
        }
    }

    /// The end of a stream that needs as many rows of another stream with the same rate.
    pub(crate) fn meet(self, other: Self) -> Self {
        // A stream that is always ahead of the other has no influence.
        if self.least >= other.most {
            return self;
        }
        if other.least >= self.most {
            return other;
        }
        let step = gcd(gcd(self.step, other.step), self.phase - other.phase);
        Self {
            rate: self.rate,
            least: self.least.max(other.least),
            most: self.most.max(other.most),
            step,
            phase: self.phase.rem_euclid(step),
        }
    }

    /// The end in rows of a stream with `stride` rows for each row of this one.
    pub(crate) fn times(self, stride: i64) -> Self {
        Self {
            rate: self.rate * stride,
            least: self.least * stride,
            most: self.most * stride,
            step: self.step * stride,
            phase: self.phase * stride,
        }
    }

    /// The blocks of `block` rows that wait least: those that end where this stream ends anyway, as far as it
    /// keeps step with them.
    pub(crate) fn grid(self, block: i64) -> Grid {
        Grid { block, first: self.phase.rem_euclid(gcd(self.step, block)) }
    }

    /// Largest number of rows that the blocks of a [grid](Self::grid) with `block` rows wait for.
    pub(crate) fn wait(self, block: i64) -> i64 {
        block - gcd(self.step, block)
    }

    /// The end of a stream computed in whole blocks of its [grid](Self::grid).
    pub(crate) fn on(self, grid: Grid) -> Self {
        if self.step % grid.block == 0 {
            return self;
        }
        Self { most: self.most + self.wait(grid.block), step: grid.block, phase: grid.first, ..self }
    }
}

impl Grid {
    /// The last end of a block at or before `end`; less than 1 if there is none.
    pub(crate) fn floor(self, end: i64) -> i64 {
        end - (end - self.first).rem_euclid(self.block)
    }

    /// The first stop on the way from `from` to `to` such that the rows computed at once consist of equal
    /// blocks.
    pub(crate) fn stop(self, from: i64, to: i64) -> i64 {
        if from < self.first { to.min(self.first) } else { to }
    }
}

/// Greatest common divisor; for a number and 0, the number.
fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An operation on a stream.
    #[derive(Debug, Clone)]
    enum Step {
        Behind(i64),
        Blocks(i64),
        Times(i64),
        /// Combines the stream with its earlier form, that many steps ago, if the rate is still the same.
        Meet(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0i64..40).prop_map(Step::Behind),
            (1i64..50).prop_map(Step::Blocks),
            (1i64..9).prop_map(Step::Times),
            (1usize..4).prop_map(Step::Meet),
        ]
    }

    proptest! {
        /// The statements about an end hold for every number of frames, and are tight.
        #[test]
        fn ends_are_where_they_are_said_to_be(steps in prop::collection::vec(step(), 1..9)) {
            let frames = 0..700i64;
            let mut streams = vec![(Edge::frames(), frames.clone().collect::<Vec<i64>>())];
            for step in steps {
                let (edge, ends) = streams.last().expect("the frames at least").clone();
                let next = match step {
                    Step::Behind(rows) => (edge.behind(rows), ends.iter().map(|end| end - rows).collect()),
                    Step::Blocks(block) => {
                        let grid = edge.grid(block);
                        prop_assert!((0..block).contains(&grid.first));
                        (edge.on(grid), ends.iter().map(|&end| grid.floor(end)).collect())
                    }
                    Step::Times(stride) if edge.rate() < 100 => {
                        (edge.times(stride), ends.iter().map(|end| end * stride).collect())
                    }
                    Step::Times(_) => continue,
                    Step::Meet(back) => {
                        let (other, theirs) = streams[streams.len().saturating_sub(back)].clone();
                        if other.rate() != edge.rate() {
                            continue;
                        }
                        (edge.meet(other), ends.iter().zip(&theirs).map(|(a, b)| *a.min(b)).collect::<Vec<i64>>())
                    }
                };
                streams.push(next);
            }
            for (edge, ends) in &streams {
                for (frames, end) in frames.clone().zip(ends) {
                    let behind = frames * edge.rate() - end;
                    prop_assert!((edge.least()..=edge.most()).contains(&behind), "{edge:?}: {behind} behind {frames} frames");
                    prop_assert_eq!((end - edge.phase).rem_euclid(edge.step), 0);
                }
            }
        }

        #[test]
        fn blocks_begin_where_the_one_before_ends(block in 1i64..50, first in 0i64..50, ends in prop::collection::vec(0i64..200, 1..20)) {
            let grid = Grid { block, first: first % block };
            let (mut done, mut known) = (0, 0);
            for more in ends {
                known += more;
                while grid.floor(known) > done {
                    let to = grid.stop(done, grid.floor(known));
                    prop_assert!(to > done && (done == 0 || (done - grid.first) % block == 0));
                    prop_assert!(to == grid.first || (to - done) % block == 0);
                    done = to;
                }
                prop_assert!(known - done < block);
            }
        }
    }

    /// The reason for choosing the ends of blocks: a chain of convolutions that look ahead by at most as many
    /// rows as a block has waits only once.
    #[test]
    fn a_chain_waits_once() {
        let mut edge = Edge::frames();
        for _ in 0..16 {
            let needs = edge.behind(2);
            edge = needs.on(needs.grid(4));
        }
        assert_eq!((edge.least(), edge.most()), (32, 35));
    }
}
