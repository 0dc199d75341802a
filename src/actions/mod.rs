//! The actions that runbooks can use: this list, one file each.

pub mod approval;
pub mod archive;
pub mod assert;
pub mod backup;
pub mod checksum;
pub mod crypt;
pub mod exec;
pub mod http;
pub mod manual;
pub mod notify;
mod output;
mod patience;
pub mod pgbackrest;
pub mod postgres;
mod process;
pub mod runbook;
pub mod s3;
pub mod service;
pub mod shell;
pub mod store;
pub mod wait;

use crate::action::Registry;

/// Every action the program knows.
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
        .with(approval::Approval)
        .with(archive::Create)
        .with(archive::Extract)
        .with(archive::List)
        .with(assert::Assert)
        .with(backup::Create)
        .with(backup::Find)
        .with(backup::Get)
        .with(backup::Prune)
        .with(backup::Retrieve)
        .with(backup::Unfreeze)
        .with(backup::Verify)
        .with(checksum::Verify)
        .with(checksum::Write)
        .with(crypt::Decrypt)
        .with(crypt::Encrypt)
        .with(crypt::Rotate)
        .with(exec::Exec)
        .with(http::Check)
        .with(manual::Manual)
        .with(notify::Command)
        .with(notify::Webhook)
        .with(pgbackrest::Backup)
        .with(pgbackrest::Check)
        .with(pgbackrest::Info)
        .with(pgbackrest::Restore)
        .with(pgbackrest::StanzaCreate)
        .with(postgres::AroundSnapshot)
        .with(postgres::BaseBackup)
        .with(postgres::Check)
        .with(postgres::ConfigureArchiving::default())
        .with(postgres::CreateDatabase)
        .with(postgres::DropDatabase)
        .with(postgres::Dump)
        .with(postgres::Erase)
        .with(postgres::Export)
        .with(postgres::Promote)
        .with(postgres::Query)
        .with(postgres::Recover::default())
        .with(postgres::RestoreBase)
        .with(postgres::RestoreDump)
        .with(postgres::RestorePoint)
        .with(postgres::RestoreSnapshot)
        .with(postgres::RestoreTable)
        .with(postgres::SideInstance::default())
        .with(postgres::Start)
        .with(postgres::Stop)
        .with(postgres::SwapBack)
        .with(postgres::TerminateConnections)
        .with(postgres::VerifyBackup)
        .with(runbook::Runbook)
        .with(s3::Encryption)
        .with(s3::Lifecycle)
        .with(s3::ObjectLock)
        .with(s3::Policy)
        .with(s3::Replication)
        .with(s3::Versioning)
        .with(service::Start)
        .with(service::Status)
        .with(service::Stop)
        .with(shell::Shell)
        .with(store::Copy)
        .with(store::Delete)
        .with(store::Find)
        .with(store::Get)
        .with(store::List)
        .with(store::Put)
        .with(store::RestoreVersions)
        .with(store::Retrieve)
        .with(store::Sync)
        .with(store::Verify)
        .with(wait::Wait)
}
