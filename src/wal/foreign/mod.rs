//! A folder of WAL that another program filled (`cp %p DIR/%f`), read where it lies as a part of an archive.
//!
//! Nothing is written there and nothing is noted of it. It has no digests, so a file counts only when its own content
//! proves it: the size, every page's header (cluster, timeline, position) and every record's checksum, also of the record
//! that begins in the segment before. A folder that cannot be listed, or that holds no segment at all, says nothing of what
//! is absent. Start with [`ForeignArchive`].

mod archive;
mod content;
mod folder;
mod name;

pub use archive::ForeignArchive;
pub use folder::ForeignFolder;
pub use name::foreign_wal_file;
