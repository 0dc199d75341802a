//! Buffers that are used again. Fresh memory costs a page fault for every 4 KiB of it, and what is freed the C library
//! keeps for the thread that freed it: a journey whose blocks go from thread to thread would grow with each of them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of one work, a journey as a rule; they go when it does.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// Takes an empty buffer that has room for so many bytes.
    #[must_use]
    pub fn take(&self, room_bytes: usize) -> Vec<u8> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = idle.unwrap_or_default();
        buffer.reserve_exact(room_bytes);
        buffer
    }

    /// Hands a buffer on; it comes back when nobody reads it any more.
    #[must_use]
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, pool: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_is_gone() {
        let pool = Pool::default();
        let mut buffer = pool.take(1000);
        buffer.extend_from_slice(b"one");
        let place = buffer.as_ptr();
        let lent = pool.lend(buffer);
        let other = lent.slice(1..);
        drop(lent);
        assert_eq!(pool.take(1000).capacity(), 1000, "the first one is still read");
        assert_eq!(&other[..], b"ne");
        drop(other);
        let again = pool.take(500);
        assert!(again.is_empty() && again.as_ptr() == place);
    }
}
