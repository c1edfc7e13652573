//! Zeroed memory out of large mappings, which the system backs with huge pages where it is asked to.
//!
//! A push reads all weights once: with pages of 4 KiB much of that time goes into finding them, and most of
//! the time of loading into having them given. Elsewhere than on Linux a block is a plain allocation.

use std::ops::{Deref, DerefMut};

use crate::rows::Line;

#[cfg(all(target_os = "linux", not(miri)))]
use mapped::{Part, Rest};

/// Hands out blocks that lie behind each other in memory.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    #[cfg_attr(not(all(target_os = "linux", not(miri))), expect(dead_code))]
    huge: bool,
    #[cfg(all(target_os = "linux", not(miri)))]
    rest: std::cell::RefCell<Option<Rest>>,
}

/// Lines of its owner's alone.
#[derive(Debug, Clone)]
pub(crate) struct Block(Memory);

#[derive(Debug)]
enum Memory {
    Own(Vec<Line>),
    #[cfg(all(target_os = "linux", not(miri)))]
    Part(Part),
}

impl Arena {
    /// An arena of huge pages: worth their rounding for what every push reads. The default one only
    /// allocates.
    pub(crate) fn huge() -> Self {
        Self { huge: true, ..Self::default() }
    }

    /// `lines` lines of zeros.
    pub(crate) fn zeros(&self, lines: usize) -> Block {
        #[cfg(all(target_os = "linux", not(miri)))]
        if self.huge
            && let Some(part) = Rest::take(&mut self.rest.borrow_mut(), lines)
        {
            return Block(Memory::Part(part));
        }
        Block::from(vec![bytemuck::Zeroable::zeroed(); lines])
    }
}

impl From<Vec<Line>> for Block {
    fn from(lines: Vec<Line>) -> Self {
        Self(Memory::Own(lines))
    }
}

impl Default for Block {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        match self {
            Self::Own(lines) => Self::Own(lines.clone()),
            #[cfg(all(target_os = "linux", not(miri)))]
            Self::Part(part) => Self::Own(part.to_vec()),
        }
    }
}

impl Deref for Block {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match &self.0 {
            Memory::Own(lines) => lines,
            #[cfg(all(target_os = "linux", not(miri)))]
            Memory::Part(part) => part,
        }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [Line] {
        match &mut self.0 {
            Memory::Own(lines) => lines,
            #[cfg(all(target_os = "linux", not(miri)))]
            Memory::Part(part) => part,
        }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod mapped {
    use std::ops::{Deref, DerefMut};
    use std::ptr::NonNull;
    use std::sync::Arc;

    use memmap2::{Advice, MmapMut, MmapRaw, UncheckedAdvice};

    use crate::rows::Line;

    /// Bytes of a mapping, unless a block needs more. What no block uses is never touched.
    const MAPPING: usize = 64 << 20;

    /// What is left of a mapping.
    #[derive(Debug)]
    pub(super) struct Rest {
        map: Arc<MmapRaw>,
        /// Bytes given away.
        used: usize,
    }

    impl Rest {
        /// The next `lines` lines, of a new mapping where this one has too few; `None` where there is no
        /// mapping.
        pub(super) fn take(rest: &mut Option<Self>, lines: usize) -> Option<Part> {
            let bytes = lines.checked_mul(size_of::<Line>())?;
            if rest.as_ref().is_none_or(|rest| rest.map.len() - rest.used < bytes) {
                let map = MmapRaw::from(MmapMut::map_anon(bytes.max(MAPPING)).ok()?);
                // Without huge pages it works as well.
                let _ = map.advise(Advice::HugePage);
                *rest = Some(Self { map: Arc::new(map), used: 0 });
            }
            let rest = rest.as_mut()?;
            // SAFETY: at least `bytes` bytes follow `used` in the mapping.
            let start = NonNull::new(unsafe { rest.map.as_mut_ptr().add(rest.used) })?.cast();
            rest.used += bytes;
            Some(Part { start, lines, _map: Arc::clone(&rest.map) })
        }
    }

    impl Drop for Rest {
        /// Gives back what was never given away of the last huge page.
        fn drop(&mut self) {
            let from = self.used.next_multiple_of(4096).min(self.map.len());
            // SAFETY: no part has these bytes, and none will.
            let _ = unsafe {
                self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, from, self.map.len() - from)
            };
        }
    }

    /// A range of a mapping that no other part has: `Rest::take` only moves forward, in whole lines from the
    /// mapping's start, which is aligned to a page. The mapping is private, anonymous memory and so zeros,
    /// and lives as long as a part of it.
    #[derive(Debug)]
    pub(super) struct Part {
        start: NonNull<Line>,
        lines: usize,
        _map: Arc<MmapRaw>,
    }

    // SAFETY: a part owns its range as a `Box<[Line]>` does.
    unsafe impl Send for Part {}
    // SAFETY: as above.
    unsafe impl Sync for Part {}

    impl Deref for Part {
        type Target = [Line];

        fn deref(&self) -> &[Line] {
            // SAFETY: `start` is aligned and `lines` lines from there are this part's own; any bits are a
            // `Line`.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.lines) }
        }
    }

    impl DerefMut for Part {
        fn deref_mut(&mut self) -> &mut [Line] {
            // SAFETY: as above, and the part is borrowed for writing.
            unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.lines) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{floats, floats_mut};

    #[test]
    fn blocks_are_zeros_and_their_owners_alone() {
        for arena in [Arena::default(), Arena::huge()] {
            let mut blocks: Vec<Block> = [1, 3, 0, 1 << 20, 2].map(|lines| arena.zeros(lines)).into();
            drop(arena);
            for (i, block) in blocks.iter_mut().enumerate() {
                assert!(floats(block).iter().all(|&v| v == 0.0));
                floats_mut(block).fill(i as f32);
            }
            for (i, block) in blocks.iter().enumerate() {
                assert_eq!(floats(&block.clone()), floats(block));
                assert!(floats(block).iter().all(|&v| v == i as f32));
            }
        }
    }
}
