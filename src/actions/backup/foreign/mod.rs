//! What other programs have stored, where it lies: recognised by names, described by reading every byte.
//!
//! Dated dumps (`orders_20260128_143002.sql.gz`), folders of `pg_basebackup --format=tar`, folders of WAL segments;
//! compressed, and encrypted with the keys of the store. Nothing is moved or written here. Start with [`Survey::of`].

mod base;
mod base_tar;
mod dump;
mod name;
mod reader;
mod survey;
mod wal;

pub use base::ForeignBase;
pub use dump::ForeignDump;
pub use reader::Reader;
pub use survey::{Foreign, LeftOut, Survey};
pub use wal::{ForeignWal, WalFolder};
