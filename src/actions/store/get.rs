//! `store.get`: an object into a file.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{broke_off, copy, faults, key, on_files, until_cancelled};
use super::by_hand::{is_files, location};
use super::store_failed;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Files, Findings, HostError,
    Idempotency, ObjectKey, ParamFault, PlanContext, RunContext, Store, StoreError, StoreRef, Target,
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
    /// The key of the object.
    pub key: String,
    /// The file to write, an absolute path.
    pub path: PathBuf,
    /// Replaces a file that is there; without it that is an error.
    #[serde(default)]
    pub overwrite: bool,
    /// The SHA-256 the object must have. Default: the one it was stored with.
    #[serde(default)]
    pub sha256: Option<Digest>,
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

impl Action for Get {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.get",
        summary: "Fetches an object into a file and verifies its digest before the file gets its name.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example {
            title: "Fetch a dump",
            with: "{ store: primary, key: dumps/orders.dump, path: /var/restore/orders.dump }",
        }],
    };
    type Params = GetParams;
    type Output = GetOutput;

    fn effects(&self, params: &GetParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        faults(&params.key, Some(&params.path))?;
        if params.path.file_name().is_none() {
            return Err(vec![ParamFault::new("/path", "the path names no file")]);
        }
        let (class, access) = match params.overwrite {
            true => (EffectClass::Destroy, Access::Destroy),
            false => (EffectClass::Write, Access::Write),
        };
        let object = Target::Store { name: params.store.0.clone(), prefix: params.key.clone() };
        let file = Target::Path { host: cx.host.to_owned(), path: params.path.clone() };
        Ok(Effects::of(class).target(Access::Read, object).target(access, file))
    }

    fn by_hand(&self, params: &GetParams, cx: &PlanContext<'_>) -> Vec<String> {
        let (path, from) =
            (params.path.display().to_string(), location(cx.inventory, params.store.as_str(), &params.key));
        let mut lines = if is_files(cx.inventory, params.store.as_str()) {
            vec![command_line(["cp", if params.overwrite { "-f" } else { "-n" }, &from, &path])]
        } else {
            vec![remark(&format!("copy {from} to {path} with the store's own tool"))]
        };
        lines.extend(params.sha256.iter().map(|digest| format!("echo '{digest}  {path}' | sha256sum -c")));
        lines
    }

    async fn check(&self, params: &GetParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let store = cx.store(params.store.as_str())?;
        let findings = Findings::default();
        match store.head(&key(&params.key)?).await {
            Ok(facts) => Ok(findings.pass(format!("`{}` has {} bytes", params.key, facts.size_bytes))),
            Err(error @ StoreError::NotFound { .. }) if cx.ahead => Ok(findings.pending(error.to_string())),
            Err(error @ StoreError::NotFound { .. }) => Ok(findings.refuse(error.to_string(), "put it there first")),
            Err(error) => Err(store_failed(error)),
        }
    }

    async fn run(&self, params: &GetParams, cx: &RunContext) -> Result<GetOutput, ActionError> {
        let (store, key) = (cx.store(params.store.as_str())?, key(&params.key)?);
        let expected = match params.sha256 {
            Some(digest) => digest,
            None => recorded(&*store, &key).await?,
        };
        let part = part_of(&params.path);
        let size_bytes = match fetch(&*store, &key, &part, expected, cx).await {
            Ok(size_bytes) => size_bytes,
            Err(error) => {
                on_files(cx.host.files(), move |files| remove_if_there(files, &part)).await?;
                return Err(error);
            }
        };
        let (path, overwrite) = (params.path.clone(), params.overwrite);
        let placed = on_files(cx.host.files(), move |files| place(files, (&part, &path), expected, overwrite.into()));
        if !placed.await? {
            let path = params.path.display();
            return Err(ActionError::fatal(format!("`{path}` exists with other content"))
                .help("move it away, or say `overwrite: true`"));
        }
        Ok(GetOutput { path: params.path.clone(), size_bytes, sha256: expected })
    }
}

/// Whether a file that is there may be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Replace,
    Keep,
}

impl From<bool> for Existing {
    fn from(overwrite: bool) -> Self {
        if overwrite { Self::Replace } else { Self::Keep }
    }
}

/// Copies the object into a new file and judges its digest. Returns its size.
async fn fetch(
    store: &dyn Store,
    key: &ObjectKey,
    part: &Path,
    expected: Digest,
    cx: &RunContext,
) -> Result<u64, ActionError> {
    let made = part.to_owned();
    let file = on_files(cx.host.files(), move |files| {
        remove_if_there(files, &made)?;
        files.create(&made, FILE_MODE)
    });
    let mut into = tokio::fs::File::from_std(file.await?);
    let work = async {
        let mut body = store.get(key).await.map_err(store_failed)?;
        copy(&mut body, &mut into).await.map_err(|error| broke_off(store.name(), key, error))
    };
    let (size_bytes, found) = until_cancelled(cx, work).await?;
    if found == expected {
        return Ok(size_bytes);
    }
    Err(ActionError::fatal(format!("`{key}` is damaged: its SHA-256 is {found}, not {expected}")))
}

/// Gives the verified file its name. `false`: another file has it and stays.
fn place(files: &dyn Files, names: (&Path, &Path), expected: Digest, existing: Existing) -> Result<bool, HostError> {
    let (part, path) = names;
    files.sync(part)?;
    if existing == Existing::Keep && files.facts(path)?.is_some() {
        let same = same_content(files, path, expected);
        files.remove_file(part)?;
        return same;
    }
    files.rename(part, path)?;
    files.sync(path.parent().unwrap_or(Path::new("/")))?;
    Ok(true)
}

/// The digest an object was stored with.
async fn recorded(store: &dyn Store, key: &ObjectKey) -> Result<Digest, ActionError> {
    let facts = store.head(key).await.map_err(store_failed)?;
    let digest = facts.metadata.get("sha256").and_then(|text| text.parse().ok());
    digest.ok_or_else(|| {
        ActionError::fatal(format!("`{key}` has no recorded SHA-256, so it cannot be verified"))
            .help("give the digest as `sha256`")
    })
}

fn part_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.runbook-part"))
}

fn remove_if_there(files: &dyn Files, path: &Path) -> Result<(), HostError> {
    match files.facts(path)? {
        Some(_) => files.remove_file(path),
        None => Ok(()),
    }
}

fn same_content(files: &dyn Files, path: &Path, expected: Digest) -> Result<bool, HostError> {
    let mut file = files.open(path)?;
    let mut hasher = crate::base::digest::Hasher::default();
    std::io::copy(&mut file, &mut hasher).map_err(|source| HostError::File {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(hasher.finish() == expected)
}
