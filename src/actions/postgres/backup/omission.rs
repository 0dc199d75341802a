//! What a server warns of while it sends a base backup: above all what it leaves out.
//!
//! PostgreSQL follows no link in its data directory but those of `pg_tblspc` and `pg_wal`. It warns of every other one,
//! sends the rest and ends well (`sendDir` in `basebackup.c`). Data that is left out so is in no backup and comes back by no
//! WAL, so such a backup is none.

use std::path::{Path, PathBuf};

use super::replication::Complaint;
use crate::action::{ActionError, RunContext};

/// How many warnings are told one by one; a disk that is failing has one for every page.
const TOLD: usize = 50;
/// The function of the server's source that leaves something out.
const SENDS_FOLDERS: &str = "sendDir";
/// What it says then where nobody translates it; for servers that tell no function.
const SKIPPING: &str = "skipping special file";
/// The severity of a warning, in any language.
const WARNING: &str = "WARNING";
/// What closes a path in some language's message.
const CLOSING: [char; 7] = ['"', '\'', '»', '«', '”', '“', '’'];
/// What of a data directory is PostgreSQL's data: no server runs without it, and nobody else can bring it back.
const DATA: [&str; 9] = [
    "base",
    "global",
    "pg_tblspc",
    "pg_xact",
    "pg_multixact",
    "pg_commit_ts",
    "pg_logical",
    "pg_twophase",
    "PG_VERSION",
];

/// Something that a server left out of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Omission {
    /// Data, by the path that the server tells.
    Data(PathBuf),
    /// Anything else, by its path below the data directory: configuration, logs, sockets.
    Other(PathBuf),
}

impl Omission {
    /// Reads a warning in whatever language the server speaks; `None` for one of something else.
    fn read(warning: &Complaint) -> Option<Self> {
        if warning.routine != SENDS_FOLDERS && !warning.message.contains(SKIPPING) {
            return None;
        }
        let message = &warning.message;
        let begins = message.find('/')?;
        let begins = if message[..begins].ends_with('.') { begins - 1 } else { begins };
        let rest = &message[begins..];
        let path = rest.rfind(CLOSING).map_or(rest, |end| &rest[..end]).trim_end();
        Some(match path.strip_prefix("./") {
            // The folder of a tablespace: it holds nothing but data.
            None => Self::Data(PathBuf::from(path)),
            Some(own) if is_data(Path::new(own)) => Self::Data(PathBuf::from(own)),
            Some(own) => Self::Other(PathBuf::from(own)),
        })
    }
}

/// Whether a path below the data directory is of PostgreSQL's data.
fn is_data(own: &Path) -> bool {
    own.components().next().is_some_and(|top| DATA.iter().any(|name| top.as_os_str() == *name))
}

/// The warnings of one backup.
pub(crate) struct Warnings<'a> {
    cx: &'a RunContext,
    heard: usize,
    told: usize,
    left_out: Vec<PathBuf>,
}

impl<'a> Warnings<'a> {
    /// None yet.
    pub(crate) fn of(cx: &'a RunContext) -> Self {
        Self { cx, heard: 0, told: 0, left_out: Vec::new() }
    }

    /// Tells what is new among all warnings so far.
    ///
    /// # Errors
    /// Fails when the server leaves out data.
    pub(crate) fn hear(&mut self, all: &[Complaint]) -> Result<(), ActionError> {
        let news = all.get(self.heard..).unwrap_or_default();
        self.heard = all.len();
        let mut missing: Vec<PathBuf> = Vec::new();
        for warning in news.iter().filter(|said| said.severity.is_empty() || said.severity == WARNING) {
            match Omission::read(warning) {
                Some(Omission::Data(path)) => missing.push(path),
                Some(Omission::Other(path)) => self.left_out.push(path),
                None => {}
            }
            self.tell(warning);
        }
        missing.first().map_or(Ok(()), |first| Err(incomplete(first, missing.len() - 1)))
    }

    /// What was left out that is no data, by its path below the data directory.
    pub(crate) fn left_out(self) -> Vec<PathBuf> {
        self.left_out
    }

    fn tell(&mut self, warning: &Complaint) {
        self.told += 1;
        let message = match self.told {
            ..=TOLD => format!("the server warns: {}", warning.message),
            told if told == TOLD + 1 => "the server warns of more, which is not told here: see its log".to_owned(),
            _ => return,
        };
        let data = serde_json::json!({ "code": warning.code, "routine": warning.routine });
        self.cx.reporter.note(message, data);
    }
}

/// The error of a backup that lacks data.
fn incomplete(first: &Path, others: usize) -> ActionError {
    let more = if others > 0 { format!(" and {others} others") } else { String::new() };
    let fact = format!(
        "PostgreSQL leaves `{}`{more} out of every base backup: a link, or no file of its own, stands in its place",
        first.display()
    );
    ActionError::fatal(fact).help(
        "what it leads to was in no base backup so far. Stop the server, remove the link and move the file itself back into its place; \
         what is to lie on another disk belongs into a tablespace (`ALTER TABLE … SET TABLESPACE …`). `find PGDATA/base PGDATA/global \
         PGDATA/pg_xact -type l` names all of them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str, routine: &str) -> Option<Omission> {
        let warning = Complaint { message: message.to_owned(), routine: routine.to_owned(), ..Complaint::default() };
        Omission::read(&warning)
    }

    fn data(path: &str) -> Option<Omission> {
        Some(Omission::Data(PathBuf::from(path)))
    }

    fn other(path: &str) -> Option<Omission> {
        Some(Omission::Other(PathBuf::from(path)))
    }

    #[test]
    fn what_is_left_out_is_read_in_any_language() {
        for text in [
            "skipping special file \"./base/5/25574\"",
            "überspringe besondere Datei »./base/5/25574«",
            "ignore le fichier spécial « ./base/5/25574 »",
            "スペシャルファイル\"./base/5/25574\"をスキップしています",
        ] {
            assert_eq!(said(text, "sendDir"), data("base/5/25574"), "{text}");
        }
        assert_eq!(said("skipping special file \"./pg_xact\"", ""), data("pg_xact"), "a server that tells no function");
        assert_eq!(said("could not do \"./base/5/25574\"", "sendFile"), None);
    }

    #[test]
    fn data_is_told_from_what_somebody_else_can_bring_back() {
        let skipped = |path: &str| said(&format!("skipping special file \"{path}\""), "sendDir");
        assert_eq!(skipped("/disk 2/ts/PG_15_202209061/5/24"), data("/disk 2/ts/PG_15_202209061/5/24"));
        assert_eq!(skipped("./pg_multixact/offsets"), data("pg_multixact/offsets"));
        assert_eq!(skipped("./pg_hba.conf"), other("pg_hba.conf"));
        assert_eq!(skipped("./conf.d/it's \"one\".conf"), other("conf.d/it's \"one\".conf"));
        assert_eq!(skipped("./.s.PGSQL.5432"), other(".s.PGSQL.5432"));
        assert_eq!(skipped("./base.conf"), other("base.conf"));
    }
}
