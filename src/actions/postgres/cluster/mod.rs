//! A cluster where it lies: its folders, its owner, whether it is live, and how its server is started and stopped.
//!
//! Nothing here opens a session with a server.

pub(crate) mod by_hand;
pub(crate) mod container;
pub(crate) mod enclosed;
pub(crate) mod flusher;
pub(crate) mod ha_manager;
pub(crate) mod layout;
pub(crate) mod limits;
pub(crate) mod linked;
pub(crate) mod live;
pub(crate) mod machine;
pub(crate) mod movable;
pub(crate) mod name;
pub(crate) mod owner;
pub(crate) mod patch;
pub(crate) mod patroni;
pub(crate) mod pg_control;
pub(crate) mod placement;
pub(crate) mod program;
pub(crate) mod scratch;
pub(crate) mod scratch_settings;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod service_manager;
pub(crate) mod settings;
pub(crate) mod side;
pub(crate) mod wal_location;
