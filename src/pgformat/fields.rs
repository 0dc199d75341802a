//! Little-endian numbers at fixed places of a byte slice.

/// Reads `N` bytes at `at`; `None` past the end.
fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Reads a 16-bit number.
pub(crate) fn u16_at(from: &[u8], at: usize) -> Option<u16> {
    bytes(from, at).map(u16::from_le_bytes)
}

/// Reads a 32-bit number.
pub(crate) fn u32_at(from: &[u8], at: usize) -> Option<u32> {
    bytes(from, at).map(u32::from_le_bytes)
}

/// Reads a signed 32-bit number.
pub(crate) fn i32_at(from: &[u8], at: usize) -> Option<i32> {
    bytes(from, at).map(i32::from_le_bytes)
}

/// Reads a 64-bit number.
pub(crate) fn u64_at(from: &[u8], at: usize) -> Option<u64> {
    bytes(from, at).map(u64::from_le_bytes)
}

/// Reads a signed 64-bit number.
pub(crate) fn i64_at(from: &[u8], at: usize) -> Option<i64> {
    bytes(from, at).map(i64::from_le_bytes)
}
