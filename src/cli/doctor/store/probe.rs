//! Tries out, through the contract of stores, what the credentials can do.

use tokio::io::AsyncReadExt as _;

use super::Role;
use super::finding::{Ability, Finding, Verdict};
use crate::action::{ByteStream, Capacity, ObjectKey, PutOptions, Store, StoreError};
use crate::base::units::{ByteSize, human_duration};
use crate::base::{Digest, RunId, clock};

/// Large enough for several parts of an upload in parts.
const LARGE_BYTES: u64 = 20 << 20;

/// S3 refuses requests whose clock differs by 15 minutes; a third of it is worth a word.
const SKEW_SECONDS: u64 = 300;

/// What is probed, and for whom.
pub(super) struct Probe<'a> {
    pub(super) store: &'a dyn Store,
    /// The same place, with nothing but CRC32C.
    pub(super) strict: Option<&'a dyn Store>,
    pub(super) role: Role,
}

/// The keys of one probing; nobody else has them.
struct Keys {
    missing: ObjectKey,
    object: ObjectKey,
    large: ObjectKey,
    checked: ObjectKey,
}

impl Keys {
    fn new() -> Option<Self> {
        let id = RunId::generate(clock::now());
        let key = |name: &str| format!("rb-probe/{id}/{name}").parse().ok();
        Some(Self { missing: key("missing")?, object: key("object")?, large: key("large")?, checked: key("checked")? })
    }
}

fn body(bytes: &'static [u8]) -> ByteStream {
    Box::new(bytes)
}

fn options(bytes: &[u8]) -> PutOptions {
    let metadata = [("sha256".to_owned(), Digest::of(bytes).to_string())].into();
    PutOptions { metadata, size_bytes: Some(bytes.len() as u64), ..PutOptions::default() }
}

const FIRST: &[u8] = b"a probe of `runbook doctor`; it may be deleted\n";
const SECOND: &[u8] = b"a probe of `runbook doctor`, replaced; it may be deleted\n";

