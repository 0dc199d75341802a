//! The freeze of what a real recovery rests on, in the stores themselves (facts 2.10.22).

use serde_json::json;

use super::hands::Hands;
use crate::base::clock;
use crate::catalog::freeze::{FreezeNote, freeze};

/// Freezes the database's place in every store that it is recovered from. A store that may only be read, or that cannot
/// be written to now, is no reason not to recover: it is told, since nothing but people keeps its backups then.
pub(crate) async fn begin(hands: &Hands<'_>) {
    let about = &hands.cx.about;
    let note = FreezeNote {
        format: 1,
        run: about.run.to_string(),
        database: hands.cluster.name.clone(),
        environment: about.environment.clone(),
        since: clock::now(),
        lifted: None,
    };
    for store in hands.stores() {
        let name = store.as_read().name().to_owned();
        let is_read_only = hands.entry(store.as_ref()).is_ok_and(|entry| entry.read_only);
        let why = match is_read_only {
            true => "it is read-only here".to_owned(),
            false => match freeze(store.as_ref(), hands.prefix, &note).await {
                Ok(()) => continue,
                Err(error) => std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string),
            },
        };
        let message = format!(
            "warning: the backups under `{}` in store `{name}` could not be frozen ({why}): stop whatever prunes or moves \
             them by hand, in every environment, until the recovery is over",
            hands.prefix
        );
        hands.cx.reporter.note(message, json!({ "store": name, "prefix": hands.prefix, "frozen": false }));
    }
}
