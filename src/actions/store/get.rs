//! `store.get`: an object into a file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arrival::{Arrival, Existing};
use super::body::{broke_off, copy, faults, key, until_cancelled};
use super::by_hand::{is_files, location};
use super::passing::{Meter, Passing};
use super::store_failed;
use super::version::{seen_at, time, time_fault};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, GetOptions,
    Idempotency, Late, ObjectKey, ParamFault, PlainFacts, PlanContext, RunContext, Store, StoreError, StoreRef, Target,
};
use crate::base::Digest;

const FILE_MODE: u32 = 0o640;

/// Fetches an object, verifies it and gives it its name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Get;

/// The arguments of `store.get`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// The key of the object; it may come from an earlier step.
    pub key: Late<String>,
    /// The file to write, an absolute path.
    pub path: PathBuf,
    /// Replaces a file that is there; without it that is an error.
    #[serde(default)]
    pub overwrite: bool,
    /// The SHA-256 the object must have. Default: the one it was stored with.
    #[serde(default)]
    pub sha256: Option<Late<Digest>>,
    /// The version with this id, where the store keeps versions; it is proven by `sha256`.
    #[serde(default)]
    pub version: Option<Late<String>>,
    /// The version that was current at this time, with an offset or `Z`; an older one is proven by `sha256`.
    #[serde(default)]
    pub as_of: Option<Late<String>>,
}

/// The outputs of `store.get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GetOutput {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

/// What is fetched: which content, and what it must be.
struct Wanted {
    options: GetOptions,
    facts: PlainFacts,
}

impl GetParams {
    fn faults(&self) -> Vec<ParamFault> {
        let known = self.key.known().map_or("known-later", String::as_str);
        let mut found = faults(known, Some(&self.path)).err().unwrap_or_default();
        if self.path.file_name().is_none() {
            found.push(ParamFault::new("/path", "the path names no file"));
        }
        if self.version.is_some() && self.as_of.is_some() {
            found.push(ParamFault::new("/as_of", "`version` and `as_of` exclude each other"));
        }
        found.extend(time_fault(self.as_of.as_ref()));
        found
    }

    async fn wanted(&self, store: &dyn Store, key: &ObjectKey) -> Result<Wanted, ActionError> {
        let given = self.sha256.as_ref().map(Late::get).transpose()?.copied();
        let current = store.head(key).await;
        let asked = match (&self.version, &self.as_of) {
            (Some(version), _) => Some(version.get()?.clone()),
            (None, Some(at)) => {
                let at = time(at.get()?).map_err(ActionError::fatal)?;
                Some(seen_at(store.as_read(), key, at).await?.version)
            }
            (None, None) => None,
        };
        let Some(version) = asked else {
            let facts = current.map_err(store_failed)?;
            let sha256 = given.or_else(|| facts.sha256()).ok_or_else(|| unproven(key))?;
            let options = GetOptions { if_match: facts.etag, ..GetOptions::default() };
            return Ok(Wanted { options, facts: PlainFacts { size_bytes: facts.size_bytes, sha256 } });
        };
        let latest = current.ok().filter(|facts| facts.version.as_ref() == Some(&version));
        let recorded = given.or_else(|| latest.and_then(|facts| facts.sha256()));
        let versions = super::version::versions_of(store.as_read())?;
        let all = versions.list_versions(key.as_str()).await.map_err(store_failed)?;
        let found = all.into_iter().find(|found| found.key == *key && found.version == version);
        let size_bytes = found.and_then(|found| found.size_bytes);
        let size_bytes =
            size_bytes.ok_or_else(|| ActionError::fatal(format!("`{key}` has no content of version `{version}`")))?;
        let sha256 = recorded.ok_or_else(|| unproven(key))?;
        let options = GetOptions { version: Some(version), ..GetOptions::default() };
        Ok(Wanted { options, facts: PlainFacts { size_bytes, sha256 } })
    }
}

fn unproven(key: &ObjectKey) -> ActionError {
    ActionError::fatal(format!("`{key}` has no recorded SHA-256, so it cannot be verified"))
        .help("give the digest as `sha256`")
}

