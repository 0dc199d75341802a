//! What S3 answers, said so that a person knows what to do, and sorted into passing and lasting failures.

use std::error::Error;
use std::io;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::action::StoreError;

/// What was asked of the server, for the words of an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The store's name.
    pub(crate) store: &'a str,
    /// The bucket.
    pub(crate) bucket: &'a str,
    /// The object's whole name in the bucket; empty for the bucket itself.
    pub(crate) object: &'a str,
    /// What was tried, as in `cannot …`: "read", "list".
    pub(crate) verb: &'a str,
    /// The permission it takes, as in `s3:GetObject`.
    pub(crate) permission: &'a str,
}

/// What an answer amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The object or the version is authoritatively not there.
    Absent,
    /// The upload is not there: somebody aborted it, or it was finished and the answer got lost.
    NoUpload,
    /// A condition of the request does not hold.
    Condition,
    /// Somebody else writes the same object just now.
    Conflict,
    /// The object lies in an archived class.
    Archived,
    /// Permission is missing.
    Denied,
    /// The request is not understood or not offered.
    Unsupported,
    /// A range beyond the object's end.
    Range,
    /// It may work later.
    Passing,
    /// It will not work.
    Lasting,
}

/// Sorts a failure.
pub(super) fn verdict<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Verdict {
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    match (error.code().unwrap_or_default(), status) {
        ("NoSuchKey" | "NoSuchVersion", _) => Verdict::Absent,
        ("NoSuchUpload", _) => Verdict::NoUpload,
        ("PreconditionFailed", _) | (_, Some(412)) => Verdict::Condition,
        ("ConditionalRequestConflict" | "OperationAborted", _) => Verdict::Conflict,
        ("InvalidObjectState", _) => Verdict::Archived,
        ("InvalidRange", _) | (_, Some(416)) => Verdict::Range,
        ("RequestTimeout" | "SlowDown" | "Throttling" | "TooManyRequests" | "BadDigest", _) => Verdict::Passing,
        (
            "NotImplemented"
            | "InvalidRequest"
            | "InvalidArgument"
            | "XAmzContentSHA256Mismatch"
            | "MissingUploadObjectWithObjectLockHeaders",
            _,
        )
        | (_, Some(501 | 405)) => Verdict::Unsupported,
        ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) => Verdict::Denied,
        (_, Some(408 | 429 | 500..)) | (_, None) => unanswered(error),
        ("", Some(403)) => Verdict::Denied,
        (_, Some(_)) => Verdict::Lasting,
    }
}

/// Whether the server said that it went well, in words that are not understood.
pub(super) fn is_unreadable_success<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.code().is_none() && error.raw_response().is_some_and(|raw| raw.status().is_success())
}

/// Sorts a failure without an answer: most may pass, wrong settings do not.
fn unanswered<E>(error: &SdkError<E>) -> Verdict {
    match error {
        SdkError::ConstructionFailure(_) => Verdict::Lasting,
        SdkError::DispatchFailure(failure) if failure.is_user() => Verdict::Lasting,
        _ if without_credentials(error) => Verdict::Lasting,
        _ => Verdict::Passing,
    }
}

fn without_credentials<E>(error: &SdkError<E>) -> bool {
    let SdkError::DispatchFailure(failure) = error else { return false };
    let Some(cause) = failure.as_connector_error() else { return false };
    let words = causes(cause);
    ["credentials provider", "credential provider", "identity resolver"].iter().any(|word| words.contains(word))
}

