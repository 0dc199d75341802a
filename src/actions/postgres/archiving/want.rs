//! What the settings of an archiving server are to be.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::params::ConfigureArchivingParams;
use crate::action::ParamFault;
use crate::base::units::{ByteSize, Span};

/// A failed try of `archive_command` is made again after this long at the latest (`pgarch.c`).
const RETRY: Duration = Duration::from_secs(60);
/// The server counts in seconds; zero would switch it off.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);
/// Senders that a base backup with streamed WAL, a second one and a standby take.
const SENDERS: u32 = 4;

/// How the server spreads its checkpoints. What is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointTuning {
    /// The most time between two checkpoints (`checkpoint_timeout`).
    #[serde(default)]
    pub timeout: Option<Span>,
    /// How much WAL may come between two of them (`max_wal_size`).
    #[serde(default)]
    pub max_wal_size: Option<ByteSize>,
    /// Over what share of that time a checkpoint is spread (`checkpoint_completion_target`), 0 to 1.
    #[serde(default)]
    pub completion_target: Option<f64>,
}

/// How a wanted value is held against the one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// It must be this one.
    Exactly,
    /// A larger number is as good.
    AtLeast,
    /// Any of these is as good: the first is what is set.
    OneOf(&'static [&'static str]),
}

/// A wanted setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: &'static str,
    /// In the unit of `pg_settings`, without it.
    pub(super) value: String,
    pub(super) rule: Rule,
}

/// Refuses an `archive_timeout` that cannot keep the promise of the database's entry, or a smaller one that was asked
/// for: a segment is handed over after it, and may have to be handed over again.
pub(super) fn keeps_promise(params: &ConfigureArchivingParams, of_entry: Option<Span>) -> Result<(), ParamFault> {
    let timeout = params.archive_timeout.0;
    if timeout < LEAST_TIMEOUT || timeout.subsec_nanos() != 0 {
        let fact = format!(
            "`archive_timeout: {}` is not possible: the server counts whole seconds, and zero switches it off; at least 1s is \
             wanted",
            params.archive_timeout
        );
        return Err(ParamFault::new("/archive_timeout", fact));
    }
    let Some(Span(rpo)) = params.rpo.into_iter().chain(of_entry).min() else { return Ok(()) };
    if timeout + RETRY <= rpo {
        return Ok(());
    }
    let most = rpo.checked_sub(RETRY).filter(|most| *most >= LEAST_TIMEOUT);
    let advice = match most {
        Some(most) => format!("make it at most {}", Span(most)),
        None => "no archive keeps it: use a standby that streams".to_owned(),
    };
    let fact = format!(
        "`archive_timeout: {}` cannot meet an RPO of {}: a failed try is made again after up to {}; {advice}",
        params.archive_timeout,
        Span(rpo),
        Span(RETRY)
    );
    Err(ParamFault::new("/archive_timeout", fact))
}

/// What is wanted of a server.
pub(super) fn wanted(params: &ConfigureArchivingParams, command: &str) -> Vec<Wanted> {
    let of = |name, value: String, rule| Wanted { name, value, rule };
    let exactly = |name, value: String| of(name, value, Rule::Exactly);
    let mut wanted = vec![
        of("wal_level", "replica".to_owned(), Rule::OneOf(&["replica", "logical"])),
        of("archive_mode", "on".to_owned(), Rule::OneOf(&["on", "always"])),
        exactly("archive_library", String::new()),
        exactly("archive_command", command.to_owned()),
        exactly("archive_timeout", params.archive_timeout.0.as_secs().to_string()),
        of("max_wal_senders", params.max_wal_senders.unwrap_or(SENDERS).to_string(), Rule::AtLeast),
    ];
    let megabytes = |size: ByteSize| (size.0 >> 20).to_string();
    wanted.extend(params.wal_keep_size.map(|size| exactly("wal_keep_size", megabytes(size))));
    if let Some(tuning) = &params.checkpoint {
        wanted.extend(tuning.timeout.map(|span| exactly("checkpoint_timeout", span.0.as_secs().to_string())));
        wanted.extend(tuning.max_wal_size.map(|size| exactly("max_wal_size", megabytes(size))));
        wanted.extend(tuning.completion_target.map(|share| exactly("checkpoint_completion_target", share.to_string())));
    }
    wanted
}
