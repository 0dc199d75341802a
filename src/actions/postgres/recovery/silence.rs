//! Stores that give no answer while a recovery runs or waits: which ones they are, and how it goes on without them.

use serde_json::json;

use crate::action::{ActionError, Files, RunContext};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::fetching;
use crate::actions::postgres::restore::marker::Marker;
use crate::event::ErrorClass;
use crate::pgformat::SegmentName;

/// Has the server of a recovery fetch from the stores that the inventory names now. Where that cannot be told, it fetches as
/// before.
///
/// # Errors
/// Fails when its settings cannot be written.
pub(crate) fn leave_out(context: &RecoveryContext<'_>, marker: &Marker, files: &dyn Files) -> Result<(), ActionError> {
    let reporter = &context.cx.reporter;
    match fetching::renew(context, marker.system_id, files) {
        Ok(false) => {}
        Ok(true) => {
            let message = "the server fetches its WAL from the stores that the inventory names now".to_owned();
            reporter.note(message, json!({ "stores": context.stores().map(|store| store.name()).collect::<Vec<_>>() }));
        }
        Err(error) if error.info().class == ErrorClass::Cancelled => return Err(error),
        Err(error) => {
            let message =
                format!("warning: the server fetches its WAL by the inventory of before: {}", error.in_full());
            reporter.note(message, json!({ "causes": error.info().causes }));
        }
    }
    Ok(())
}

/// Adds to the end of a server which stores give no answer, and what leads on.
///
/// # Errors
/// Fails as what was followed did.
pub(crate) async fn told<T>(
    context: &RecoveryContext<'_>,
    marker: &Marker,
    followed: Result<T, ActionError>,
) -> Result<T, ActionError> {
    let error = match followed {
        Err(error) if error.info().class != ErrorClass::Cancelled && !context.cluster.is_scratch() => error,
        followed => return followed,
    };
    let first = SegmentName::holding(marker.timeline, marker.start, marker.segment_size);
    let wal_archive = context.wal_archive(marker);
    let silent: Vec<String> = wal_archive
        .silent(first)
        .await
        .into_iter()
        .map(|(name, why)| format!("`{name}` ({})", why.in_full()))
        .collect();
    if silent.is_empty() {
        return Err(error);
    }
    let before = error.info().help.as_ref().map_or_else(String::new, |help| format!("{help}; "));
    let (name, again) = (&context.cluster.name, again(context.cx));
    Err(error.help(format!(
        "{before}no answer comes from store {}: bring it back, or take it out of `wal_stores` of `{name}` in the inventory if \
         another store has all of its WAL; then {again}",
        silent.join(", ")
    )))
}

/// The command that goes on with the recovery of a step, in words.
pub(crate) fn again(cx: &RunContext) -> String {
    let (run, step) = (&cx.about.run, cx.step.to_string());
    let step = step.split('/').next().unwrap_or_default();
    format!(
        "the same command as before with `--from {step} --of {run}` goes on from here, and nothing is restored again"
    )
}
