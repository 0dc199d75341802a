//! Judges ahead whether the live tables can be brought back, before a copy of them is made.

use super::inherited;
use super::lacking::Lacking;
use super::params::{RestoreTableMode, RestoreTableParams};
use super::shape::Shape;
use super::work::UNLOGGED;
use crate::action::{ActionError, Findings};
use crate::actions::postgres::session::connect::Session;
use crate::catalog::KIND_POSTGRES_DUMP;

/// How a table came to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// It was named.
    Named,
    /// It inherits from one that was.
    Along,
}

/// Judges the tables that are there, those that inherit from them, and those that are not there.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn judge(
    (lacking, kind): (Lacking<'_>, Option<String>),
    session: &mut Session,
    mut findings: Findings,
) -> Result<Findings, ActionError> {
    let params = lacking.params;
    let (mut named, mut heirs) = (Vec::<Shape>::new(), Vec::<Shape>::new());
    for table in &params.tables {
        let Some(shape) = Shape::look(session, table).await? else {
            findings = lacking.judge(table, session, findings).await?;
            continue;
        };
        let along = inherited::heirs(session, &shape).await?;
        if !along.is_empty() {
            findings = findings.pass(format!(
                "what inherits from {} comes with it where the copy has it: {}",
                shape.name,
                along.join(", ")
            ));
        }
        for name in along {
            heirs.extend(Shape::look(session, &name).await?);
        }
        named.push(shape);
    }
    let mut seen = std::collections::BTreeSet::new();
    let named = named.into_iter().map(|one| (one, Looked::Named));
    for (shape, looked) in named.chain(heirs.into_iter().map(|one| (one, Looked::Along))) {
        if seen.insert(shape.oid) {
            findings = one((&shape, looked), (params, kind.as_deref()), session, findings).await?;
        }
    }
    Ok(findings)
}

/// Judges one table that is there.
async fn one(
    (shape, looked): (&Shape, Looked),
    (params, kind): (&RestoreTableParams, Option<&str>),
    session: &mut Session,
    mut findings: Findings,
) -> Result<Findings, ActionError> {
    if !shape.unlogged.is_empty() {
        let names = shape.unlogged.join(", ");
        findings = match kind {
            Some(KIND_POSTGRES_DUMP) => findings.pass(format!("{names} is UNLOGGED, and a dump has its rows")),
            Some(_) | None => {
                findings.warn(format!("{names} is UNLOGGED: a copy of a base backup has no rows of it"), UNLOGGED)
            }
        };
    }
    if shape.key.is_empty() && params.mode == RestoreTableMode::Compare {
        let fact = format!("{} has no primary key: only whether all of its rows are the same is told", shape.name);
        return Ok(findings.pass(fact));
    }
    if shape.key.is_empty() {
        let fact = format!(
            "{} has no primary key and no unique index without NULLs: its rows cannot be told apart",
            shape.name
        );
        return Ok(match looked {
            Looked::Named => findings.refuse(fact, "rename the live table, and its copy is brought back whole"),
            // It may be as it was: only the copy knows.
            Looked::Along => findings.warn(fact, inherited::APART),
        });
    }
    let may = format!(
        "SELECT pg_has_role(c.relowner, 'USAGE') AND has_database_privilege(current_database(), 'TEMP') FROM pg_class c WHERE c.oid = {}",
        shape.oid
    );
    if params.mode == RestoreTableMode::Apply && session.value(&may).await? != "t" {
        let fact = format!("the role may not switch off the triggers of {}, or make temporary tables", shape.name);
        let help = "connect as the table's owner (`user` of the database), with TEMP on the database";
        return Ok(match looked {
            Looked::Named => findings.refuse(fact, help),
            // One that inherits since is left as it is.
            Looked::Along => findings.warn(fact, help),
        });
    }
    Ok(findings.pass(format!("{} is there, with the key ({})", shape.name, shape.key.join(", "))))
}
