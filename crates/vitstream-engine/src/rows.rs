//! Channels-last rows in absolute time.

use bytemuck::Zeroable;

use crate::kernels::{Arena, Block};
use crate::line::{LINE, Line, floats, floats_mut, zeros};

/// A stream of rows, each a vector of channels padded with zeros to whole lines, addressed by its absolute
/// time.
///
/// Time 0 is the stream's first row; the rows before it are the zeros of the left padding. Old rows are
/// dropped when space is needed, as far as [`Rows::keep_from`] allows, so the buffer's size depends on the
/// longest push and never on the length of the stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    data: Block,
    /// Lines a row.
    lines: usize,
    /// Time of the first stored row.
    base: i64,
    /// Rows stored.
    len: usize,
    /// Time of the first row that is still needed.
    keep: i64,
}

impl Rows {
    /// An empty stream after `before` rows of zeros.
    pub(crate) fn new(channels: usize, before: usize) -> Self {
        let lines = channels.div_ceil(LINE);
        let before = before as i64;
        Self {
            data: zeros(lines * LINE * before as usize).into(),
            lines,
            base: -before,
            len: before as usize,
            keep: -before,
        }
    }

    /// A stream of `rows` rows of zeros from time 0 on, after `before` further ones.
    pub(crate) fn zeros(channels: usize, before: usize, rows: usize) -> Self {
        Self { base: -(before as i64), keep: -(before as i64), ..Self::new(channels, before + rows) }
    }

    /// The same with space for `rows` rows.
    pub(crate) fn within(arena: &Arena, channels: usize, before: usize, rows: usize) -> Self {
        let lines = channels.div_ceil(LINE);
        Self { data: arena.zeros(lines * rows.max(before)), ..Self::new(channels, before) }
    }

    /// Empties it, leaving `before` rows of zeros as at the start.
    pub(crate) fn restart(&mut self, before: usize) {
        (self.base, self.len, self.keep) = (-(before as i64), before, -(before as i64));
        self.data[..before * self.lines].fill(Line::zeroed());
    }

    /// Number of floats from a row to the next.
    pub(crate) fn stride(&self) -> usize {
        self.lines * LINE
    }

    /// Time after the last row.
    pub(crate) fn end(&self) -> i64 {
        self.base + self.len as i64
    }

    /// Declares the rows before `time` as no longer needed.
    pub(crate) fn keep_from(&mut self, time: i64) {
        self.keep = self.keep.max(time.min(self.end()));
    }

    /// Rows from `time` on, which must still be kept.
    pub(crate) fn since(&self, time: i64) -> &[f32] {
        &floats(&self.data[..self.len * self.lines])[self.offset(time)..]
    }

    pub(crate) fn since_mut(&mut self, time: i64) -> &mut [f32] {
        let offset = self.offset(time);
        &mut floats_mut(&mut self.data[..self.len * self.lines])[offset..]
    }

    fn offset(&self, time: i64) -> usize {
        debug_assert!(time >= self.base, "row {time} was dropped, the first is {}", self.base);
        (time - self.base) as usize * self.stride()
    }

    /// Extends the rows up to `end`. Their contents are unspecified.
    pub(crate) fn extend_to(&mut self, end: i64) {
        let Ok(more) = usize::try_from(end - self.end()) else { return };
        if (self.len + more) * self.lines > self.data.len() {
            let drop = (self.keep - self.base) as usize;
            self.data.copy_within(drop * self.lines..self.len * self.lines, 0);
            self.len -= drop;
            self.base = self.keep;
            let needed = (self.len + more) * self.lines;
            if needed > self.data.len() {
                let mut wider = zeros(needed * LINE);
                wider[..self.len * self.lines].copy_from_slice(&self.data[..self.len * self.lines]);
                self.data = wider.into();
            }
        }
        self.len += more;
    }

    /// Appends `n` rows of zeros.
    pub(crate) fn pad(&mut self, n: usize) {
        let from = self.end();
        self.extend_to(from + n as i64);
        self.since_mut(from).fill(0.0);
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_what_is_wanted_and_nothing_else() {
        let mut rows = Rows::new(5, 3);
        assert_eq!((rows.stride(), rows.end()), (16, 0));
        for t in 0..100i64 {
            rows.extend_to(t + 1);
            rows.since_mut(t).fill(t as f32);
            assert_eq!(rows.since(t - 3)[0], (t - 3).max(0) as f32);
            rows.keep_from(t - 2);
        }
        assert!(rows.bytes() <= 5 * 64, "{} bytes for 4 rows", rows.bytes());
        rows.pad(2);
        assert_eq!(rows.since(99)[..16], [99.0; 16]);
        assert_eq!(rows.since(100), [0.0; 32]);
    }
}
