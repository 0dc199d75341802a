//! Takes back an upload that will not be finished: its parts would be stored, and paid for, for ever.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::CompletedPart;

use super::error::{Verdict, verdict};
use super::flight::Flight;
use super::session::Session;
use crate::action::StoreError;
use crate::store::deferred_cleanup::deferred_cleanup;

/// A part that was on its way may arrive after the abort, so it is looked whether anything is left.
const TRIES: u32 = 3;

/// How long the parts on their way are waited for when the upload is dropped: one that the server takes after the abort
/// stays with no upload to abort it by. Shorter than the end of a program waits for all of this.
const PARTS_PATIENCE: Duration = Duration::from_secs(5);

/// Aborts an upload when it is dropped before it [`Self::done`].
pub(super) struct Abort {
    upload: Option<Upload>,
    flight: Flight<CompletedPart>,
}

struct Upload {
    session: Arc<Session>,
    object: String,
    id: String,
}

impl Abort {
    pub(super) fn of(session: Arc<Session>, object: &str, id: &str) -> Self {
        let upload = Upload { session, object: object.to_owned(), id: id.to_owned() };
        Self { upload: Some(upload), flight: Flight::default() }
    }

    /// The parts on their way.
    pub(super) fn flight(&mut self) -> &mut Flight<CompletedPart> {
        &mut self.flight
    }

    /// Nothing is left to abort.
    pub(super) fn done(mut self) {
        self.upload = None;
    }

    /// Aborts once nothing is on its way any more, and waits for it. Dropped before its end, it goes on beside.
    pub(super) async fn now(self) {
        warned(self.tried().await);
    }

    /// The same, and tells what keeps the parts.
    ///
    /// # Errors
    /// Fails as the store does: the parts stay.
    pub(super) async fn tried(mut self) -> Result<(), StoreError> {
        self.flight.idle().await;
        let aborted = match &self.upload {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        };
        self.upload = None;
        aborted
    }
}

impl Upload {
    async fn abort(&self) -> Result<(), StoreError> {
        let client = self.session.client();
        for _ in 0..TRIES {
            let abort = client.abort_multipart_upload().bucket(self.session.bucket());
            match abort.key(&self.object).upload_id(&self.id).send().await {
                Ok(_) => {}
                Err(error) if matches!(verdict(&error), Verdict::Absent | Verdict::NoUpload) => return Ok(()),
                Err(error) => {
                    let asked = self.session.asked(&self.object, "abort the upload of", "s3:AbortMultipartUpload");
                    return Err(asked.failed(&error));
                }
            }
            let parts = client.list_parts().bucket(self.session.bucket()).key(&self.object).upload_id(&self.id);
            if parts.send().await.map_or(true, |left| left.parts().is_empty()) {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn warned(aborted: Result<(), StoreError>) {
    if let Err(error) = aborted {
        tracing::warn!("{error}; its parts stay until a lifecycle rule removes them");
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        let mut flight = std::mem::take(&mut self.flight);
        deferred_cleanup(async move {
            // Those that take longer are ended, as far as the server does not have them already.
            let _late = tokio::time::timeout(PARTS_PATIENCE, flight.idle()).await;
            drop(flight);
            warned(upload.abort().await);
        });
    }
}
