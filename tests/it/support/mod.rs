//! What tests share: servers they start and remove again, scenarios of the engine, a clock that never sleeps.

pub mod azurite;
pub mod cli;
pub mod clock;
pub mod docker;
pub mod fake;
pub mod fault_proxy;
pub mod garage;
pub mod host;
pub mod lock;
pub mod moto;
pub mod mount;
pub mod nowhere;
pub mod parcel;
pub mod pgbackrest;
pub mod place;
pub mod postgres;
pub mod production;
pub mod program;
pub mod recorded;
pub mod recovery;
pub mod s3;
pub mod scenario;
pub mod sshd;
pub mod terminal;
pub mod vault;
pub mod web;
