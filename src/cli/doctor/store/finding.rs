//! One thing found out about a store.

use super::Role;
use serde::Serialize;

/// How a finding is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Verdict {
    /// As it should be.
    Fine,
    /// A fact without a judgement.
    Fact,
    /// Worth a thought.
    Warning,
    /// Needed, and not there.
    Missing,
    /// There, and not needed: what stolen credentials could do too.
    TooMuch,
}

impl Verdict {
    /// The word that stands before it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Fact => "-",
            Self::Warning => "warning",
            Self::Missing => "MISSING",
            Self::TooMuch => "TOO MUCH",
        }
    }
}

/// One thing found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Finding {
    /// What was tried or looked at.
    pub(super) what: &'static str,
    /// How it is judged.
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) fact: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn new(what: &'static str, verdict: Verdict, fact: impl Into<String>) -> Self {
        Self { what, verdict, fact: fact.into(), advice: None }
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Something credentials can be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ability {
    /// List.
    List,
    /// Tell that an object is not there.
    TellMissing,
    /// Read.
    Read,
    /// Store new objects.
    Write,
    /// Replace objects.
    Overwrite,
    /// Delete objects.
    Delete,
}

impl Ability {
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::TellMissing => "tell missing",
            Self::Read => "read",
            Self::Write => "write",
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
        }
    }

    /// Whether a role needs it; `None`: it may have it or not.
    fn needed(self, role: Role) -> Option<bool> {
        match (self, role) {
            (Self::List | Self::TellMissing | Self::Read, _) => Some(true),
            (Self::Write, Role::Backup | Role::Any) => Some(true),
            (Self::Write, Role::Restore | Role::Expire) => Some(false),
            // Whoever may put may replace: only versions and locks protect from that.
            (Self::Overwrite, Role::Backup | Role::Any) => None,
            (Self::Overwrite, Role::Restore | Role::Expire) => Some(false),
            (Self::Delete, Role::Expire) => Some(true),
            (Self::Delete, Role::Backup | Role::Restore) => Some(false),
            (Self::Delete, Role::Any) => None,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::List => "allow it to list (on S3 `s3:ListBucket`): without it nothing can be found",
            Self::TellMissing => {
                "allow it to list (on S3 `s3:ListBucket` on the bucket): else a missing object looks forbidden"
            }
            Self::Read => "allow it to read (on S3 `s3:GetObject`) below the prefix: what is stored has to be compared",
            Self::Write => {
                "allow it to write (on S3 `s3:PutObject`) below the prefix, or unlock the folder for this user"
            }
            Self::Overwrite => "versions or Object Lock protect what is there",
            Self::Delete => "`runbook iam --role expire` prints what that takes",
        }
    }

    /// Judges that it can be done.
    pub(super) fn can(self, role: Role, fact: impl Into<String>) -> Finding {
        match self.needed(role) {
            Some(true) => Finding::new(self.what(), Verdict::Fine, fact),
            None => Finding::new(self.what(), Verdict::Fact, fact),
            Some(false) => Finding::new(self.what(), Verdict::TooMuch, fact)
                .advise("whoever steals these credentials can do it too; `runbook iam --role …` prints what is enough"),
        }
    }

    /// Judges that it cannot be done.
    pub(super) fn cannot(self, role: Role, why: impl Into<String>) -> Finding {
        match self.needed(role) {
            Some(true) => Finding::new(self.what(), Verdict::Missing, why).advise(self.advice()),
            None => Finding::new(self.what(), Verdict::Fact, why),
            Some(false) => Finding::new(self.what(), Verdict::Fine, why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ability, Role, Verdict};

    #[test]
    fn deleting_is_too_much_for_a_backup_and_needed_to_expire() {
        assert_eq!(Ability::Delete.can(Role::Backup, "").verdict, Verdict::TooMuch);
        assert_eq!(Ability::Delete.cannot(Role::Backup, "").verdict, Verdict::Fine);
        assert_eq!(Ability::Delete.cannot(Role::Expire, "").verdict, Verdict::Missing);
        assert_eq!(Ability::Write.can(Role::Restore, "").verdict, Verdict::TooMuch);
        assert_eq!(Ability::Write.cannot(Role::Any, "").verdict, Verdict::Missing);
        assert_eq!(Ability::TellMissing.cannot(Role::Restore, "").verdict, Verdict::Missing);
    }
}
