//! How far the server may read WAL before it replays it.

use std::path::Path;

use serde_json::json;

use super::super::replay_plan::ReplayPlan;
use super::Recovering;
use crate::action::{ActionError, Files};
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::cluster::server::major;
use crate::actions::postgres::cluster::settings;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::fetching;
use crate::actions::postgres::restore::segment_cache::SegmentCache;
use crate::actions::postgres::stores::target::Goal;
use crate::pgformat::{Change, Major, SegmentName};

/// The setting (manual, "Recovery").
const PREFETCH: &str = "recovery_prefetch";

/// How far the server may read WAL before it replays it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As far as it likes.
    Ahead,
    /// No further than it replays: what is damaged behind the target would end it as soon as it is fetched.
    AsReplayed,
}

impl Reading {
    /// Says in the settings of a recovery how far its server reads, where it reads ahead at all; tells whether that was news.
    ///
    /// # Errors
    /// Fails when the settings cannot be read or written.
    pub(crate) fn tell(
        self,
        context: &RecoveryContext<'_>,
        files: &dyn Files,
        pgdata: &Path,
    ) -> Result<bool, ActionError> {
        let reads_ahead = Major::of_text(&major(files, pgdata)?).is_some_and(|major| major.has(Change::ReadAhead));
        if self == Self::Ahead || !reads_ahead {
            return Ok(false);
        }
        let auto = pgdata.join(settings::FILE);
        let bytes = files.read(&auto, 1 << 24).map_err(|error| cannot(&error))?;
        let text = settings::text_of(&bytes);
        if settings::last_value(&text, PREFETCH).as_deref() == Some("off") {
            return Ok(false);
        }
        let text = settings::within_block(&text, &[(PREFETCH.to_owned(), "off".to_owned())]);
        context.write(files, &auto, &text).map_err(|error| cannot(&error))?;
        Ok(true)
    }
}

impl Recovering<'_> {
    /// Has the server's user fetch a segment of the way. Behind a target one may be damaged that is never replayed: then the
    /// first of the way tells whether that user can fetch at all.
    pub(super) async fn try_out(
        &self,
        staged: &Path,
        (plan, reading): (&ReplayPlan, Reading),
        segment_cache: Option<&SegmentCache<'_>>,
    ) -> Result<Reading, ActionError> {
        let last = match reading {
            Reading::Ahead => plan.probe_segment(),
            Reading::AsReplayed => plan.first(),
        };
        let Some(last) = last else { return Ok(reading) };
        let asked = async |segment: SegmentName| {
            if let Some(segment_cache) = segment_cache {
                segment_cache.forget(segment);
            }
            fetching::try_out(&self.context, staged, segment).await
        };
        let Err(error) = asked(last).await else { return Ok(reading) };
        let Some(first) = plan.first().filter(|first| *first != last && plan.goal != Goal::Newest) else {
            return Err(error);
        };
        asked(first).await?;
        let message = format!(
            "`{last}`, the last segment of the way, cannot be fetched ({error}): a target in it is not reached"
        );
        self.context.cx.reporter.note(message, json!({ "segment": last.to_string() }));
        Ok(Reading::AsReplayed)
    }
}
