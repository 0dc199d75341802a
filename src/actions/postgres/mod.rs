//! PostgreSQL: base backups, restores beside the live data, recovery, queries and checks.
//!
//! Start with [`recover`](Recover): it swaps, rescues, replays and promotes. The rules it keeps are
//! those of the server's own manual and of measurements; each module names the ones it is for.

mod archiving;
pub(crate) mod backup;
mod check;
pub(crate) mod cluster;
pub(crate) mod logical;
pub(crate) mod recovery;
pub(crate) mod restore;
pub(crate) mod session;
pub(crate) mod side;
mod snapshot;
pub(crate) mod stores;
pub(crate) mod table;

pub use archiving::{
    ArchivingMode, CheckpointTuning, ConfigureArchiving, ConfigureArchivingOutput, ConfigureArchivingParams, Foreign,
    Restart, SettingChange,
};
pub use backup::base_backup::{BaseBackup, BaseBackupOutput, BaseBackupParams, Checkpoint, OnBadPage};
pub use backup::outside::ConfigFiles;
pub use check::{
    AheadSequences, AllKeys, AvailableExtensions, Check, CheckBody, CheckItem, CheckOutput, CheckParams, CheckResult,
    CheckSet, EqualFacts, Newest, SameCollations, Smoke, ValidIndexes,
};
pub use cluster::scratch_settings::Priority;
pub use cluster::wal_location::WalLocation;
pub use logical::dump::{
    AllDatabases, Compressor, DatabaseNames, Dump, DumpOutput, DumpParams, DumpedDatabase, Globals,
};
pub use logical::restore_dump::{
    Compared, RestoreDump, RestoreDumpOutput, RestoreDumpParams, RestoreMode, RestoredLoss, Roles,
};
pub use logical::restore_dump::{is_half_loaded, is_kept_old};
pub use logical::swap_back::{SwapBack, SwapBackOutput, SwapBackParams};
pub use recovery::promote::{Promote, PromoteOutput, PromoteParams};
pub use recovery::recover::{InstanceState, Landmark, Recover, RecoverLoss, RecoverOutput, RecoverParams, TargetSpec};
pub use recovery::restore_point::{RestorePoint, RestorePointOutput, RestorePointParams};
pub use recovery::server_status::{Contradiction, LostDatabase, ServerStatus, look};
pub use recovery::slot::{Fate, SlotFate};
pub use recovery::start::{Start, StartIf, StartOutput, StartParams};
pub use recovery::stop::{OnlyIf, Stop, StopOutput, StopParams};
pub use restore::existing::Existing;
pub use restore::leftover::{Left, Leftover, is_unfinished, leftovers};
pub use restore::recovery_target::Ending;
pub use restore::restore_base::{RestoreBase, RestoreBaseOutput, RestoreBaseParams};
pub use restore::verify_backup::{VerifyBackup, VerifyBackupOutput, VerifyBackupParams};
pub use session::connect::Refusal;
pub use session::content::FactsDepth;
pub use session::create_database::{CreateDatabase, CreateDatabaseOutput, CreateDatabaseParams};
pub use session::drop_database::{DropDatabase, DropDatabaseOutput, DropDatabaseParams, Sessions};
pub use session::query::{Query, QueryEffect, QueryOutput, QueryParams};
pub use session::terminate::{TerminateConnections, TerminateConnectionsOutput, TerminateConnectionsParams};
pub use side::side_instance::{SideInstance, SideInstanceOutput, SideInstanceParams};
pub use snapshot::{
    AroundSnapshot, AroundSnapshotOutput, AroundSnapshotParams, RestoreSnapshot, RestoreSnapshotOutput,
    RestoreSnapshotParams,
};
pub use table::erase::{Erase, EraseOutput, EraseParams, ErasedLine};
pub use table::export::{Export, ExportOutput, ExportParams};
pub use table::restore_table::{
    ApplyMode, Difference, Orphans, RestoreTable, RestoreTableMode, RestoreTableOutput, RestoreTableParams, Sample,
    TableOutcome, TableState, TableUndo, UndoScript,
};
