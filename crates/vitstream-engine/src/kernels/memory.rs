//! Zeroed memory from large mappings, which the system backs with huge pages on request.
//!
//! A push reads all weights once: with small pages (4 KiB on most systems, 16 or 64 on some), much of that
//! time is spent on finding pages, and most of the time of loading on allocating them. On systems other than
//! Linux, a block is a plain allocation.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::line::Line;

#[cfg(all(target_os = "linux", not(miri)))]
use mapped::{Part, Rest};

/// Allocates blocks that follow each other in memory.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    #[cfg(all(target_os = "linux", not(miri)))]
    rest: RefCell<Option<Rest>>,
    scratch: RefCell<Vec<Line>>,
}

/// Returns freed memory to the system if the allocator keeps it for later use (glibc's does, beyond the size of the
/// largest freed block). For callers that have just freed much memory and will not need it again.
pub fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: the call takes the allocator's own locks and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lines owned exclusively.
#[derive(Debug, Clone)]
pub(crate) struct Block(Memory);

#[derive(Debug)]
enum Memory {
    Own(Vec<Line>),
    #[cfg(all(target_os = "linux", not(miri)))]
    Part(Part),
}

impl Arena {
    /// `lines` lines of zeros.
    pub(crate) fn zeros(&self, lines: usize) -> Block {
        #[cfg(all(target_os = "linux", not(miri)))]
        if let Some(part) = Rest::take(&mut self.rest.borrow_mut(), lines) {
            return Block(Memory::Part(part));
        }
        Block::from(vec![bytemuck::Zeroable::zeroed(); lines])
    }

    /// Provides `lines` lines with arbitrary old contents for the duration of `work`: allocating new memory
    /// each time would take longer than the work.
    pub(crate) fn with_scratch(&self, lines: usize, work: impl FnOnce(&mut [Line])) {
        let mut scratch = self.scratch.borrow_mut();
        if scratch.len() < lines {
            scratch.resize(lines, bytemuck::Zeroable::zeroed());
        }
        work(&mut scratch[..lines]);
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
    use std::ops::{Deref, DerefMut, Range};
    use std::ptr::NonNull;
    use std::sync::Arc;

    use memmap2::{Advice, MmapMut, MmapRaw, UncheckedAdvice};

    use crate::line::Line;

    /// Size of a mapping in bytes, unless a block needs more. Unused memory is never touched.
    const MAPPING: usize = 64 << 20;

    /// The rest of a mapping.
    #[derive(Debug)]
    pub(super) struct Rest {
        map: Arc<MmapRaw>,
        /// Number of bytes already allocated.
        used: usize,
    }

    impl Rest {
        /// The next `lines` lines, from a new mapping if this one has too few; `None` on systems without
        /// mappings.
        pub(super) fn take(rest: &mut Option<Self>, lines: usize) -> Option<Part> {
            let bytes = lines.checked_mul(size_of::<Line>())?;
            if rest.as_ref().is_none_or(|rest| rest.map.len() - rest.used < bytes) {
                let map = MmapRaw::from(MmapMut::map_anon(bytes.max(MAPPING)).ok()?);
                // It works without huge pages as well.
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
        /// Releases the unallocated part of the last huge page.
        fn drop(&mut self) {
            let unused = page_size().and_then(|page| unused(self.used, self.map.len(), page));
            let Some(Range { start, end }) = unused else { return };
            // SAFETY: no part has these bytes, and none will. The range that memmap2 hands to the system begins
            // with the page in which `start` lies, which is a page's first byte, so no earlier byte is in it;
            // and it ends with the page in which the mapping ends, which holds nothing behind the mapping.
            let given_back =
                unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
            // The system may keep the pages, which does no harm.
            drop(given_back);
        }
    }

    /// Size of a page of this system, 4 to 64 KiB; `None` if the system does not report it.
    fn page_size() -> Option<usize> {
        // SAFETY: the call answers with a number and touches no memory of this program's.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two())
    }

    /// The whole pages after the first `used` bytes of a mapping of `len` bytes, if there are any.
    fn unused(used: usize, len: usize, page: usize) -> Option<Range<usize>> {
        let start = used.checked_next_multiple_of(page)?;
        (start < len).then_some(start..len)
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

    #[cfg(test)]
    mod tests {
        use super::*;

        /// The system drops whole pages, none of which may contain a byte of a part.
        #[test]
        fn no_page_with_a_used_byte_is_given_back_whatever_a_page_is() {
            for page in [4 << 10, 8 << 10, 16 << 10, 64 << 10, 2 << 20] {
                for used in (0..3 * page).step_by(64 * 61).chain([page, 2 * page, MAPPING - 64, MAPPING]) {
                    match unused(used, MAPPING, page) {
                        Some(Range { start, end }) => {
                            assert!(
                                start >= used && start % page == 0 && start - used < page,
                                "{used} {page}"
                            );
                            assert_eq!(end, MAPPING);
                        }
                        None => assert!(used + page > MAPPING, "{used} {page}"),
                    }
                }
            }
            let page = page_size().expect("Linux says it");
            assert!(page >= 4096 && MAPPING.is_multiple_of(page));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{floats, floats_mut};

    #[test]
    fn blocks_are_zeros_and_their_owners_alone() {
        let arena = Arena::default();
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
