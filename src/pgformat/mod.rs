//! PostgreSQL's formats on disk: positions, WAL file names, pages and records, `pg_control`, history
//! files, `backup_label` and `backup_manifest`.
//!
//! Everything here is pure: it judges bytes that somebody else read. Versions 13 to 18 on 64-bit
//! little-endian machines are known; anything else is refused by name instead of guessed at.
//! How the versions differ stands in one place, [`Change`].
//! Start with [`Lsn`] and [`SegmentName`]; [`SegmentScan`] tells how far a segment's WAL is valid.

mod archiver_notes;
mod backup_label;
mod backup_manifest;
mod catalog_change;
mod census;
mod control_file;
mod custom_dump;
mod data_page;
mod fields;
mod file_sum;
#[cfg(test)]
pub(crate) mod fixture;
mod history;
mod landmark;
mod lsn;
mod new_file;
mod page;
mod record;
mod row_change;
mod scan;
mod segment;
mod segment_walk;
mod shared_row;
mod touched_page;
mod transaction;
mod version;
mod wal_file_name;
mod walker;

pub use archiver_notes::ArchiverNotes;
pub use backup_label::{BackupLabel, BackupLabelError};
pub use backup_manifest::{
    BackupManifest, BackupManifestError, FileChecksum, FileFault, FileVerifier, ManifestFile, WalRange, fetched_segment,
};
pub use catalog_change::{Catalog, CatalogChange, CatalogPlace, CatalogRow, RelationRow, WrittenRow};
pub use census::Census;
pub use control_file::{ClusterState, ControlFile, ControlFileError, ServerLimits};
pub use custom_dump::{
    CustomDump, CustomDumpError, MAGIC as CUSTOM_DUMP_MAGIC, custom_dump_dbname, demand_whole_custom_dump,
    read_custom_dump,
};
pub use data_page::{DATA_PAGE_BYTES, PageVerdict, SEGMENT_BLOCKS, first_block, judge_page};
pub use file_sum::FileSum;
pub use history::{HistoryError, NUMBER_TAKEN, TimelineHistory, TimelineSpan, is_number_taken};
pub use landmark::Landmark;
pub use lsn::{Lsn, ParseLsnError, ParseTimelineError, SystemId, Timeline};
pub use new_file::new_file;
pub use page::{PageError, PageHeader, SegmentHeader, SegmentMismatch, WAL_PAGE_BYTES};
pub use record::{RecordError, WalRecord};
pub use row_change::{RowChange, RowVerb};
pub use scan::{Commit, SegmentScan};
pub use segment::{ParseSegmentNameError, SegmentName, SegmentSize};
pub use segment_walk::SegmentWalk;
pub use shared_row::{Overwritten, RowPlace, SharedRow};
pub use transaction::{DroppedRelation, Outcome, RelationFile, TransactionEnd};
pub use version::{Change, Major, major_text};
pub use wal_file_name::{ParseWalFileNameError, WalFileName};
pub use walker::{Halt, WalWalker, Walked};
