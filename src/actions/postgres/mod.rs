//! PostgreSQL: base backups, restores beside the live data, recovery, queries and checks.
//!
//! Start with [`recover`](Recover): it swaps, rescues, replays and promotes. The rules it keeps are
//! those of the server's own manual and of measurements; each module names the ones it is for.

mod advance;
mod aim;
mod archive;
mod attempt;
mod base_backup;
mod by_hand;
mod check;
mod client;
mod collect;
mod connect;
mod content;
mod copies;
mod copy_out;
mod course;
mod create_database;
mod dbstate;
mod delivery;
mod discard;
mod drop_database;
mod dump;
mod expect;
mod export;
mod extract;
mod facts;
mod fan;
mod fetching;
mod hands;
mod housing;
mod integrity;
mod intrusion;
mod landing;
mod landmark;
mod layout;
mod limits;
mod live;
mod marker;
mod name;
mod nursery;
mod old;
mod outlook;
mod overseer;
mod owner;
mod promotion;
mod proof;
mod query;
mod reached;
pub(crate) mod readable;
mod recover;
mod replay;
mod replica;
mod rescue;
mod restore_base;
mod restore_dump;
mod scratch;
mod server;
mod sessions;
mod settings;
mod side;
mod side_instance;
mod slot;
mod standing;
mod spout;
mod stop;
mod subscription;
mod swap;
mod swap_back;
mod target;
mod terminate;
mod tls;
mod witness;

pub use aim::Ending;
pub use base_backup::{BaseBackup, BaseBackupOutput, BaseBackupParams, Checkpoint};
pub use check::{
    AheadSequences, AllKeys, AvailableExtensions, Check, CheckBody, CheckItem, CheckOutput, CheckParams, CheckResult,
    CheckSet, EqualFacts, Newest, SameCollations, Smoke, ValidIndexes,
};
pub use content::FactsDepth;
pub(crate) use course::hole;
pub use create_database::{CreateDatabase, CreateDatabaseOutput, CreateDatabaseParams};
pub use drop_database::{DropDatabase, DropDatabaseOutput, DropDatabaseParams, Sessions};
pub use dump::{AllDatabases, Compressor, DatabaseNames, Dump, DumpOutput, DumpParams, DumpedDatabase, Globals};
pub use export::{Export, ExportOutput, ExportParams};
pub use housing::Priority;
pub use query::{Query, QueryEffect, QueryOutput, QueryParams};
pub use recover::{InstanceState, Landmark, Recover, RecoverLoss, RecoverOutput, RecoverParams};
pub use restore_base::{RestoreBase, RestoreBaseOutput, RestoreBaseParams};
pub use restore_dump::{Compared, RestoreDump, RestoreDumpOutput, RestoreDumpParams, RestoreMode, RestoredLoss, Roles};
pub use side_instance::{SideInstance, SideInstanceOutput, SideInstanceParams};
pub use slot::{Fate, SlotFate};
pub use standing::{Archiving, Standing, look};
pub use stop::{Stop, StopOutput, StopParams};
pub use swap_back::{SwapBack, SwapBackOutput, SwapBackParams};
pub use terminate::{TerminateConnections, TerminateConnectionsOutput, TerminateConnectionsParams};
