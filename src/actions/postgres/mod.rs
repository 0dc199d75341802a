//! PostgreSQL: base backups, restores beside the live data, recovery, queries and checks.
//!
//! Start with [`recover`](Recover): it swaps, rescues, replays and promotes. The rules it keeps are
//! those of the server's own manual and of measurements; each module names the ones it is for.

mod connect;
mod layout;
mod live;
mod owner;
mod server;
mod settings;
mod swap;
mod tls;
