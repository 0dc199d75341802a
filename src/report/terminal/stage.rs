//! Who has the terminal: the live view, or a dialogue with a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The one terminal that a live view and a dialogue share. While a question is open there, the view draws no panel.
#[derive(Debug, Clone, Default)]
pub struct Stage(Arc<AtomicUsize>);

impl Stage {
    /// Takes it for one question more.
    pub fn take(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// One question is done with; after the last one the view has it again.
    pub fn give_back(&self) {
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| open.checked_sub(1));
    }

    /// No question will be asked here any more.
    pub fn clear(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// Whether a dialogue has it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}
