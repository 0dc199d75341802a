//! Uploads that a lost answer leaves behind: the server began one, nobody heard of it, the request was sent again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::abort::Abort;
use super::error::Verdict;
use super::resume::{begun, parts};
use super::session::Session;

/// Counts how often one request is sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<AtomicU32>);

impl Attempts {
    /// What the refusal of a request that ends an upload amounts to: an earlier attempt may have ended it unheard, and
    /// servers differ in how they refuse what is not there any more.
    pub(super) fn judge(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Denied | Verdict::Unsupported | Verdict::Lasting if self.several() => Verdict::NoUpload,
            Verdict::Absent
            | Verdict::NoUpload
            | Verdict::Condition
            | Verdict::Conflict
            | Verdict::Archived
            | Verdict::Denied
            | Verdict::Unsupported
            | Verdict::Range
            | Verdict::Passing
            | Verdict::Lasting => verdict,
        }
    }

    /// Whether it was sent more than once.
    pub(super) fn several(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Uploads of an object that came while ours was begun, and may be ours as well.
#[derive(Debug, Default)]
pub(super) struct Orphans(Vec<String>);

impl Orphans {
    /// Looks for them: all that were not there before and are not the one whose id is known.
    pub(super) async fn found(session: &Session, object: &str, (before, own): (&BTreeSet<String>, &str)) -> Self {
        let ids = begun(session, object).await.into_iter().filter_map(|upload| upload.upload_id);
        Self(ids.filter(|id| id != own && !before.contains(id)).collect())
    }

    /// Aborts those that have no part to this day: nobody goes on with them. Another writer's has some by now.
    pub(super) async fn abort(self, session: &Arc<Session>, object: &str) {
        for id in self.0 {
            if parts(session, object, &id).await.is_ok_and(|parts| parts.is_empty()) {
                Abort::of(Arc::clone(session), object, &id).now().await;
            }
        }
    }
}
