//! The backups there must be: what health is judged by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::file::InventoryFile;
use super::{Inventory, PgBackRest};
use crate::base::Timestamp;
use crate::base::age::Age;
use crate::base::cron::Cron;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::base::units::{Percent, Span};
use crate::base::zone::Zone;

/// The kinds that actions write.
const KINDS: [&str; 5] = ["postgres.base", "postgres.dump", "postgres.snapshot", "files", PgBackRest::KIND];

/// Whether a kind was meant to be one of ours. Files may be stored under any other name, such as `mysql.dump`.
fn is_mistyped(kind: &str) -> bool {
    let near = |known: &&str| strsim::damerau_levenshtein(kind, known) <= 2;
    !KINDS.contains(&kind) && (kind.is_empty() || kind.starts_with("postgres") || KINDS.iter().any(near))
}

/// A backup that is taken again and again, and what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectedBackup {
    /// What it is taken of: a database of the inventory, or the name its maker gives the data.
    pub source: String,
    /// Its kind: `postgres.base`, `postgres.dump`, `files`, `pgbackrest` …
    pub kind: String,
    /// Its tier; of any tier when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The store. Default: the database's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The prefix inside the store. Default: the database's, else the source's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How often one is taken. One of `every` and `cron`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// When one is taken: minute, hour, day, month, weekday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// The zone of `cron`. Default: that of `retention`, else `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<Zone>,
    /// How long one may take after it was due before it counts as missed. Default 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// Of dumps: the databases of the server that must have one, each as new as `max_age` says. Default: those that have one, and
    /// one whose dumps have grown old is a warning, since it may have been dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dbnames: Vec<String>,
    /// How old the newest may be: what is lost at worst without WAL. Older is critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// By how much its size may differ from the median of the ones before. Default `50%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size_change: Option<Percent>,
    /// How long ago a restore of one may have been proven. Not judged when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_proof_age: Option<Age>,
    /// How long ago the bytes of one may have been verified. Not judged when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_verification_age: Option<Age>,
    /// For how many more backups of the last one's size there must be room. Default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_room: Option<u32>,
    /// How long ago the newest WAL segment may have been archived. An idle server archives none, so this is only
    /// judged when it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wal_age: Option<Span>,
}

/// When a backup is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// That long after the one before.
    Every(Span),
    /// By the clocks of a zone.
    Cron(Cron, Zone),
}

impl Schedule {
    /// Gives the next time one is due after `last`, when one was taken or was due; `None` when never again.
    #[must_use]
    pub fn next_due(&self, last: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(span) => Some(crate::base::clock::after(last, span.0)),
            Self::Cron(cron, zone) => cron.next_due(last, zone.as_tz()),
        }
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Every(span) => write!(f, "every {span}"),
            Self::Cron(cron, zone) => write!(f, "`{cron}` {zone}"),
        }
    }
}

impl Inventory {
    /// The store and the prefix of what is expected; `None` when no store is named anywhere.
    #[must_use]
    pub fn place_of(&self, expected: &ExpectedBackup) -> Option<(String, String)> {
        let database = self.databases.get(&expected.source);
        let store = expected.store.clone().or_else(|| database.and_then(|entry| entry.store.clone()))?;
        let prefix = expected.prefix.clone().or_else(|| database.and_then(|entry| entry.prefix.clone()));
        Some((store, prefix.unwrap_or_else(|| expected.source.clone())))
    }

    /// When what is expected is due; `None` when nothing says.
    #[must_use]
    pub fn schedule_of(&self, expected: &ExpectedBackup) -> Option<Schedule> {
        let zone = || self.retention.as_ref().map(super::Retention::zone);
        let zone = expected.timezone.clone().or_else(zone).unwrap_or_default();
        let cron = expected.cron.clone().map(|cron| Schedule::Cron(cron, zone));
        cron.or_else(|| expected.every.map(Schedule::Every))
    }
}

impl InventoryFile {
    pub(super) fn expectations(&self, faults: &mut Diagnostics) {
        for (name, members) in &self.backups {
            let pointer = format!("/backups/{name}");
            if self.is_poisoned(&pointer) {
                continue;
            }
            for key in ["source", "kind"].iter().filter(|key| !members.contains_key(**key)) {
                let fault = Diagnostic::new(Code::MissingKey, format!("the key `{key}` is missing"))
                    .label(self.name_place(&pointer), format!("needs `{key}`"))
                    .help("write `{ source: orders, kind: postgres.base, every: 24h, max_age: 26h }`");
                faults.push(fault);
            }
            self.expected_members(&pointer, members, faults);
            self.is_somewhere(&pointer, members, faults);
        }
    }

    /// A source that is no database of the inventory needs a store of its own, and one of pgBackRest a stanza.
    fn is_somewhere(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        let source = members.get("source").and_then(Value::as_str).unwrap_or_default();
        let database = self.databases.get(source);
        if members.get("kind").and_then(Value::as_str) == Some(PgBackRest::KIND) {
            if !database.is_some_and(|db| db.contains_key("pgbackrest")) {
                let fault = Diagnostic::new(Code::MissingKey, format!("no database `{source}` has a stanza"))
                    .label(self.name_place(pointer), "is looked for in pgBackRest");
                faults.push(fault.help("give the database of that name `pgbackrest: { stanza: NAME }`"));
            }
            self.is_judged(pointer, members, faults);
            return;
        }
        if source.is_empty() || members.contains_key("store") || database.is_some_and(|db| db.contains_key("store")) {
            return;
        }
        let fault =
            Diagnostic::new(Code::MissingKey, format!("nothing says in which store the backups of `{source}` lie"))
                .label(self.name_place(pointer), "needs `store`");
        faults.push(fault.help("add `store: NAME`, or give the database of that name a `store`"));
    }

    /// Warns of what is never judged of a backup of pgBackRest: nothing is noted beside it.
    fn is_judged(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        for key in ["max_proof_age", "max_verification_age"].into_iter().filter(|key| members.contains_key(*key)) {
            let what = format!("`{key}` is not judged of backups of pgBackRest: nothing is noted beside them");
            let fault = Diagnostic::new(Code::BadCombination, what).at(self.place(&format!("{pointer}/{key}")));
            let help = "remove it; `runbook status` says when the last drill was, and `pgbackrest verify` reads the repository";
            faults.push(fault.as_warning().help(help));
        }
    }

    pub(super) fn expected_members(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        if let Some(kind) = members.get("kind").and_then(Value::as_str).filter(|kind| is_mistyped(kind)) {
            let place = self.place(&format!("{pointer}/kind"));
            let fault = Diagnostic::new(Code::UnknownValue, format!("no backup is of the kind `{kind}`")).at(place);
            faults.push(fault.as_warning().suggest(kind, KINDS));
        }
        if let Some(store) = members.get("store").and_then(Value::as_str) {
            self.known(Code::UnknownStore, store, &format!("{pointer}/store"), faults);
        }
        if members.contains_key("every") && members.contains_key("cron") {
            let fault = Diagnostic::new(Code::BadCombination, "an expected backup takes only one of `every`, `cron`")
                .label(self.place(&format!("{pointer}/cron")), "excludes the other")
                .label(self.place(&format!("{pointer}/every")), "given here");
            faults.push(fault.help("remove one of them"));
        }
    }
}
