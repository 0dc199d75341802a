//! What differs between a server's settings and what is wanted of them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::want::{Rule, Wanted};
use crate::action::ActionError;
use crate::actions::postgres::session::connect::Session;

/// A setting that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingChange {
    /// Its name.
    pub name: String,
    /// What it is.
    pub from: String,
    /// What it becomes, in the unit the server shows.
    pub to: String,
    /// Whether it counts only from the next start of the server.
    pub restart: bool,
}

impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| if text.is_empty() { "''".to_owned() } else { text.to_owned() };
        let when = if self.restart { ", from the next start" } else { "" };
        write!(f, "`{}`: {} → {}{when}", self.name, quoted(&self.from), quoted(&self.to))
    }
}

/// A setting as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Current {
    /// In the unit of `pg_settings`.
    pub(super) value: String,
    pub(super) unit: String,
    /// When it can be changed.
    pub(super) context: String,
    /// Where it comes from.
    pub(super) source: String,
    pub(super) pending_restart: bool,
    /// What `ALTER SYSTEM` has set; `None` when it has set nothing.
    pub(super) altered: Option<String>,
}

/// The settings of a server, by name.
pub(super) type Settings = BTreeMap<String, Current>;

/// Asks a server for its settings.
///
/// # Errors
/// Fails as the server does.
pub(super) async fn read(session: &mut Session, names: &[&str]) -> Result<Settings, ActionError> {
    if names.is_empty() {
        return Ok(Settings::new());
    }
    let list: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let table = session
        .query(&format!(
            "SELECT s.name, s.setting, coalesce(s.unit, ''), s.context, s.source, s.pending_restart, \
             (SELECT f.setting FROM pg_file_settings f WHERE f.name = s.name AND f.sourcefile LIKE '%/postgresql.auto.conf' \
             ORDER BY f.seqno DESC LIMIT 1) FROM pg_settings s WHERE s.name IN ({})",
            list.join(", ")
        ))
        .await?;
    let own = |cell: &Option<String>| cell.clone().unwrap_or_default();
    let mut settings = Settings::new();
    for row in &table.rows {
        let [name, value, unit, context, source, pending, altered] = row.as_slice() else { continue };
        settings.insert(
            own(name),
            Current {
                value: own(value),
                unit: own(unit),
                context: own(context),
                source: own(source),
                pending_restart: pending.as_deref() == Some("t"),
                altered: altered.clone(),
            },
        );
    }
    Ok(settings)
}

/// Compares; settings that the server's version does not have are left out.
pub(super) fn changes(wanted: &[Wanted], settings: &Settings) -> Vec<SettingChange> {
    let differing = wanted.iter().filter_map(|wanted| {
        let current = settings.get(wanted.name)?;
        // What was set already and waits for a restart is a change still.
        let is_there = is_met(wanted, &current.value) && !current.pending_restart;
        (!is_there).then(|| SettingChange {
            name: wanted.name.to_owned(),
            from: current.value.clone(),
            to: wanted.value.clone(),
            restart: current.context == "postmaster",
        })
    });
    differing.collect()
}

fn is_met(wanted: &Wanted, value: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    match wanted.rule {
        Rule::Exactly => {
            value == wanted.value || number(value).is_some_and(|value| Some(value) == number(&wanted.value))
        }
        Rule::AtLeast => number(value).zip(number(&wanted.value)).is_some_and(|(there, wanted)| there >= wanted),
        Rule::OneOf(any) => any.contains(&value),
    }
}

/// The settings that only another place can change: the server's command line stands above `ALTER SYSTEM`.
pub(super) fn fixed_elsewhere(changes: &[SettingChange], settings: &Settings) -> Vec<String> {
    let fixed = |change: &&SettingChange| {
        settings.get(&change.name).is_some_and(|current| matches!(current.source.as_str(), "command line" | "override"))
    };
    changes.iter().filter(fixed).map(|change| change.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &'static str, value: &str, rule: Rule) -> Wanted {
        Wanted { name, value: value.to_owned(), rule }
    }

    fn settings(entries: &[(&str, &str, &str)]) -> Settings {
        let current = |(name, value, context): &(&str, &str, &str)| {
            let current = Current { value: (*value).into(), context: (*context).into(), ..Current::default() };
            ((*name).to_owned(), current)
        };
        entries.iter().map(current).collect()
    }

    #[test]
    fn only_what_differs_is_changed_and_a_restart_is_said() {
        let wants = [
            wanted("wal_level", "replica", Rule::OneOf(&["replica", "logical"])),
            wanted("archive_mode", "on", Rule::OneOf(&["on", "always"])),
            wanted("archive_timeout", "60", Rule::Exactly),
            wanted("max_wal_senders", "4", Rule::AtLeast),
            wanted("archive_library", "", Rule::Exactly),
        ];
        let there = settings(&[
            ("wal_level", "logical", "postmaster"),
            ("archive_mode", "off", "postmaster"),
            ("archive_timeout", "0", "sighup"),
            ("max_wal_senders", "10", "postmaster"),
        ]);
        let found: Vec<(String, bool)> =
            changes(&wants, &there).into_iter().map(|change| (change.name, change.restart)).collect();
        assert_eq!(found, [("archive_mode".to_owned(), true), ("archive_timeout".to_owned(), false)]);
    }

    #[test]
    fn a_value_that_waits_for_a_restart_is_not_there_yet() {
        let mut there = settings(&[("archive_mode", "on", "postmaster")]);
        let wants = [wanted("archive_mode", "on", Rule::Exactly)];
        assert!(changes(&wants, &there).is_empty());
        there.values_mut().for_each(|current| current.pending_restart = true);
        assert_eq!(changes(&wants, &there).len(), 1);
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!(is_met(&wanted("checkpoint_completion_target", "0.9", Rule::Exactly), "0.90"));
        assert!(!is_met(&wanted("archive_timeout", "60", Rule::Exactly), "600"));
    }
}
