/* A system with larger pages, as far as a program can tell: preloaded by scripts/pages.py.
 *
 * Mappings begin at multiples of the page size in VITSTREAM_PAGE_SIZE, the system says this size where it is asked, and the calls
 * that take a range treat it as such a system does: they refuse one that does not begin with a page, and take its end up to the
 * end of a page. What lies between the end of a mapping and that of its last page belongs to nobody else.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

static size_t page(void)
{
    static size_t size;
    if (size == 0) {
        const char *text = getenv("VITSTREAM_PAGE_SIZE");
        size = text ? strtoul(text, NULL, 10) : 4096;
    }
    return size;
}

static size_t whole_pages(size_t length)
{
    return (length + page() - 1) & ~(page() - 1);
}

static int off_page(const void *start)
{
    if (((uintptr_t)start & (page() - 1)) == 0)
        return 0;
    errno = EINVAL;
    return 1;
}

long sysconf(int name)
{
    return name == _SC_PAGESIZE ? (long)page() : REAL(long, "sysconf", int)(name);
}

int getpagesize(void)
{
    return (int)page();
}

void *mmap(void *wanted, size_t length, int protection, int flags, int file, off_t offset)
{
    void *(*real)(void *, size_t, int, int, int, off_t) = REAL(void *, "mmap", void *, size_t, int, int, int, off_t);
    if (flags & MAP_FIXED)
        return real(wanted, length, protection, flags, file, offset);
    if (offset & (off_t)(page() - 1)) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    /* Room for whole pages wherever the system puts it, and the mapping at the first multiple in it. */
    size_t room = whole_pages(length);
    char *reserved = real(NULL, room + page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return MAP_FAILED;
    char *start = (char *)(((uintptr_t)reserved + page() - 1) & ~(uintptr_t)(page() - 1));
    if (start > reserved)
        REAL(int, "munmap", void *, size_t)(reserved, (size_t)(start - reserved));
    size_t behind = (size_t)(reserved + page() - start);
    if (behind > 0)
        REAL(int, "munmap", void *, size_t)(start + room, behind);
    return real(start, length, protection, flags | MAP_FIXED, file, offset);
}

void *mmap64(void *wanted, size_t length, int protection, int flags, int file, off_t offset)
{
    return mmap(wanted, length, protection, flags, file, offset);
}

int munmap(void *start, size_t length)
{
    return off_page(start) ? -1 : REAL(int, "munmap", void *, size_t)(start, whole_pages(length));
}

int madvise(void *start, size_t length, int advice)
{
    return off_page(start) ? -1 : REAL(int, "madvise", void *, size_t, int)(start, whole_pages(length), advice);
}

int mprotect(void *start, size_t length, int protection)
{
    return off_page(start) ? -1 : REAL(int, "mprotect", void *, size_t, int)(start, whole_pages(length), protection);
}

int msync(void *start, size_t length, int flags)
{
    return off_page(start) ? -1 : REAL(int, "msync", void *, size_t, int)(start, whole_pages(length), flags);
}
