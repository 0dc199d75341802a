//! `store.verify`: objects against the digests they were stored with, or those of a sidecar.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use super::super::checksum::{Entry, parse_sidecar};
use super::body::{key, until_cancelled};
use super::copy::four;
use super::crew::each;
use super::passing::{Meter, Passing};
use super::store_failed;
use crate::action::{
    Access, Action, ActionError, ActionSpec, Availability, CheckContext, EffectClass, Effects, Example, Findings,
    GetOptions, Idempotency, ObjectKey, ParamFault, PlanContext, ReadStore, RunContext, StoreError, StoreRef, Target,
};
use crate::base::Digest;

const SIDECAR_BYTES: u64 = 64 << 20;
/// Objects that an error names.
const NAMED: usize = 10;

/// Verifies objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verify;

/// The arguments of `store.verify`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyParams {
    /// The store of the inventory.
    pub store: StoreRef,
    /// All objects whose keys begin so, each against the digest it was stored with.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The key of a `.sha256` sidecar: the objects it names, relative to its folder, against its digests.
    #[serde(default)]
    pub sidecar: Option<String>,
    /// How deep. Default `digests`.
    #[serde(default)]
    pub level: Level,
    /// How many objects are read at once. Default 4.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 64))]
    pub parallel: u32,
}

/// How deep objects are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Each object is there, can be read now, and has the recorded digest; its bytes are not read.
    Facts,
    /// Besides, every byte is read and digested.
    #[default]
    Digests,
}

/// The outputs of `store.verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifiedObjects {
    /// How many objects were verified.
    pub count: u64,
    /// Their sizes together.
    pub size_bytes: u64,
}

/// One object and the digest a sidecar gives it.
struct Wanted {
    key: ObjectKey,
    sha256: Option<Digest>,
}

impl VerifyParams {
    fn place(&self) -> &str {
        self.prefix.as_deref().or(self.sidecar.as_deref()).unwrap_or_default()
    }

    async fn wanted(&self, store: &dyn ReadStore) -> Result<Vec<Wanted>, ActionError> {
        let Some(text) = &self.sidecar else {
            let found = store.list(self.place()).await.map_err(store_failed)?;
            if found.is_empty() {
                let fact = format!("no object of store `{}` begins with `{}`", store.name(), self.place());
                return Err(ActionError::fatal(fact).help("nothing to verify is no proof"));
            }
            return Ok(found.into_iter().map(|facts| Wanted { key: facts.key, sha256: None }).collect());
        };
        let sidecar = key(text)?;
        let body = store.get(&sidecar).await.map_err(store_failed)?;
        let mut bytes = Vec::new();
        let read = body.take(SIDECAR_BYTES).read_to_end(&mut bytes).await;
        read.map_err(|error| super::body::broke_off(store.name(), &sidecar, error))?;
        let folder = text.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let object =
            |entry: Entry| Ok(Wanted { key: key(&format!("{folder}{}", entry.name))?, sha256: Some(entry.sha256) });
        parse_sidecar(text, bytes)?.into_iter().map(object).collect()
    }

    /// Verifies one object. `Err` is a failure of the store, `Ok(Err)` says what is wrong with the object.
    async fn judge(
        &self,
        store: &dyn ReadStore,
        wanted: &Wanted,
        meter: &Meter,
    ) -> Result<Result<u64, String>, ActionError> {
        let key = &wanted.key;
        let facts = match store.head(key).await {
            Ok(facts) => facts,
            Err(StoreError::NotFound { .. }) => return Ok(Err(format!("`{key}` is missing"))),
            Err(error) => return Err(store_failed(error)),
        };
        let recorded = facts.sha256();
        let Some(expected) = wanted.sha256.or(recorded) else {
            return Ok(Err(format!("`{key}` has no recorded SHA-256")));
        };
        if recorded.is_some_and(|recorded| recorded != expected) {
            return Ok(Err(format!("`{key}` was stored with another SHA-256 than the sidecar's")));
        }
        if matches!(facts.availability, Availability::Archived | Availability::Retrieving) {
            return Ok(Err(format!("`{key}` is archived and cannot be read before it is retrieved")));
        }
        if self.level == Level::Facts {
            return Ok(Ok(facts.size_bytes));
        }
        let options = GetOptions { if_match: facts.etag, ..GetOptions::default() };
        let body = store.get_with(key, options).await.map_err(store_failed)?;
        let mut body = Passing::new(body).metered(meter);
        let read = super::body::copy(&mut body, &mut tokio::io::sink()).await;
        let (size_bytes, found) = read.map_err(|error| super::body::broke_off(store.name(), key, error))?;
        Ok(match found == expected {
            true => Ok(size_bytes),
            false => Err(format!("`{key}` has the SHA-256 {found}, not {expected}")),
        })
    }
}

impl Action for Verify {
    const SPEC: ActionSpec = ActionSpec {
        name: "store.verify",
        summary: "Verifies objects by reading them, against the digests they were stored with or those of a sidecar.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "All dumps", with: "{ store: primary, prefix: dumps/ }" },
            Example {
                title: "What a sidecar names, without reading it all",
                with: "{ store: primary, sidecar: dumps/all.sha256, level: facts }",
            },
        ],
    };
    type Params = VerifyParams;
    type Output = VerifiedObjects;

    fn effects(&self, params: &VerifyParams, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if params.prefix.is_some() == params.sidecar.is_some() {
            return Err(vec![ParamFault::new("", "exactly one of `prefix` and `sidecar` is wanted")]);
        }
        if let Some(sidecar) = params.sidecar.as_ref().filter(|sidecar| sidecar.parse::<ObjectKey>().is_err()) {
            return Err(vec![ParamFault::new("/sidecar", format!("`{sidecar}` is not an object key"))]);
        }
        // What a sidecar names lies in its own folder.
        let prefix = match &params.sidecar {
            Some(sidecar) => sidecar.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/")),
            None => params.place().to_owned(),
        };
        let target = Target::Store { name: params.store.0.clone(), prefix };
        Ok(Effects::of(EffectClass::Read).target(Access::Read, target))
    }

    async fn check(&self, params: &VerifyParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let store = cx.store(params.store.as_str())?;
        match params.wanted(&*store).await {
            Ok(wanted) => Ok(Findings::default().pass(format!("{} objects to verify", wanted.len()))),
            Err(error) if cx.ahead => Ok(Findings::default().pending(error.to_string())),
            Err(error) => Ok(Findings::default().refuse(error.to_string(), "a missing checksum is no proof")),
        }
    }

    async fn run(&self, params: &VerifyParams, cx: &RunContext) -> Result<VerifiedObjects, ActionError> {
        let store = cx.store(params.store.as_str())?;
        let store = store.as_read();
        let work = async {
            let wanted = params.wanted(store).await?;
            let meter = Meter::new(cx, None);
            let judged = each(params.parallel as usize, &wanted, |wanted| params.judge(store, wanted, &meter)).await;
            let judged = judged.into_iter().collect::<Result<Vec<_>, _>>()?;
            let wrong: Vec<&str> = judged.iter().filter_map(|one| one.as_ref().err().map(String::as_str)).collect();
            if wrong.is_empty() {
                let size_bytes = judged.iter().flatten().sum();
                return Ok(VerifiedObjects { count: judged.len() as u64, size_bytes });
            }
            let named = wrong[..wrong.len().min(NAMED)].join("; ");
            let fact = format!("{} of {} objects are not what they must be: {named}", wrong.len(), judged.len());
            Err(ActionError::fatal(fact).help("bring them back from another copy; do not rely on these"))
        };
        until_cancelled(cx, work).await
    }
}
