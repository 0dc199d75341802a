//! The live view on a terminal: finished steps scroll by as lines, a panel below shows what goes on.
//!
//! The module `panel` is pure and decides every character; [`Live`] draws it.

mod live;
pub(super) mod panel;
mod stage;

pub use live::Live;
pub use stage::Stage;
