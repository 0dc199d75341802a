//! Bounds what the C library keeps of memory that was given back.
//!
//! The one place with unsafe code, which is why it is a crate of its own: `runbook` forbids it.

/// From which size on a block is mapped by itself, and given back to the system when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM_BYTES: libc::c_int = 1 << 20;

/// How many heaps threads share.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: libc::c_int = 4;

/// Has blocks from 1 MiB on given back to the system as soon as they are freed. To be called before the first thread.
///
/// Without it glibc learns from each large block that is freed to keep blocks of that size, up to 32 MiB, in its heaps, of
/// which there may be eight per core, and what is small and lives on between them keeps a heap from shrinking (manual page
/// `mallopt(3)`, `M_MMAP_THRESHOLD` and `M_ARENA_MAX`): a program that moves data through blocks of some MiB in several
/// threads holds a multiple of what it uses. A heap then also shrinks once 128 KiB at its end are free, whatever was freed
/// before. What the environment says (`MALLOC_MMAP_THRESHOLD_`, `MALLOC_ARENA_MAX`) goes before. Does nothing with another
/// C library.
#[allow(clippy::disallowed_methods, reason = "these settings are the C library's, not ours")]
pub fn bound() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (setting, parameter, value) in [
        ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        ("MALLOC_ARENA_MAX", libc::M_ARENA_MAX, HEAPS),
    ] {
        if std::env::var_os(setting).is_none() {
            // SAFETY: `mallopt` takes two numbers and may be called at any time; what it refuses stays as it was.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}
