//! Retrieves objects from archived classes: a readable copy for some days.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{GlacierJobParameters, RestoreRequest, Tier};

use super::error::{Verdict, verdict};
use super::session::Session;
use crate::action::{ObjectKey, StoreError};
use crate::language::inventory::RetrievalSpeed;

/// Asks for a readable copy. What is under way already, or needs no retrieval, is no error.
pub(super) async fn retrieve(
    session: &Session,
    key: &ObjectKey,
    (speed, days): (RetrievalSpeed, u32),
) -> Result<(), StoreError> {
    let object = session.object(key);
    let asked = session.asked(&object, "retrieve", "s3:RestoreObject");
    let tier = match speed {
        RetrievalSpeed::Expedited => Tier::Expedited,
        RetrievalSpeed::Standard => Tier::Standard,
        RetrievalSpeed::Bulk => Tier::Bulk,
    };
    let job = GlacierJobParameters::builder().tier(tier).build().map_err(|error| session.refused(error.to_string()))?;
    let days = i32::try_from(days).map_err(|_| session.refused(format!("{days} days are too many")))?;
    let wanted = RestoreRequest::builder().days(days).glacier_job_parameters(job).build();
    let request = session.client().restore_object().bucket(session.bucket()).key(&object).restore_request(wanted);
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error) => match (verdict(&error), error.code()) {
            (_, Some("RestoreAlreadyInProgress")) => Ok(()),
            (Verdict::Absent, _) => Err(session.absent(key).await),
            // The answer for an object that can be read without.
            (Verdict::Archived, _) => Ok(()),
            (_, Some("GlacierExpeditedRetrievalNotAvailable")) => {
                let words = "the server has no room for expedited retrievals now: take `tier: standard`";
                Err(asked.unavailable(std::io::Error::other(words)))
            }
            (_, _) => Err(asked.failed(&error)),
        },
    }
}
