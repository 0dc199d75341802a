//! How well backups are: held against what the inventory expects of them. Pure.
//!
//! Every figure is told, and only what is out of its bounds raises the level. What cannot be known is
//! [`Level::Unknown`], never ok. Start with [`judge`].

mod figure;
mod judge;
mod openmetrics;
mod verdict;

pub use figure::{Figures, Sample};
pub use judge::{Observed, Room, judge};
pub use openmetrics::prometheus;
pub use verdict::{Finding, Health, Level};
