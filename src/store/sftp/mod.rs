//! A folder of another machine as a store, over the system's own `ssh`: keys, agents, jump hosts and aliases are
//! its configuration, not ours.
//!
//! The folder looks as `file://` would have it (`../sidecar.rs`): one plain file per object, hidden names beside
//! them. One process of `ssh -s … sftp` serves all requests of a store and ends with it. Start with
//! [`SftpStore`]; `session` holds the connection, `publish` the order of syncs and renames.
//!
//! SFTP cannot sync a folder. A file is therefore synced again under its final name, which makes the name durable
//! on the usual file systems of servers (ext4, XFS, Btrfs). A server without `fsync@openssh.com` is refused.

mod fault;
mod lock;
mod place;
mod publish;
mod reader;
mod session;
mod store;
mod temporary;
mod watch;

pub use store::SftpStore;