impl Action for Get {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.get",
        summary: "Fetches an object, or an earlier version of it, into a file and verifies its digest before the file gets its name.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 2,
        examples: &[
            Example {
                title: "Fetch a dump",
                with: "{ store: primary, key: dumps/orders.dump, path: /var/restore/orders.dump }",
            },
            Example {
                title: "Fetch what an earlier step found",
                with: "{ store: primary, key: '{{ steps.newest.key }}', path: /var/restore/orders.dump }",
            },
            Example {
                title: "Fetch it as it was, proven by a digest that is known",
                with: "store: primary\nkey: dumps/orders.dump\npath: /var/restore/orders.dump\nas_of: '2026-01-28T14:30:00Z'\nsha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            },
        ],
    };
    type Params = GetParams;
    type Output = GetOutput;

    fn effects(&self, params: &GetParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let faults = params.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let (class, access) = match params.overwrite {
            true => (EffectClass::Destroy, Access::Destroy),
            false => (EffectClass::Write, Access::Write),
        };
        // A key that is known later is only read: the whole store stands for it.
        let prefix = params.key.known().cloned().unwrap_or_default();
        let object = Target::Store { name: params.store.0.clone(), prefix };
        let file = Target::Path { host: cx.host.to_owned(), path: params.path.clone() };
        Ok(Effects::of(class).target(Access::Read, object).target(access, file))
    }

    fn by_hand(&self, params: &GetParams, cx: &PlanContext<'_>) -> Vec<String> {
        let key = params.key.shown(Clone::clone);
        let (path, from) = (params.path.display().to_string(), location(cx.inventory, params.store.as_str(), &key));
        let mut lines = if is_files(cx.inventory, params.store.as_str()) {
            vec![command_line(["cp", if params.overwrite { "-f" } else { "-n" }, &from, &path])]
        } else {
            let version = params.version.as_ref().map(|id| format!(", version {}", id.shown(Clone::clone)));
            let as_of = params.as_of.as_ref().map(|at| format!(", as it was at {}", at.shown(Clone::clone)));
            let which = version.or(as_of).unwrap_or_default();
            vec![remark(&format!("copy {from}{which} to {path} with the store's own tool"))]
        };
        let digest = params.sha256.as_ref().map(|digest| digest.shown(ToString::to_string));
        lines.extend(digest.map(|digest| format!("echo '{digest}  {path}' | sha256sum -c")));
        lines
    }

    async fn check(&self, params: &GetParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let store = cx.store(params.store.as_str())?;
        let findings = Findings::default();
        let key = match &params.key {
            Late::Known(text) => key(text)?,
            Late::Pending(expression) => return Ok(findings.pending(format!("`{expression}` is not known yet"))),
        };
        if params.version.is_some() || params.as_of.is_some() {
            super::version::versions_of(&*store)?;
            return Ok(findings.pass("the store keeps versions"));
        }
        match store.head(&key).await {
            Ok(facts) if facts.sha256().is_none() && params.sha256.is_none() => {
                Ok(findings.refuse(format!("`{key}` has no recorded SHA-256"), "give the digest as `sha256`"))
            }
            Ok(facts) => Ok(findings.pass(format!("`{key}` has {} bytes", facts.size_bytes))),
            Err(error @ StoreError::NotFound { .. }) if cx.ahead => Ok(findings.pending(error.to_string())),
            Err(error @ StoreError::NotFound { .. }) => Ok(findings.refuse(error.to_string(), "put it there first")),
            Err(error) => Err(store_failed(error)),
        }
    }

    async fn run(&self, params: &GetParams, cx: &RunContext) -> Result<GetOutput, ActionError> {
        let (store, key) = (cx.store(params.store.as_str())?, key(params.key.get()?)?);
        let wanted = params.wanted(&*store, &key).await?;
        let existing = Existing::from(params.overwrite);
        let (arrival, file) = Arrival::begin(cx.host.files(), &params.path, FILE_MODE, existing).await?;
        let meter = Meter::new(cx, Some(wanted.facts.size_bytes));
        let work = async {
            let body = store.get_with(&key, wanted.options).await.map_err(store_failed)?;
            let mut body = Passing::new(body).expecting(wanted.facts).metered(&meter);
            let mut into = tokio::fs::File::from_std(file);
            copy(&mut body, &mut into).await.map_err(|error| broke_off(store.name(), &key, error))?;
            Ok(wanted.facts)
        };
        let facts = arrival.end(until_cancelled(cx, work).await).await?;
        Ok(GetOutput { path: params.path.clone(), size_bytes: facts.size_bytes, sha256: facts.sha256 })
    }
}