impl Asked<'_> {
    fn place(&self) -> String {
        match self.object {
            "" => format!("the bucket `{}`", self.bucket),
            object => format!("`{object}` in the bucket `{}`", self.bucket),
        }
    }

    fn refused(&self, why: &str) -> StoreError {
        let what = format!("cannot {} {}: {why}", self.verb, self.place());
        StoreError::Refused { store: self.store.to_owned(), what }
    }

    /// A failure that may pass.
    pub(crate) fn unavailable(&self, source: io::Error) -> StoreError {
        let what = format!("cannot {} {}: {source}", self.verb, self.place());
        StoreError::Unavailable { store: self.store.to_owned(), what, source }
    }

    /// Makes a store's error of what the server answered. Absence and conditions are judged by the caller before.
    pub(crate) fn failed<E>(&self, error: &SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let code = error.code().unwrap_or_default();
        if matches!(code, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientCapacity") {
            let why = format!("no room is left{}", said(error));
            return self.unavailable(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        if let Some(why) = self.advice(code, error) {
            return self.refused(&why);
        }
        match verdict(error) {
            Verdict::Denied => self.refused(&format!(
                "access is denied{}; the credentials need `{}` on `arn:aws:s3:::{}`{}",
                said(error),
                self.permission,
                self.bucket,
                if self.object.is_empty() { String::new() } else { format!(" and `{}` below it", self.object) },
            )),
            Verdict::NoUpload => self.unavailable(io::Error::other(
                "the upload is gone: somebody aborted it, or it was finished and the answer got lost",
            )),
            Verdict::Passing | Verdict::Conflict => self.unavailable(io::Error::other(words(error))),
            Verdict::Absent
            | Verdict::Condition
            | Verdict::Archived
            | Verdict::Unsupported
            | Verdict::Range
            | Verdict::Lasting => self.refused(&words(error)),
        }
    }

    /// A refusal to delete a version: a lock answers as a missing permission does.
    pub(super) fn locked_or_denied<E: ProvideErrorMetadata>(&self, error: &SdkError<E>) -> StoreError {
        let permission = self.permission;
        self.refused(&format!("it is locked, or the credentials lack `{permission}`{}", said(error)))
    }

    /// What is known to help against an answer.
    fn advice<E: ProvideErrorMetadata>(&self, code: &str, error: &SdkError<E>) -> Option<String> {
        let bucket = self.bucket;
        let advice = match code {
            "NoSuchBucket" => format!("there is no bucket `{bucket}`: create it, or correct the store's `url`"),
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "TemporaryRedirect" => wrong_region(error),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
                "the credentials have expired: get new ones, for example by `aws sso login`".to_owned()
            }
            "InvalidAccessKeyId" | "NotSignedUp" => {
                "the server does not know the access key: look at the store's `credentials` or \
                                     `profile` (`aws sts get-caller-identity` shows who asks)"
                    .to_owned()
            }
            "SignatureDoesNotMatch" => "the signature is wrong: the secret access key does not belong to the access \
                                        key, or something between changes requests"
                .to_owned(),
            "RequestTimeTooSkewed" => {
                "this machine's clock differs too much from the server's: set it (`timedatectl status`)".to_owned()
            }
            "InvalidStorageClass" => "the server has no such storage class: correct `storage_class`".to_owned(),
            _ if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 301) => wrong_region(error),
            _ if without_credentials(error) => {
                format!(
                    "there are no credentials: give the store `credentials` or a `profile`, or set what the AWS tools \
                     read (`aws sts get-caller-identity` shows who asks): {}",
                    words_of(error)
                )
            }
            _ => return None,
        };
        Some(advice)
    }
}

fn wrong_region<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    match bucket_region(error) {
        Some(region) => format!("the bucket lies in the region `{region}`: write `region: {region}` into the store"),
        None => format!("the bucket lies in another region{}: correct the store's `region`", said(error)),
    }
}

/// The region that an answer names, errors included.
pub(super) fn bucket_region<E>(error: &SdkError<E>) -> Option<String> {
    error.raw_response()?.headers().get("x-amz-bucket-region").map(str::to_owned)
}

/// The server's own code and words, in brackets.
fn said<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!(" ({code}: {message})"),
        (Some(code), None) => format!(" ({code})"),
        (None, _) => String::new(),
    }
}

fn words<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> String {
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    match (error.code(), error.message(), status) {
        (Some(code), Some(message), Some(status)) => format!("{message} ({code}, status {status})"),
        (Some(code), None, Some(status)) => format!("{code} (status {status})"),
        (None, _, Some(status)) if !(200..300).contains(&status) => format!("the server answered with status {status}"),
        _ => causes(error),
    }
}

fn words_of<E>(error: &SdkError<E>) -> String {
    match error {
        SdkError::DispatchFailure(failure) => failure.as_connector_error().map(|error| causes(error)),
        _ => None,
    }
    .unwrap_or_default()
}

/// An error and all its causes in one line.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        words.push(cause.to_string());
        next = cause.source();
    }
    words.dedup();
    words.join(": ").lines().map(str::trim).collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::http::HttpResponse;
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::operation::put_object::PutObjectError;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn answer(code: &str, status: u16) -> SdkError<PutObjectError> {
        let status = status.try_into().expect("a status");
        let error = PutObjectError::generic(ErrorMetadata::builder().code(code).build());
        SdkError::service_error(error, HttpResponse::new(status, SdkBody::empty()))
    }

    #[test]
    fn only_what_the_server_says_of_the_object_is_absence() {
        assert_eq!(verdict(&answer("NoSuchKey", 404)), Verdict::Absent);
        for (code, status) in
            [("NoSuchBucket", 404), ("NoSuchUpload", 404), ("", 404), ("AccessDenied", 403), ("", 503)]
        {
            assert_ne!(verdict(&answer(code, status)), Verdict::Absent, "{code} {status}");
        }
    }

    #[test]
    fn a_server_without_room_is_full_and_not_forbidden() {
        let asked = Asked { store: "s", bucket: "b", object: "o", verb: "store", permission: "s3:PutObject" };
        for (code, status) in [("XMinioStorageFull", 507), ("QuotaExceeded", 403), ("InsufficientCapacity", 503)] {
            let error = asked.failed(&answer(code, status));
            assert!(error.is_full() && error.to_string().contains("no room is left"), "{error}");
        }
        assert!(!asked.failed(&answer("AccessDenied", 403)).is_full());
    }

    #[test]
    fn an_upload_that_is_gone_may_have_been_finished_and_is_tried_again() {
        let asked = Asked { store: "s", bucket: "b", object: "o", verb: "finish", permission: "s3:PutObject" };
        assert!(matches!(asked.failed(&answer("NoSuchUpload", 404)), StoreError::Unavailable { .. }));
    }
}
