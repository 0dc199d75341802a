//! Services of the inventory: stop, start, status.
//!
//! `provider` knows how systemd and commands of one's own are asked and told, `pooler` a pgbouncer; `selection` which
//! services a step means.

mod outcome;
mod pooler;
mod provider;
mod selection;
mod start;
mod status;
mod stop;

pub(super) use selection::{Chosen, Selection};
pub use start::Start;
pub use status::Status;
pub use stop::Stop;
