//! What is asked of a server, and done with it, through sessions and its client programs.

pub(crate) mod attached;
pub(crate) mod client;
pub(crate) mod commit;
pub(crate) mod connect;
pub(crate) mod content;
pub(crate) mod copy_out;
pub(crate) mod copying;
pub(crate) mod create_database;
pub(crate) mod dbstate;
pub(crate) mod drop_database;
pub(crate) mod facts;
pub(crate) mod identity_check;
pub(crate) mod integrity;
pub(crate) mod maintenance_db;
pub(crate) mod named_pipe;
pub(crate) mod origin;
pub(crate) mod query;
pub(crate) mod sessions;
pub(crate) mod startup;
pub(crate) mod subscription;
pub(crate) mod terminate;
pub(crate) mod tls;
