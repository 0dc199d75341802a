//! `postgres.export`: the rows of a query as CSV, in a file or a store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Late, ParamFault, PlainFacts, PlanContext, PutOptions, RunContext, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::connect::Endpoint;
use crate::actions::postgres::session::copy_out::CopyOut;
use crate::actions::postgres::stores::archive::stream_failed;
use crate::actions::store::FilePlace;
use crate::actions::store::arrival::{Arrival, Existing};
use crate::actions::store::place::FileSpot;
use crate::base::Digest;
use crate::base::digest::Hasher;
use crate::base::units::ByteSize;
use crate::transfer::{Packing, upload};

/// The mode of a file: people's data is nobody else's business.
const FILE_MODE: u32 = 0o600;

/// Exports rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Export;

/// The arguments of `postgres.export`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportParams {
    /// The database of the inventory: one server.
    pub database: DatabaseRef,
    /// The instance. Default: the database's own server.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// The database within the server. Default: the `dbname` of the inventory.
    #[serde(default)]
    pub dbname: Option<Late<String>>,
    /// One query; it runs in a read-only transaction.
    pub sql: String,
    /// The file or object that gets the rows.
    pub to: FilePlace,
    /// Whether the first line has the columns' names. Default yes.
    #[serde(default = "yes")]
    pub header: bool,
    /// Replaces a file or object that is there; without it, other content there is an error.
    #[serde(default)]
    pub overwrite: bool,
}

fn yes() -> bool {
    true
}

/// The outputs of `postgres.export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportOutput {
    /// Where it lies.
    pub place: String,
    /// The rows, without the header.
    pub rows: u64,
    /// The bytes.
    pub size_bytes: u64,
    /// Their SHA-256.
    pub sha256: Digest,
}

impl ExportOutput {
    fn told(&self) -> String {
        let Self { place, rows, size_bytes, sha256 } = self;
        let rows = match rows {
            0 => "no row: the query gave none".to_owned(),
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        };
        format!("`{place}` has {rows}; {}, SHA-256 {sha256}", ByteSize(*size_bytes))
    }
}

impl ExportParams {
    fn sql(&self) -> &str {
        self.sql.trim().trim_end_matches(';').trim_end()
    }

    fn copy(&self) -> String {
        format!("COPY (\n{}\n) TO STDOUT WITH (FORMAT csv, HEADER {}, ENCODING 'UTF8')", self.sql(), self.header)
    }

    fn dbname<'a>(&'a self, cluster: &'a Cluster) -> Result<&'a str, ActionError> {
        match &self.dbname {
            Some(dbname) => Ok(dbname.get()?),
            None => Ok(&cluster.dbname),
        }
    }
}

