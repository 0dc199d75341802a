//! Materialized views that come back with their tables: made anew from the rows of now. A server takes no rows for one but
//! those of its query, so what it held in the copy cannot be put back into it.

use super::recreate::{FAMILY, there};
use super::shape::{Shape, texts};
use crate::action::ActionError;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::copying;

/// What a materialized view held in the copy, and holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refreshed {
    name: String,
    then: Held,
    now: Held,
}

/// What a materialized view holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    /// It was never filled, or emptied: it gives no answer.
    Nothing,
    /// Rows, with a sum of their digests that no order changes.
    Rows { count: String, sum: String },
}

/// The materialized views on tables that are gone which the live database lacks.
///
/// # Errors
/// Fails as a server says.
pub(super) async fn coming(
    gone: &[Shape],
    (copy, live): (&mut Session, &mut Session),
) -> Result<Vec<String>, ActionError> {
    let oids: Vec<String> = gone.iter().map(|table| table.oid.to_string()).collect();
    let family = copy.query(&FAMILY.replace('$', &oids.join(","))).await?;
    let mut names = Vec::new();
    for row in 0..family.rows.len() {
        let (Some(name), Some("m")) = (family.at(row, 1), family.at(row, 2)) else { continue };
        if !there(live, name).await? {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Says ahead what becomes of them; nothing where there are none.
pub(super) fn ahead(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| {
        format!(
            "materialized views went with them and come back made anew from the rows of now, not with those that they had: {}; the \
             server takes no rows for one but those of its query",
            names.join(", ")
        )
    })
}

/// Holds materialized views that were made again against those of the copy.
///
/// # Errors
/// Fails as a server says.
pub(super) async fn compare(
    names: &[String],
    (copy, live): (&mut Session, &mut Session),
) -> Result<Vec<Refreshed>, ActionError> {
    copy.query(copying::SAME_TEXT).await?;
    live.query(copying::SAME_TEXT).await?;
    let mut all = Vec::new();
    for name in names {
        let (then, now) = (Held::of(name, copy).await?, Held::of(name, live).await?);
        all.push(Refreshed { name: name.clone(), then, now });
    }
    Ok(all)
}

impl Held {
    async fn of(name: &str, session: &mut Session) -> Result<Self, ActionError> {
        let filled = format!("SELECT relispopulated FROM pg_class WHERE oid = to_regclass({})", literal(name));
        if texts(session, &filled).await?.first().map(String::as_str) != Some("t") {
            return Ok(Self::Nothing);
        }
        let held = format!(
            "SELECT count(*), coalesce(sum(('x' || left(md5(m::text), 15))::bit(60)::bigint::numeric), 0) FROM {name} AS m"
        );
        let table = session.query(&held).await?;
        let text = |column: usize| table.at(0, column).unwrap_or_default().to_owned();
        Ok(Self::Rows { count: text(0), sum: text(1) })
    }

    fn words(&self) -> String {
        match self {
            Self::Nothing => "none".to_owned(),
            Self::Rows { count, .. } => count.clone(),
        }
    }
}

impl Refreshed {
    /// Whether it has other rows than it had.
    pub(super) fn is_other(&self) -> bool {
        self.then != self.now
    }

    /// Its name, with the rows that it has and had.
    pub(super) fn words(&self) -> String {
        format!("{} ({} rows now, {} in the copy)", self.name, self.now.words(), self.then.words())
    }

    /// Says what became of it.
    pub(super) fn told(&self) -> String {
        match self.is_other() {
            true => format!(
                "materialized view {} was made anew from the rows of now and is not as it was: the server takes no rows for one but \
                 those of its query",
                self.words()
            ),
            false => format!("materialized view {} was made anew and has the rows that it had", self.name),
        }
    }
}
