//! Buffers of parts and chunks, used again when their bytes are on their way.
//!
//! A buffer of megabytes that is new costs the system a fault per page, and what the C library keeps of freed ones can
//! be as much as what is under way.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// The buffers of one transfer.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// Bytes whose buffer comes back when nobody has them any more.
struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// Gives an empty buffer with room for so many bytes.
    pub(super) fn take(&self, size: usize) -> Vec<u8> {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.clear();
        buffer.reserve_exact(size);
        buffer
    }

    /// Lends what a buffer holds.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { bytes, home: self.clone() })
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.bytes);
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::Buffers;

    #[test]
    fn a_buffer_comes_back_when_the_last_one_lets_go_of_its_bytes() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(1000);
        buffer.extend_from_slice(b"12345");
        let place = buffer.as_ptr();
        let bytes = buffers.lend(buffer);
        let part = bytes.slice(1..3);
        drop(bytes);
        let other = buffers.take(10);
        assert_ne!(other.as_ptr(), place, "a part of it is still used");
        assert_eq!(part, &b"23"[..]);
        drop(part);
        let again = buffers.take(1000);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }
}
