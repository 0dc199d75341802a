//! `archive.list`: what an archive holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tar::{Archive, EntryType};

use super::bound::Bounded;
use super::entry::Facts;
use super::format::{Ending, Plain};
use super::reader::damaged;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency, Late,
    ParamFault, PlanContext, RunContext,
};
use crate::actions::store::FilePlace;
use crate::actions::store::body::until_cancelled;
use crate::actions::store::source::{Source, check_source};
use crate::base::{Digest, Timestamp};

/// Entries that are given out at most.
const NAMED: usize = 10_000;

/// Lists an archive.
#[derive(Debug, Clone, Copy, Default)]
pub struct List;

/// The arguments of `archive.list`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// The archive: `{ path }` or `{ store, key }`.
    pub from: FilePlace,
    /// The SHA-256 it must have. Default: for an object the one it was stored with.
    #[serde(default)]
    pub sha256: Option<Late<Digest>>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListedEntry {
    /// Its path.
    pub path: String,
    /// `file`, `folder`, `symlink`, `link` or `other`.
    pub kind: String,
    /// The bytes of its content.
    pub size_bytes: u64,
    /// Its permission bits, in octal.
    pub mode: String,
    /// When it was last written.
    #[schemars(with = "String")]
    pub modified_at: Timestamp,
}

/// The outputs of `archive.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListOutput {
    /// The first ten thousand entries, in the order of the archive.
    pub entries: Vec<ListedEntry>,
    /// How many there are in all.
    pub count: u64,
    /// How many of them are files.
    pub files: u64,
    /// The bytes of their contents together.
    pub content_bytes: u64,
    /// SHA-256 of the archive as it is stored.
    pub sha256: Digest,
    /// How it is compressed.
    pub compression: String,
}

impl Action for List {
    const SPEC: ActionSpec = ActionSpec {
        name: "archive.list",
        summary: "Lists what a tar archive holds, and proves that it can be read to its end.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[Example {
            title: "An archive of a store",
            with: "from: { store: primary, key: files/media.tar.zst }",
        }],
    };
    type Params = ListParams;
    type Output = ListOutput;

    fn effects(&self, params: &ListParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let spot = params.from.spot("/from").map_err(|fault| vec![fault])?;
        Ok(Effects::of(EffectClass::Read).target(Access::Read, spot.target(cx)))
    }

    fn by_hand(&self, params: &ListParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(spot) = params.from.spot("/from") else { return Vec::new() };
        let from = spot.shown(cx);
        let remarks = from.contains("://").then(|| remark(&format!("fetch {from} with the store's own tool first")));
        remarks.into_iter().chain([command_line(["tar", "-tvf", &from])]).collect()
    }

    async fn check(&self, params: &ListParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        check_source(&params.from.known()?, cx).await
    }

    async fn run(&self, params: &ListParams, cx: &RunContext) -> Result<ListOutput, ActionError> {
        let sha256 = params.sha256.as_ref().map(Late::get).transpose()?.copied();
        let work = async {
            let source = Source::open(&params.from.known()?, sha256, cx).await?;
            let sha256 = source.facts.sha256;
            source.read(move |reader| list(reader, sha256)).await
        };
        until_cancelled(cx, work).await
    }
}

fn list(reader: Box<dyn std::io::Read + Send>, sha256: Digest) -> Result<ListOutput, ActionError> {
    let plain = Plain::of(reader).map_err(|error| damaged(&error))?;
    let compression = plain.name().to_owned();
    let mut listed = ListOutput { entries: Vec::new(), count: 0, files: 0, content_bytes: 0, sha256, compression };
    let mut ending = Ending::new(plain);
    let (bounded, allowance) = Bounded::new(&mut ending);
    let mut archive = Archive::new(bounded);
    for entry in archive.entries().map_err(|error| damaged(&error))? {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        allowance.content();
        let facts = Facts::of(&mut entry)?;
        if facts.kind == EntryType::XGlobalHeader {
            allowance.next(&mut entry).map_err(|error| damaged(&error))?;
            continue;
        }
        let (kind, is_file) = match facts.kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => ("file", true),
            EntryType::Directory => ("folder", false),
            EntryType::Symlink => ("symlink", false),
            EntryType::Link => ("link", false),
            _ => ("other", false),
        };
        let read = std::io::copy(&mut entry, &mut std::io::sink()).map_err(|error| damaged(&error))?;
        allowance.headers();
        if is_file && read != facts.size_bytes {
            return Err(facts.refused("breaks off"));
        }
        listed.count += 1;
        listed.files += u64::from(is_file);
        listed.content_bytes += if is_file { facts.size_bytes } else { 0 };
        if listed.entries.len() < NAMED {
            listed.entries.push(ListedEntry {
                path: String::from_utf8_lossy(&facts.name).into_owned(),
                kind: kind.to_owned(),
                size_bytes: if is_file { facts.size_bytes } else { 0 },
                mode: format!("{:04o}", facts.mode & 0o7777),
                modified_at: facts.modified_at,
            });
        }
    }
    ending.finish().map_err(|error| damaged(&error))?;
    Ok(listed)
}
