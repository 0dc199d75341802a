//! PostgreSQL: base backups, restores beside the live data, recovery, queries and checks.
//!
//! Start with [`recover`](Recover): it swaps, rescues, replays and promotes. The rules it keeps are
//! those of the server's own manual and of measurements; each module names the ones it is for.

mod archive;
mod attempt;
mod base_backup;
mod by_hand;
mod check;
mod client;
mod collect;
mod connect;
mod copies;
mod copying;
mod course;
mod delivery;
mod expect;
mod extract;
mod facts;
mod fetching;
mod housing;
mod integrity;
mod intrusion;
mod layout;
mod live;
mod marker;
mod name;
mod old;
mod outlook;
mod owner;
mod promote;
mod proof;
mod query;
pub(crate) mod readable;
mod recover;
mod replay;
mod rescue;
mod restore_base;
mod restore_point;
mod restore_table;
mod scratch;
mod server;
mod settings;
mod side;
mod side_instance;
mod start;
mod stop;
mod subscription;
mod swap;
mod target;
mod tls;

pub use base_backup::{BaseBackup, BaseBackupOutput, BaseBackupParams, Checkpoint};
pub use check::{AllKeys, Check, CheckBody, CheckItem, CheckOutput, CheckParams, CheckResult, CheckSet, ValidIndexes};
pub(crate) use course::hole;
pub use promote::{Promote, PromoteOutput, PromoteParams};
pub use query::{Query, QueryEffect, QueryOutput, QueryParams};
pub use recover::{Recover, RecoverLoss, RecoverOutput, RecoverParams};
pub use restore_base::{RestoreBase, RestoreBaseOutput, RestoreBaseParams};
pub use housing::Priority;
pub use restore_point::{RestorePoint, RestorePointOutput, RestorePointParams};
pub use restore_table::{
    ApplyMode, Difference, Orphans, RestoreTable, RestoreTableMode, RestoreTableOutput, RestoreTableParams, Sample,
    TableOutcome, TableState, TableUndo, UndoScript,
};
pub use side_instance::{SideInstance, SideInstanceOutput, SideInstanceParams};
pub use start::{Start, StartOutput, StartParams};
pub use stop::{Stop, StopOutput, StopParams};
