//! A segment of which the repository has only the beginning: a recovery that was given up had pushed it, and the old server
//! wrote on in it.
//!
//! pgBackRest gives no file up for another of the same name, and its own command that removes one is for people. So such a
//! recovery is refused, with every word of what to type.

use serde_json::json;

use super::repository::{Repository, Shelved};
use super::stanza::Stanza;
use crate::action::by_hand::command_line;
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::recovery::rescue::Tail;
use crate::actions::postgres::recovery::unacknowledged::{Acknowledgement, acknowledgements};
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::stores::archive::WalArchive;
use crate::pgformat::SegmentName;

/// What the old server was never told is archived, in pgBackRest's repositories.
pub(super) struct Remnants<'a> {
    /// The stanza.
    pub(super) stanza: &'a Stanza,
    /// The old data directory.
    pub(super) old: &'a Old,
    /// What it is worked with.
    pub(super) cx: &'a RunContext,
}

impl Remnants<'_> {
    /// Refuses a recovery from a repository that has only the beginning of a segment, and says what else is worth knowing.
    ///
    /// # Errors
    /// Fails where there is one, and when pgBackRest gives no answer. Nothing was touched then.
    pub(super) async fn refuse(&self, wal_archive: &WalArchive<'_>, tail: &Tail) -> Result<(), ActionError> {
        let files = self.cx.host.read_files();
        for (segment, path, standing) in acknowledgements(wal_archive, tail, files.as_ref()).await? {
            if let Some(remark) = standing.remark(segment) {
                self.cx.reporter.note(remark, json!({ "segment": segment.to_string() }));
            }
            if standing == Acknowledgement::GoesOn {
                let fact = format!(
                    "the repository has only the beginning of `{segment}`: the old server wrote on in it after a recovery \
                     that was given up"
                );
                let mut lines = self.removal(wal_archive, segment).await?;
                let options = [format!("--pg1-path={}", self.old.dir.display()), "--no-archive-async".to_owned()];
                lines.push(command_line(self.stanza.words(("archive-push", &options), &[&path.to_string_lossy()])));
                let help = format!(
                    "nothing was touched; take the beginning out of the repository and push the whole segment, as the \
                     server's user: `{}`",
                    lines.join(" && ")
                );
                return Err(ActionError::fatal(fact).help(help));
            }
        }
        Ok(())
    }

    /// What removes a segment from every repository that has it.
    async fn removal(&self, wal_archive: &WalArchive<'_>, segment: SegmentName) -> Result<Vec<String>, ActionError> {
        let standing = self.stanza.look(self.cx.host.as_read()).await?;
        let mut lines = Vec::new();
        for archive in standing.archives.iter().filter(|archive| archive.system_id == Some(wal_archive.system_id)) {
            let (system_id, size) = (wal_archive.system_id, wal_archive.size);
            let shelved = Shelved { id: archive.id.clone(), repo: archive.repo, system_id, size };
            let host = std::sync::Arc::clone(&self.cx.host) as _;
            let option = format!("--repo={}", archive.repo);
            for file in Repository::new(self.stanza, shelved, host, None).files_of(segment).await? {
                let words = self.stanza.words(("repo-rm", std::slice::from_ref(&option)), &[&file]);
                lines.push(command_line(words));
            }
        }
        Ok(lines)
    }
}