impl Action for Export {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.export",
        summary: "Writes the rows of a query as CSV into a file or a store.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example {
                title: "Into a file",
                with: "{ database: orders, sql: 'SELECT * FROM users ORDER BY id', to: { path: /srv/export/users.csv } }",
            },
            Example {
                title: "Into a store, from another database of the server",
                with: "{ database: orders, dbname: shop, sql: SELECT * FROM orders, to: { store: primary, key: exports/orders.csv }, overwrite: true }",
            },
        ],
    };
    type Params = ExportParams;
    type Output = ExportOutput;

    fn effects(&self, params: &ExportParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        let spot = params.to.spot("/to").map_err(|fault| vec![fault])?;
        if params.sql().is_empty() {
            return Err(vec![ParamFault::new("/sql", "the query is empty")]);
        }
        let from = Target::Database { name: cluster.name };
        Ok(Effects::of(EffectClass::Write).target(Access::Read, from).target(Access::Write, spot.target(cx)))
    }

    fn by_hand(&self, params: &ExportParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let dbname = params.dbname.as_ref().map_or_else(|| cluster.dbname.clone(), |name| name.shown(Clone::clone));
        let to = params.to.spot("/to").map(|spot| spot.shown(cx)).unwrap_or_default();
        vec![
            remark(&format!("what this prints goes to {to}")),
            by_hand::sql(&cluster, &dbname, &params.copy().replace('\n', " ")),
        ]
    }

    async fn check(&self, params: &ExportParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let own = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let mut findings = Findings::default();
        if cx.ahead
            && !params.overwrite
            && let Some(fact) = taken(params, cx).await?
        {
            findings = match params.instance {
                Some(_) => return Ok(findings.refuse(fact, "name another place, or say `overwrite: true`")),
                // Nothing is made for it before: the step itself finds out, at once, whether these are the rows.
                None => findings.warn(
                    fact,
                    "the same rows once more are a success, any others an error: name another place, or say `overwrite: true`",
                ),
            };
        }
        let late = params.dbname.as_ref().is_some_and(|name| name.known().is_none());
        if cx.ahead || late || params.instance.is_some() || own.is_scratch() {
            return Ok(findings.pending("the query is prepared when the step starts"));
        }
        let endpoint = Endpoint::of(&own, Some(params.dbname(&own)?), cx.about.secrets.as_ref())?;
        let columns = endpoint.open().await?.types(params.sql()).await?.len();
        Ok(match columns {
            0 => findings.refuse("the statement gives no rows", "write a query: SELECT …"),
            count => findings.pass(format!("the query gives {count} columns")),
        })
    }

    async fn run(&self, params: &ExportParams, cx: &RunContext) -> Result<ExportOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let cluster = match &params.instance {
            Some(instance) => cluster.serving(instance.get()?, &cx.about.scratch)?,
            None => cluster,
        };
        let endpoint = Endpoint::of(&cluster, Some(params.dbname(&cluster)?), cx.about.secrets.as_ref())?;
        let work = async {
            let mut session = endpoint.open().await?;
            session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            // One statement that gives rows, and nothing that only looks like one inside the brackets.
            session.types(params.sql()).await?;
            let body = session.copy_out(&params.copy()).await?;
            let records = Arc::clone(&body.records.count);
            let spot = params.to.known()?;
            let written = match &spot {
                FileSpot::File(path) => file(body, (path, Existing::from(params.overwrite)), cx).await?,
                FileSpot::Object(store, key) => {
                    let store = cx.store(store.as_str())?;
                    let options = PutOptions { if_absent: !params.overwrite, ..PutOptions::default() };
                    let uploaded = upload((store.as_ref(), key), Box::new(body), &Packing::plain(), options).await;
                    let plain = uploaded.map_err(|error| stream_failed(&error))?.packed.plain;
                    plain.facts().ok_or_else(|| ActionError::fatal("no digest of the rows was taken"))?
                }
            };
            let rows = records.load(Ordering::Relaxed).saturating_sub(u64::from(params.header));
            let PlainFacts { size_bytes, sha256 } = written;
            let output = ExportOutput { place: spot.to_string(), rows, size_bytes, sha256 };
            // Who asked wants the file and its digest; an answer without a row must not look like one with.
            cx.reporter.note(output.told(), serde_json::to_value(&output).unwrap_or_default());
            Ok(output)
        };
        tokio::select! {
            done = work => done,
            () = cx.cancel.cancelled() => Err(ActionError::cancelled("the export was cancelled; nothing was published")),
        }
    }
}

/// Says that something lies where the rows would go. A step that makes the copy they come from takes its time: who may be
/// refused after it is told before.
async fn taken(params: &ExportParams, cx: &CheckContext) -> Result<Option<String>, ActionError> {
    let is_there = match params.to.known()? {
        FileSpot::File(path) => {
            let facts = cx.host.read_files().facts(&path);
            let cannot =
                |error| ActionError::fatal(format!("`{}` cannot be looked at", path.display())).because(&error);
            facts.map_err(cannot)?.map(|_| format!("`{}`", path.display()))
        }
        FileSpot::Object(store, key) if !cx.may_still_change(store.as_str()) => {
            match cx.store(store.as_str())?.head(&key).await {
                Ok(_) => Some(format!("`{key}` in store `{}`", store.as_str())),
                Err(_) => None,
            }
        }
        FileSpot::Object(..) => None,
    };
    Ok(is_there.map(|place| format!("{place} is there already")))
}

/// Writes a file that gets its name when all of it is there.
async fn file(
    mut body: CopyOut,
    (path, existing): (&Path, Existing),
    cx: &RunContext,
) -> Result<PlainFacts, ActionError> {
    let (arrival, file) = Arrival::begin(cx.host.files(), path, FILE_MODE, existing).await?;
    let mut file = tokio::fs::File::from_std(file);
    let (mut hasher, mut size_bytes, mut buffer) = (Hasher::default(), 0, vec![0; 256 << 10]);
    let written = loop {
        match body.read(&mut buffer).await {
            Ok(0) => break file.flush().await,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size_bytes += count as u64;
                if let Err(error) = file.write_all(&buffer[..count]).await {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    let facts = PlainFacts { size_bytes, sha256: hasher.finish() };
    let written = written.map(|()| facts);
    arrival.end(written.map_err(|error| ActionError::retryable("the export broke off").because(&error))).await
}
