//! `postgres.query`: one statement, rows as outputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_postgres::types::Type;

use super::commit::Commit;
use super::connect::{Endpoint, Table};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Late, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;

/// Rows that are given out at most; more is an error, not a silent cut.
const LIMIT: usize = 1000;

/// Runs a statement and gives its rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query;

/// The arguments of `postgres.query`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The instance to ask, as `postgres.recover` gave it; default: the one of the inventory.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// One statement.
    pub sql: String,
    /// The database within the server; default: the inventory's `dbname`.
    #[serde(default)]
    pub dbname: Option<String>,
    /// `read` (default) runs in a read-only transaction; `write` commits.
    #[serde(default)]
    pub effect: QueryEffect,
}

/// How far a statement reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueryEffect {
    /// It reads; the server refuses anything else.
    #[default]
    Read,
    /// It changes something, in one transaction that is committed.
    Write,
}

/// The outputs of `postgres.query`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueryOutput {
    /// The rows, each a mapping from column to value.
    pub rows: Vec<Map<String, Value>>,
    /// How many rows there are, or were changed.
    pub row_count: u64,
    /// The first column of the first row; null without rows.
    pub value: Value,
}

impl Action for Query {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.query",
        summary: "Runs one SQL statement and gives its rows.",
        effect: EffectClass::Write,
        idempotency: Idempotency::NotIdempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example {
            title: "Count rows",
            with: "{ database: orders, sql: 'SELECT count(*) AS n FROM users' }",
        }],
    };
    type Params = QueryParams;
    type Output = QueryOutput;

    fn effects(&self, params: &QueryParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        if params.sql.trim().is_empty() {
            return Err(vec![ParamFault::new("/sql", "the statement is empty")]);
        }
        let (class, access) = match params.effect {
            QueryEffect::Read => (EffectClass::Read, Access::Read),
            QueryEffect::Write => (EffectClass::Write, Access::Write),
        };
        Ok(Effects::of(class).target(access, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &QueryParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        vec![by_hand::sql(&cluster, params.dbname.as_ref().unwrap_or(&cluster.dbname), &params.sql)]
    }

    async fn check(&self, params: &QueryParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        if cx.ahead || params.instance.is_some() || cluster.is_scratch() {
            return Ok(Findings::default().pending("the server is asked when the step starts"));
        }
        let endpoint = Endpoint::of(&cluster, params.dbname.as_deref(), cx.about.secrets.as_ref())?;
        endpoint.open().await?;
        Ok(Findings::default().pass(format!("database `{}` takes sessions", cluster.name)))
    }

    async fn run(&self, params: &QueryParams, cx: &RunContext) -> Result<QueryOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let cluster = match &params.instance {
            Some(instance) => cluster.serving(instance.get()?, &cx.about.scratch)?,
            None => cluster,
        };
        let mut session = Endpoint::of(&cluster, params.dbname.as_deref(), cx.about.secrets.as_ref())?.open().await?;
        let commit = Commit::default();
        let work = async {
            session
                .query(match params.effect {
                    QueryEffect::Read => "BEGIN READ ONLY",
                    QueryEffect::Write => "BEGIN",
                })
                .await?;
            let types = session.types(&params.sql).await?;
            let table = session.query(&params.sql).await?;
            // The answer comes first: too many rows are an error, and then nothing may be committed.
            let output = output(&table, &types)?;
            match params.effect {
                QueryEffect::Read => session.query("ROLLBACK").await.map(drop)?,
                QueryEffect::Write => commit.during(session.commit("the statement was")).await?,
            }
            Ok(output)
        };
        tokio::select! {
            done = work => done,
            () = cx.cancel.cancelled() => {
                Err(commit.cancelled("the statement was", "the query was cancelled; the server rolls it back"))
            }
        }
    }
}

fn output(table: &Table, types: &[Type]) -> Result<QueryOutput, ActionError> {
    if table.rows.len() > LIMIT {
        let fact = format!("the statement gave {} rows; at most {LIMIT} are kept", table.rows.len());
        return Err(ActionError::fatal(fact).help("add a LIMIT, or aggregate"));
    }
    let rows: Vec<Map<String, Value>> = table
        .rows
        .iter()
        .map(|row| {
            let cells = table.columns.iter().zip(row).enumerate();
            cells.map(|(index, (name, cell))| (name.clone(), json(cell.as_deref(), types.get(index)))).collect()
        })
        .collect();
    let first = table.rows.first().and_then(|row| row.first()).and_then(|cell| cell.as_deref());
    let row_count = if table.columns.is_empty() { table.affected } else { rows.len() as u64 };
    Ok(QueryOutput { value: json(first, types.first()), rows, row_count })
}

/// Numbers that JSON can hold exactly, truth values and JSON itself keep their type; the rest is text.
fn json(cell: Option<&str>, kind: Option<&Type>) -> Value {
    let Some(text) = cell else { return Value::Null };
    let own = || Value::String(text.to_owned());
    match kind {
        Some(&Type::BOOL) => Value::Bool(text == "t"),
        Some(&Type::INT2 | &Type::INT4 | &Type::INT8 | &Type::OID) => {
            text.parse::<i64>().map_or_else(|_| own(), Value::from)
        }
        Some(&Type::FLOAT4 | &Type::FLOAT8) => text.parse::<f64>().map_or_else(|_| own(), Value::from),
        Some(&Type::JSON | &Type::JSONB) => serde_json::from_str(text).unwrap_or_else(|_| own()),
        _ => own(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_the_type_that_json_has_for_them() {
        assert_eq!(json(Some("12"), Some(&Type::INT8)), Value::from(12));
        assert_eq!(json(Some("t"), Some(&Type::BOOL)), Value::Bool(true));
        assert_eq!(json(Some("{\"a\": 1}"), Some(&Type::JSONB)), serde_json::json!({ "a": 1 }));
        assert_eq!(json(Some("12.30"), Some(&Type::NUMERIC)), Value::from("12.30"));
        assert_eq!(json(None, Some(&Type::INT8)), Value::Null);
    }

    #[test]
    fn more_rows_than_the_limit_are_an_error() {
        let table = Table { columns: vec!["n".into()], rows: vec![vec![None]; LIMIT + 1], affected: 0 };
        assert!(output(&table, &[]).is_err());
    }
}
