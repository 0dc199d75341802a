//! Who has the terminal: the live view, or a dialogue with a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The one terminal that a live view and a dialogue share. While the dialogue has it, the view draws no panel.
#[derive(Debug, Clone, Default)]
pub struct Stage(Arc<AtomicBool>);

impl Stage {
    /// Takes it for a dialogue.
    pub fn take(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Gives it back to the view.
    pub fn give_back(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether a dialogue has it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
