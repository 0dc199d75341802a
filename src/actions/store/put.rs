//! `store.put`: a file into a store.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::body::{digest, faults, file_failed, key, until_cancelled};
use super::by_hand::{folder, is_files, location};
use super::carry::{Proof, StoredObject, prove, put_known};
use super::passing::Meter;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, FileKind, Findings,
    Idempotency, ParamFault, PlainFacts, PlanContext, PutOptions, RunContext, StoreRef, Target,
};
use crate::event::Progress;

/// Stores a file and reads it back.
#[derive(Debug, Clone, Copy, Default)]
pub struct Put;

/// The arguments of `store.put`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// The key of the object.
    pub key: String,
    /// The file, an absolute path.
    pub path: PathBuf,
    /// Replaces an object with other content; without it that is an error.
    #[serde(default)]
    pub overwrite: bool,
    /// The storage class, as the store names it. Default: the store's.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// How the arrival is proven. Default `read_back`.
    #[serde(default)]
    pub proof: Proof,
}

impl Action for Put {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.put",
        summary: "Stores a file durably and proves it by reading it back.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 2,
        examples: &[Example {
            title: "Keep a dump",
            with: "{ store: primary, key: dumps/orders.dump, path: /var/backups/orders.dump }",
        }],
    };
    type Params = PutParams;
    type Output = StoredObject;

    fn effects(&self, params: &PutParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        faults(&params.key, Some(&params.path))?;
        let (class, access) = match params.overwrite {
            true => (EffectClass::Destroy, Access::Destroy),
            false => (EffectClass::Write, Access::Write),
        };
        let object = Target::Store { name: params.store.0.clone(), prefix: params.key.clone() };
        let file = Target::Path { host: cx.host.to_owned(), path: params.path.clone() };
        Ok(Effects::of(class).target(Access::Read, file).target(access, object))
    }

    fn by_hand(&self, params: &PutParams, cx: &PlanContext<'_>) -> Vec<String> {
        let (path, to) =
            (params.path.display().to_string(), location(cx.inventory, params.store.as_str(), &params.key));
        if !is_files(cx.inventory, params.store.as_str()) {
            return vec![remark(&format!("copy {path} to {to} with the store's own tool"))];
        }
        let flag = if params.overwrite { "-f" } else { "-n" };
        vec![command_line(["install", "-d", folder(&to)]), command_line(["cp", flag, &path, &to])]
    }

    async fn check(&self, params: &PutParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        cx.store(params.store.as_str())?;
        let path = params.path.display();
        let found = cx.host.read_files().facts(&params.path).map_err(file_failed)?;
        Ok(match found {
            Some(facts) if facts.kind == FileKind::File => {
                Findings::default().pass(format!("`{path}` has {} bytes", facts.size_bytes))
            }
            Some(_) => Findings::default().refuse(format!("`{path}` is not a file"), "name a regular file"),
            None if cx.ahead => Findings::default().pending(format!("`{path}` is not there yet")),
            None => Findings::default().refuse(format!("`{path}` is not there"), "make it in an earlier step"),
        })
    }

    async fn run(&self, params: &PutParams, cx: &RunContext) -> Result<StoredObject, ActionError> {
        let (store, key) = (cx.store(params.store.as_str())?, key(&params.key)?);
        let open = || cx.host.files().open(&params.path).map(tokio::fs::File::from_std).map_err(file_failed);
        let (first, again) = (open()?, open()?);
        let work = async {
            cx.reporter.progress(Progress::Doing { text: format!("digesting `{}`", params.path.display()) });
            let broken = |error: std::io::Error| {
                ActionError::fatal(format!("cannot read `{}`", params.path.display())).because(&error)
            };
            let (size_bytes, sha256) = digest(first).await.map_err(broken)?;
            let facts = PlainFacts { size_bytes, sha256 };
            let options = PutOptions {
                if_absent: !params.overwrite,
                storage_class: params.storage_class.clone(),
                // Parts that an interrupted attempt has sent are not sent again.
                resume: cx.attempt.0 > 1,
                ..PutOptions::default()
            };
            let meter = Meter::new(cx, Some(size_bytes));
            let put = put_known((&*store, &key), (Box::new(again), facts), options, &meter).await?;
            cx.reporter.progress(Progress::Doing { text: format!("proving `{key}`") });
            prove((&*store, &key), &put, params.proof).await
        };
        until_cancelled(cx, work).await
    }
}
