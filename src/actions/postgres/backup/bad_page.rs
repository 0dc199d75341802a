//! Pages whose checksum the server found wrong while it read them for a backup.

use std::path::Path;

use super::base_backup::OnBadPage;
use super::replication::Complaint;
use crate::action::{ActionError, RunContext, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::connect::Endpoint;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;

/// `data_corrupted`: what a server says at the end of a backup with wrong checksums.
const DATA_CORRUPTED: &str = "XX001";
/// Where relations lie in a data directory.
const ROOTS: [&str; 3] = ["base/", "global/", "pg_tblspc/"];

/// A page, or a file, that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadPage {
    /// The file below the data directory.
    pub(crate) path: String,
    /// The block in it; `None` where the server only tells of the file.
    pub(crate) block: Option<u64>,
    /// The relation that it is of, once it is known.
    pub(crate) relation: Option<String>,
}

impl BadPage {
    /// Reads a server's warnings, in whatever language it speaks: a path and the first number after it.
    ///
    /// # Errors
    /// Fails when the server complained of something else than checksums.
    pub(crate) fn of(warnings: &[Complaint], complaint: &Complaint) -> Result<Vec<Self>, ActionError> {
        if complaint.code != DATA_CORRUPTED {
            return Err(ActionError::fatal(format!("the server refuses: {}", complaint.message)));
        }
        let mut found: Vec<Self> = Vec::new();
        for page in warnings.iter().filter_map(|warning| Self::read(&warning.message)) {
            if !found.contains(&page) {
                found.push(page);
            }
        }
        if found.is_empty() {
            found.push(Self { path: complaint.message.clone(), block: None, relation: None });
        }
        Ok(found)
    }

    fn read(message: &str) -> Option<Self> {
        let start = ROOTS.iter().filter_map(|root| message.find(root)).min()?;
        let rest = &message[start..];
        let inside = |one: char| one.is_ascii_alphanumeric() || "/_.".contains(one);
        let end = rest.find(|one| !inside(one)).unwrap_or(rest.len());
        let path = rest[..end].to_owned();
        let digits = rest[end..].trim_start_matches(|one: char| !one.is_ascii_digit());
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        // The last warning of a file counts its failures instead of naming a block.
        let blocks = rest[end..].contains(':');
        Some(Self { path, block: digits.parse().ok().filter(|_| blocks), relation: None })
    }

    /// The database and the file number that the path names.
    fn place(&self) -> Option<(u32, u32, u32)> {
        let path = Path::new(&self.path);
        let file = path.file_name()?.to_str()?;
        let node = file.split(['.', '_']).next()?.parse().ok()?;
        let parts: Vec<&str> = self.path.split('/').collect();
        match parts.as_slice() {
            ["base", database, _] => Some((database.parse().ok()?, 0, node)),
            ["pg_tblspc", tablespace, _, database, _] => Some((database.parse().ok()?, tablespace.parse().ok()?, node)),
            _ => None,
        }
    }

    /// Asks the server which relation it is; what cannot be told stays unknown.
    pub(crate) async fn name(&mut self, cluster: &Cluster, secrets: &dyn Secrets) {
        let Some((database, tablespace, node)) = self.place() else { return };
        let asked = async {
            let mut session = MaintenanceDb::own(cluster, secrets)?.open().await?;
            let dbname = session.value(&format!("SELECT datname FROM pg_database WHERE oid = {database}")).await?;
            let mut inside = Endpoint::of(cluster, Some(&dbname), secrets)?.open().await?;
            let sql = format!("SELECT pg_filenode_relation({tablespace}, {node})::regclass::text");
            inside.value(&sql).await.map(|relation| format!("`{relation}` of database `{dbname}`"))
        };
        self.relation = asked.await.ok();
    }
}

impl std::fmt::Display for BadPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.block {
            Some(block) => write!(f, "block {block} of `{}`", self.path)?,
            None => write!(f, "`{}`", self.path)?,
        }
        self.relation.as_ref().map_or(Ok(()), |relation| write!(f, " ({relation})"))
    }
}

/// Names the damaged pages and fails, or goes on, as it was asked for.
///
/// # Errors
/// Fails with the first page, unless damage is only to be noted.
pub(crate) async fn judge(
    pages: &mut [BadPage],
    wanted: OnBadPage,
    cluster: &Cluster,
    cx: &RunContext,
) -> Result<(), ActionError> {
    for page in pages.iter_mut() {
        page.name(cluster, cx.about.secrets.as_ref()).await;
    }
    let Some(first) = pages.first() else { return Ok(()) };
    let more = if pages.len() > 1 { format!(" and {} others", pages.len() - 1) } else { String::new() };
    let fact = format!("the data is damaged on the server's disk: the checksum of {first}{more} is wrong");
    match wanted {
        OnBadPage::Fail => Err(ActionError::fatal(fact)
            .help("restore the relation from an older backup; `on_bad_page: note` keeps a backup of what there is")),
        OnBadPage::Note => {
            let all: Vec<String> = pages.iter().map(ToString::to_string).collect();
            cx.reporter.note(format!("{fact}; the backup is kept"), serde_json::json!({ "bad_pages": all }));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Complaint {
        Complaint { message: message.to_owned(), ..Complaint::default() }
    }

    #[test]
    fn a_warning_names_file_and_block_in_any_language() {
        let english =
            "checksum verification failed in file \"./base/5/16384.1\", block 3: calculated 1F but expected 20";
        let german =
            "Prüfsummenprüfung fehlgeschlagen in Datei »base/5/16384.1«, Block 3: berechnet 1F, aber erwartet 20";
        let page = BadPage { path: "base/5/16384.1".to_owned(), block: Some(3), relation: None };
        for text in [english, german] {
            assert_eq!(BadPage::read(text), Some(page.clone()));
        }
        assert_eq!(page.place(), Some((5, 0, 16384)));
        let total = "file \"base/5/16384.1\" has a total of 7 checksum verification failures";
        assert_eq!(BadPage::read(total).and_then(|page| page.block), None);
    }

    #[test]
    fn only_the_complaint_of_damaged_data_is_one_of_pages() {
        let other = Complaint { code: "57014".to_owned(), ..said("canceled") };
        assert!(BadPage::of(&[], &other).is_err());
        let damaged = Complaint { code: DATA_CORRUPTED.to_owned(), ..said("checksum verification failure") };
        assert_eq!(BadPage::of(&[], &damaged).map(|pages| pages.len()), Ok(1));
    }
}
