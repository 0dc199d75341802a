//! How the server of a throw-away cluster is housed: what it may preload, how much it may take from its machine.
//!
//! A side instance runs on the machine of the database it was taken from: it is not to be felt there.

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings;
use crate::action::{CommandSpec, ReadFiles, ReadHost};
use crate::base::units::ByteSize;

/// Shared memory of a server that nothing else is said of.
const SHARED_BUFFERS: &str = "32MB";

/// Libraries that act by themselves as soon as they are loaded: run jobs, connect, replicate.
const ACTING: [&str; 11] = [
    "bdr",
    "citus",
    "pg_auto_failover",
    "pg_background",
    "pg_cron",
    "pg_net",
    "pg_partman_bgw",
    "pg_squeeze",
    "pgautofailover",
    "pglogical",
    "repmgr",
];

/// How much of its machine a side instance takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// `nice` 10, and the lowest priority of its disk class: production goes first.
    #[default]
    Low,
    /// As every other program.
    Normal,
}

/// How a throw-away server is housed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScratchSettings {
    /// Libraries that are preloaded.
    pub(crate) preload: Vec<String>,
    /// Its shared memory; `None`: 32 MB.
    pub(crate) shared_buffers: Option<ByteSize>,
    /// How much address space each of its processes may take; `None`: no limit.
    pub(crate) memory: Option<ByteSize>,
    /// How much of its machine it takes.
    pub(crate) priority: Priority,
}

impl Default for ScratchSettings {
    /// A drill's: it measures how fast a recovery is, so nothing slows it down.
    fn default() -> Self {
        Self { preload: Vec::new(), shared_buffers: None, memory: None, priority: Priority::Normal }
    }
}

impl ScratchSettings {
    /// The value of `shared_buffers`.
    pub(crate) fn shared_buffers(&self) -> String {
        self.shared_buffers.map_or_else(|| SHARED_BUFFERS.to_owned(), |size| format!("{}kB", size.0 / 1024))
    }

    /// Puts what limits a program in front of it, as far as the host has it.
    pub(crate) fn around(&self, spec: CommandSpec, host: &dyn ReadHost) -> CommandSpec {
        let has = |program: &str| host.find_program(program).is_some();
        let mut words: Vec<String> = Vec::new();
        match self.priority {
            Priority::Normal => {}
            Priority::Low => {
                if has("nice") {
                    words.extend(["nice", "-n", "10"].map(str::to_owned));
                }
                if has("ionice") {
                    words.extend(["ionice", "-t", "-c", "2", "-n", "7"].map(str::to_owned));
                }
            }
        }
        if let Some(limit) = self.memory.filter(|_| has("prlimit")) {
            words.extend(["prlimit".to_owned(), format!("--as={}", limit.0)]);
        }
        let mut words = words.into_iter();
        let Some(first) = words.next() else { return spec };
        let args = words.chain(std::iter::once(spec.program)).chain(spec.args).collect();
        CommandSpec { program: first, args, ..spec }
    }

    /// Says which of these limits the host cannot keep.
    pub(crate) fn unkept(&self, host: &dyn ReadHost) -> Vec<&'static str> {
        let mut wanted = Vec::new();
        match self.priority {
            Priority::Normal => {}
            Priority::Low => wanted.extend(["nice", "ionice"]),
        }
        wanted.extend(self.memory.map(|_| "prlimit"));
        wanted.into_iter().filter(|program| host.find_program(program).is_none()).collect()
    }
}

/// Tells whether a library acts by itself when it is preloaded. The server reads the text as a list: so does this.
pub(crate) fn acts(libraries: &str) -> bool {
    names(libraries).any(|library| ACTING.iter().any(|acting| acting.eq_ignore_ascii_case(library)))
}

/// The libraries that the configuration in a data directory preloads, by name. Where the configuration lies
/// elsewhere, only what `ALTER SYSTEM` set is seen.
pub(crate) fn preloaded(files: &dyn ReadFiles, pgdata: &std::path::Path) -> Vec<String> {
    let mut value = String::new();
    for name in ["postgresql.conf", "postgresql.auto.conf"] {
        let bytes = files.read(&pgdata.join(name), 1 << 24).unwrap_or_default();
        if let Some(found) = settings::last_value(&String::from_utf8_lossy(&bytes), "shared_preload_libraries") {
            value = found;
        }
    }
    names(&value).map(str::to_owned).collect()
}

/// The libraries of a list as the server reads it: between commas, blanks around them, in quotes or not.
fn names(list: &str) -> impl Iterator<Item = &str> {
    let bare = list.split(',').map(|word| word.trim_matches(|one: char| one == '"' || one.is_whitespace()));
    bare.map(name_of).filter(|name| !name.is_empty())
}

fn name_of(library: &str) -> &str {
    let file = library.rsplit('/').next().unwrap_or(library);
    [".so", ".dylib"].iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_known_by_its_name_wherever_it_lies() {
        assert!(acts("$libdir/pg_cron") && acts("pg_cron.so"));
        assert!(!acts("pg_stat_statements"));
    }

    #[test]
    fn a_library_is_known_however_the_list_it_stands_in_is_written() {
        for list in
            ["pg_stat_statements, pg_cron", "\"pg_cron\"", " pg_cron ", "\" $libdir/pg_cron.so\"\t,x", "PG_CRON"]
        {
            assert!(acts(list), "{list}");
        }
        assert!(!acts("pg_stat_statements, auto_explain") && !acts("pg_cron_like") && !acts(""));
    }

    #[test]
    fn a_drill_is_as_fast_as_the_real_recovery_that_it_measures() {
        assert_eq!(ScratchSettings::default().priority, Priority::Normal);
        assert_eq!(ScratchSettings::default().shared_buffers(), "32MB");
    }
}
