//! PostgreSQL: base backups, restores beside the live data, recovery, queries and checks.
//!
//! Start with [`recover`](Recover): it swaps, rescues, replays and promotes. The rules it keeps are
//! those of the server's own manual and of measurements; each module names the ones it is for.

mod admission;
mod advance;
pub(crate) mod aim;
pub(crate) mod archive;
mod archiver;
mod archiving;
mod attached;
pub(crate) mod attempt;
mod bad_page;
mod base_backup;
mod base_backup_by_hand;
pub(crate) mod by_hand;
mod check;
mod client;
mod collect;
mod combine;
pub(crate) mod connect;
pub(crate) mod container;
mod content;
mod contradiction;
mod convoy;
mod copies;
mod copy_out;
mod copying;
pub(crate) mod course;
mod create_database;
mod dbstate;
mod delivery;
mod discard;
mod drop_database;
mod dump;
mod duplicate;
mod erase;
mod existing;
mod export;
mod extract;
pub(crate) mod facts;
mod fan;
pub(crate) mod fetching;
pub(crate) mod flushed;
mod flusher;
pub(crate) mod foresight;
mod freezing;
mod funnel;
mod giving_up;
mod handover;
pub(crate) mod hands;
mod housing;
mod husk;
mod increment;
mod inflow;
mod inspection;
mod integrity;
pub(crate) mod intrusion;
pub(crate) mod keeper;
pub(crate) mod landing;
mod landmark;
mod larder;
mod last_wal;
pub(crate) mod layout;
mod leftover;
mod limits;
pub(crate) mod live;
mod lobby;
mod machine;
pub(crate) mod marker;
mod name;
pub(crate) mod neighbours;
mod nursery;
pub(crate) mod old;
mod origin;
mod original;
mod outlook;
mod outside;
pub(crate) mod overseer;
pub(crate) mod owner;
mod patch;
mod patroni;
pub(crate) mod pg_control;
mod program;
mod promote;
pub(crate) mod promotion;
mod proof;
mod prospect;
mod pushing;
mod query;
mod reached;
pub(crate) mod readable;
mod recover;
mod recover_by_hand;
mod replay;
mod replica;
mod replication;
pub(crate) mod rescue;
mod restore_base;
mod restore_base_by_hand;
mod restore_dump;
mod restore_point;
mod restore_table;
pub(crate) mod room;
pub(crate) mod scratch;
mod script;
mod scrutiny;
pub(crate) mod server;
mod sessions;
pub(crate) mod settings;
mod shape;
mod side;
mod side_dump;
mod side_instance;
mod side_instance_by_hand;
mod slot;
mod snapshot;
mod space;
mod spare;
mod spout;
mod stage;
mod standing;
mod start;
mod stop;
mod subscription;
pub(crate) mod supply;
pub(crate) mod swap;
mod swap_back;
mod takeover;
mod tar_walk;
mod target;
mod terminate;
mod tls;
pub(crate) mod untold;
mod verify_backup;
mod wal_location;
mod wal_proof;
pub(crate) mod witness;

pub use aim::Ending;
pub(crate) use archiver::{Archiver, Relation};
pub use archiving::{
    ArchivingMode, CheckpointTuning, ConfigureArchiving, ConfigureArchivingOutput, ConfigureArchivingParams, Foreign,
    Restart, SettingChange,
};
pub use base_backup::{BaseBackup, BaseBackupOutput, BaseBackupParams, Checkpoint, OnBadPage};
pub use check::{
    AheadSequences, AllKeys, AvailableExtensions, Check, CheckBody, CheckItem, CheckOutput, CheckParams, CheckResult,
    CheckSet, EqualFacts, Newest, SameCollations, Smoke, ValidIndexes,
};
pub use connect::Refusal;
pub(crate) use container::data_of;
pub use content::FactsDepth;
pub(crate) use contradiction::{contradictions, strangers};
pub(crate) use course::hole;
pub use create_database::{CreateDatabase, CreateDatabaseOutput, CreateDatabaseParams};
pub use drop_database::{DropDatabase, DropDatabaseOutput, DropDatabaseParams, Sessions};
pub use dump::{AllDatabases, Compressor, DatabaseNames, Dump, DumpOutput, DumpParams, DumpedDatabase, Globals};
pub use erase::{Erase, EraseOutput, EraseParams, ErasedLine};
pub use existing::Existing;
pub use export::{Export, ExportOutput, ExportParams};
pub use housing::Priority;
pub use leftover::{Left, Leftover, is_unfinished, leftovers};
pub use outside::ConfigFiles;
pub use promote::{Promote, PromoteOutput, PromoteParams};
pub use query::{Query, QueryEffect, QueryOutput, QueryParams};
pub use recover::{InstanceState, Landmark, Recover, RecoverLoss, RecoverOutput, RecoverParams};
pub use restore_base::{RestoreBase, RestoreBaseOutput, RestoreBaseParams};
pub use restore_dump::{Compared, RestoreDump, RestoreDumpOutput, RestoreDumpParams, RestoreMode, RestoredLoss, Roles};
pub use restore_point::{RestorePoint, RestorePointOutput, RestorePointParams};
pub use restore_table::{
    ApplyMode, Difference, Orphans, RestoreTable, RestoreTableMode, RestoreTableOutput, RestoreTableParams, Sample,
    TableOutcome, TableState, TableUndo, UndoScript,
};
pub use side_instance::{SideInstance, SideInstanceOutput, SideInstanceParams};
pub use slot::{Fate, SlotFate};
pub use snapshot::{
    AroundSnapshot, AroundSnapshotOutput, AroundSnapshotParams, RestoreSnapshot, RestoreSnapshotOutput,
    RestoreSnapshotParams,
};
pub use standing::{Contradiction, LostDatabase, Standing, look};
pub use start::{Start, StartIf, StartOutput, StartParams};
pub use stop::{OnlyIf, Stop, StopOutput, StopParams};
pub use swap_back::{SwapBack, SwapBackOutput, SwapBackParams};
pub use terminate::{TerminateConnections, TerminateConnectionsOutput, TerminateConnectionsParams};
pub use verify_backup::{VerifyBackup, VerifyBackupOutput, VerifyBackupParams};
pub use wal_location::WalLocation;