impl Probe<'_> {
    /// Everything, in order; what is left behind is told.
    pub(super) async fn all(&self) -> Vec<Finding> {
        let Some(keys) = Keys::new() else { return Vec::new() };
        let mut findings = vec![self.list().await, self.missing(&keys.missing).await];
        let wrote = self.store.put(&keys.object, body(FIRST), options(FIRST)).await;
        match wrote {
            Ok(_) => {
                findings.push(Ability::Write.can(self.role, "stores an object"));
                findings.extend(self.written(&keys).await);
                findings.extend(self.clean(&keys).await);
            }
            Err(error) => {
                findings.push(self.cannot(Ability::Write, &error).await);
                findings.push(self.read_any().await);
            }
        }
        findings
    }

    async fn list(&self) -> Finding {
        match self.store.browse("").await {
            Ok(level) => {
                let fact = format!("{} folders and {} objects at the top", level.folders.len(), level.objects.len());
                Ability::List.can(self.role, fact)
            }
            Err(error) => Ability::List.cannot(self.role, told(&error)),
        }
    }

    async fn missing(&self, key: &ObjectKey) -> Finding {
        match self.store.head(key).await {
            Err(StoreError::NotFound { .. }) => {
                Ability::TellMissing.can(self.role, "a missing object is told as missing")
            }
            Err(error) => Ability::TellMissing.cannot(self.role, told(&error)),
            Ok(_) => Ability::TellMissing.cannot(self.role, "an object that nobody made is said to be there"),
        }
    }

    /// What can be tried once an object is there.
    async fn written(&self, keys: &Keys) -> Vec<Finding> {
        let mut findings = vec![self.read_back(&keys.object).await, self.conditional(&keys.object).await];
        if let Ok(facts) = self.store.head(&keys.object).await {
            findings.push(skew(facts.modified_at));
        }
        findings.push(match self.store.put(&keys.object, body(SECOND), options(SECOND)).await {
            Ok(_) => Ability::Overwrite.can(self.role, "an object can be replaced"),
            Err(error) => self.cannot(Ability::Overwrite, &error).await,
        });
        findings.push(self.large(&keys.large).await);
        findings.extend(self.checked(&keys.checked).await);
        findings
    }

    async fn read_back(&self, key: &ObjectKey) -> Finding {
        let mut read = Vec::new();
        let result = match self.store.get(key).await {
            Ok(mut stream) => stream.read_to_end(&mut read).await.map_err(|error| error.to_string()),
            Err(error) => Err(told(&error)),
        };
        match result {
            Ok(_) if read == FIRST => Ability::Read.can(self.role, "what was stored is read back, byte by byte"),
            Ok(_) => Ability::Read.cannot(self.role, "what was read is not what was stored"),
            Err(why) => Ability::Read.cannot(self.role, why),
        }
    }

    /// Reads the start of anything there is, where nothing may be written.
    async fn read_any(&self) -> Finding {
        let objects = match self.store.list("").await {
            Ok(objects) => objects,
            Err(error) => return Ability::Read.cannot(self.role, told(&error)),
        };
        let Some(facts) = objects.iter().find(|facts| facts.size_bytes > 0) else {
            return Finding::new(Ability::Read.what(), Verdict::Fact, "there is nothing to read");
        };
        match self.store.get(&facts.key).await {
            Ok(_) => Ability::Read.can(self.role, format!("`{}` can be read", facts.key)),
            Err(error) => Ability::Read.cannot(self.role, told(&error)),
        }
    }

    async fn conditional(&self, key: &ObjectKey) -> Finding {
        let options = PutOptions { if_absent: true, ..options(SECOND) };
        match self.store.put(key, body(SECOND), options).await {
            Err(StoreError::Exists { .. }) => {
                Finding::new("put if absent", Verdict::Fine, "other content under a taken name is refused")
            }
            Ok(_) => Finding::new("put if absent", Verdict::Missing, "other content under a taken name was taken")
                .advise("two clusters could replace each other's WAL here: use another server"),
            Err(error) => Finding::new("put if absent", Verdict::Warning, told(&error)),
        }
    }

    async fn large(&self, key: &ObjectKey) -> Finding {
        let body: ByteStream = Box::new(tokio::io::repeat(7).take(LARGE_BYTES));
        let started = clock::monotonic();
        match self.store.put(key, body, PutOptions::default()).await {
            Ok(_) => {
                let fact =
                    format!("{} MiB of unknown length in {}", LARGE_BYTES >> 20, human_duration(started.elapsed()));
                Finding::new("large upload", Verdict::Fine, fact)
            }
            Err(error) if error.is_full() => self.full("large upload", &error).await,
            Err(error) => Finding::new("large upload", Verdict::Missing, told(&error))
                .advise("allow `s3:AbortMultipartUpload` and uploads in parts, or see the server's limits"),
        }
    }

    /// Judges that it was refused: a full store says nothing of what the credentials may do.
    async fn cannot(&self, ability: Ability, error: &StoreError) -> Finding {
        if error.is_full() {
            return self.full(ability.what(), error).await;
        }
        ability.cannot(self.role, told(error))
    }

    /// No room: how much there is, and what makes more of it.
    async fn full(&self, what: &'static str, error: &StoreError) -> Finding {
        let room = match self.store.capacity().await {
            Ok(Some(Capacity { free_bytes, total_bytes })) => {
                format!(" ({} free of {})", ByteSize(free_bytes), ByteSize(total_bytes))
            }
            Ok(None) | Err(_) => String::new(),
        };
        Finding::new(what, Verdict::Missing, format!("{}{room}", told(error))).advise(
            "the store is full: neither backups nor WAL get into it. Give it room; `runbook backups prune --plan` shows \
             what retention lets go",
        )
    }

    async fn checked(&self, key: &ObjectKey) -> Option<Finding> {
        Some(match self.strict?.put(key, body(FIRST), options(FIRST)).await {
            Ok(_) => Finding::new("crc32c", Verdict::Fine, "the server compares a CRC32C with what it got"),
            Err(error) => Finding::new("crc32c", Verdict::Warning, told(&error))
                .advise("write `checksums: md5` or `checksums: none`; our own digests are compared in any case"),
        })
    }

    /// Removes the probes, and their versions where that is allowed.
    async fn clean(&self, keys: &Keys) -> Vec<Finding> {
        let mut left = Vec::new();
        let mut refused = None;
        for key in [&keys.object, &keys.large, &keys.checked] {
            if let Err(error) = self.store.delete(key).await {
                left.push(format!("`{key}`"));
                refused = Some(told(&error));
            }
        }
        let mut findings = vec![match refused {
            None => Ability::Delete.can(self.role, "objects can be deleted"),
            Some(why) => Ability::Delete.cannot(self.role, why),
        }];
        let versions = if left.is_empty() { self.clean_versions(keys).await } else { 0 };
        if !left.is_empty() || versions > 0 {
            let fact = match left.is_empty() {
                true => format!("{versions} old versions below `rb-probe/`"),
                false => left.join(", "),
            };
            let advice = "they may be deleted at any time; a lifecycle rule for old versions does it by itself";
            findings.push(Finding::new("left behind", Verdict::Fact, fact).advise(advice));
        }
        findings
    }

    /// How many old versions of the probes stay.
    async fn clean_versions(&self, keys: &Keys) -> usize {
        let Some(versions) = self.store.versions() else { return 0 };
        let mut left = 0;
        for key in [&keys.object, &keys.large, &keys.checked] {
            let Ok(found) = versions.list_versions(key.as_str()).await else { continue };
            for version in found.iter().filter(|version| version.key == *key) {
                if versions.delete_version(key, &version.version).await.is_err() {
                    left += 1;
                }
            }
        }
        left
    }
}

/// The store's clock against ours.
fn skew(modified_at: crate::base::Timestamp) -> Finding {
    let now = clock::now();
    let apart = clock::between(now, modified_at).max(clock::between(modified_at, now));
    let fact = format!("the store's clock is within {} of this machine's", human_duration(apart));
    if apart.as_secs() < SKEW_SECONDS {
        return Finding::new("clock", Verdict::Fine, fact);
    }
    let fact = format!("the store's clock and this machine's are {} apart", human_duration(apart));
    Finding::new("clock", Verdict::Warning, fact).advise("set the clock by NTP: at 15 minutes S3 refuses every request")
}

/// An error on one line.
pub(super) fn told(error: &StoreError) -> String {
    error.to_string()
}
