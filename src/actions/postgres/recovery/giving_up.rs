//! A timeline that a recovery opened too early is given up, so that no later recovery takes it for the newest.
//!
//! By then the server has archived its history, and most often its first segment. It is noted in the stopped data directory,
//! which the next recovery finds as the old one, and in every store of the archive, for everybody else.

use serde_json::json;

use crate::action::{ActionError, Store};
use crate::actions::postgres::cluster::pg_control::control;
use crate::actions::postgres::restore::hands::Hands;
use crate::actions::postgres::restore::marker::Marker;
use crate::base::clock;
use crate::catalog::{GivenUp, GivenUpNote};
use crate::pgformat::Timeline;

/// Gives up the timeline of a stopped server, which left `parent`. Says what leads on from here, also where that could not
/// be noted.
pub(crate) async fn give_up(
    hands: &Hands<'_>,
    marker: &Marker,
    (timeline, parent): (Timeline, Timeline),
    why: &str,
) -> String {
    let lacking = match everywhere(hands, marker, timeline, why).await {
        Ok(lacking) => lacking,
        Err(error) => vec![error.to_string()],
    };
    match lacking.is_empty() {
        true => format!(
            "and recover again: timeline {timeline}, which began here, is noted as given up in the archive, so timeline \
             {parent} is followed again"
        ),
        false => format!(
            "and recover again with `timeline: {parent}` (`-p timeline={parent}`): timeline {timeline} began here, and that \
             it is given up could not be noted everywhere: {}",
            lacking.join(", ")
        ),
    }
}

/// Notes it in the data directory and in every store; gives the stores that lack it, with the reason.
async fn everywhere(
    hands: &Hands<'_>,
    marker: &Marker,
    timeline: Timeline,
    why: &str,
) -> Result<Vec<String>, ActionError> {
    let (files, pgdata) = (hands.cx.host.files(), &hands.cluster.pgdata);
    let given_up = GivenUp { timeline, until: control(files.as_ref(), pgdata)?.checkpoint };
    let marker = Marker { given_up: Some(given_up), ..marker.clone() };
    marker.write(files.as_ref(), pgdata, &hands.owner)?;
    let note = GivenUpNote { format: 1, run: hands.cx.about.run.to_string(), at: clock::now(), why: why.to_owned() };
    let mut lacking = Vec::new();
    for store in hands.stores() {
        if let Err(error) = noted(hands, store.as_ref(), (&marker, given_up), &note).await {
            lacking.push(format!("`{}` ({error})", store.name()));
        }
    }
    let message = format!("timeline {timeline} was opened too early and is given up");
    hands.cx.reporter.note(message, json!({ "timeline": timeline.0, "until": given_up.until.to_string() }));
    Ok(lacking)
}

async fn noted(
    hands: &Hands<'_>,
    store: &dyn Store,
    (marker, given_up): (&Marker, GivenUp),
    note: &GivenUpNote,
) -> Result<(), String> {
    if hands.entry(store).is_ok_and(|entry| entry.read_only) {
        return Err("it is read-only here".to_owned());
    }
    given_up.note(store, (hands.prefix, marker.system_id), note).await.map_err(|error| error.to_string())
}
