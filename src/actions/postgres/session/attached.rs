//! What belongs to a database by its number and not by its name: subscriptions and logical replication slots.
//!
//! A rename leaves them where they are, so that after a swap changes flow into, or out of, the database that was put
//! aside. `DROP DATABASE` refuses while there is a subscription, and takes slots along.

use serde_json::json;

use super::connect::Session;
use crate::action::{ActionError, Findings, Reporter};
use crate::actions::postgres::cluster::name::{ident, literal};

/// Its subscriptions and slots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attached {
    subscriptions: Vec<String>,
    slots: Vec<String>,
}

impl Attached {
    /// Asks a server for those of a database; none where it has no such database.
    ///
    /// # Errors
    /// Fails as the server does.
    pub(crate) async fn of(session: &mut Session, dbname: &str) -> Result<Self, ActionError> {
        let name = literal(dbname);
        let subscriptions = format!(
            "SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = {name} ORDER BY 1"
        );
        let slots =
            format!("SELECT slot_name FROM pg_replication_slots WHERE database = {name} AND NOT temporary ORDER BY 1");
        Ok(Self { subscriptions: names(session, &subscriptions).await?, slots: names(session, &slots).await? })
    }

    /// Says what a rename of the database would leave behind.
    pub(crate) fn judge_rename(&self, dbname: &str, findings: Findings) -> Findings {
        let (subscriptions, slots) = (self.subscriptions.join(", "), self.slots.join(", "));
        let findings = match subscriptions.as_str() {
            "" => findings,
            all => findings.warn(
                format!(
                    "subscriptions of database `{dbname}` stay with it under its other name and write there: {all}"
                ),
                "`ALTER SUBSCRIPTION … DISABLE` before; after the swap make them anew, with a fresh copy",
            ),
        };
        match slots.as_str() {
            "" => findings,
            all => findings.warn(
                format!("logical replication slots of database `{dbname}` stay with it under its other name: {all}"),
                "after the swap their consumers must begin anew with a fresh copy; drop slots that nobody reads: they keep WAL",
            ),
        }
    }

    /// Refuses a drop that the server would refuse, and says what it would take along.
    pub(crate) fn judge_drop(&self, dbname: &str, findings: Findings) -> Findings {
        let (subscriptions, slots) = (self.subscriptions.join(", "), self.slots.join(", "));
        let findings = match subscriptions.as_str() {
            "" => findings,
            all => findings.refuse(
                format!("database `{dbname}` cannot be dropped while it has subscriptions: {all}"),
                "drop them first, in that database: `DROP SUBSCRIPTION …`, which also drops the publisher's slot",
            ),
        };
        match slots.as_str() {
            "" => findings,
            all => findings.warn(
                format!("logical replication slots go with database `{dbname}`: {all}"),
                "their consumers must begin anew with a fresh copy",
            ),
        }
    }

    /// Asks what stayed with a database that was put aside as `aside`, so that another one has its name now, and says so.
    /// The names are changed by then: no answer is a remark, and no failure of what was done.
    pub(crate) async fn tell(session: &mut Session, (aside, name): (&str, &str), reporter: &dyn Reporter) {
        match Self::of(session, aside).await {
            Ok(attached) => attached.note((aside, name), reporter),
            Err(error) => {
                let message =
                    format!("which subscriptions and replication slots stay with `{aside}` is not known: {error}");
                reporter.note(message, json!({ "database": aside }));
            }
        }
    }

    fn note(&self, (aside, name): (&str, &str), reporter: &dyn Reporter) {
        let (subscriptions, slots) = (self.subscriptions.join(", "), self.slots.join(", "));
        if !subscriptions.is_empty() {
            let message = format!(
                "subscriptions stay with `{aside}`, and what is enabled goes on writing there: {subscriptions}; \
                 `ALTER SUBSCRIPTION … DISABLE` stops that; in `{name}` they need a fresh copy"
            );
            reporter.note(message, json!({ "subscriptions": self.subscriptions, "database": aside }));
        }
        if !slots.is_empty() {
            let message = format!(
                "logical replication slots stay with `{aside}`: {slots}; their consumers must begin anew with slots in \
                 `{name}` and a fresh copy, and slots that nobody reads keep WAL until they are dropped"
            );
            reporter.note(message, json!({ "slots": self.slots, "database": aside }));
        }
    }

    /// Removes the subscriptions that a load has made in a database that nobody uses yet: their publishers never heard of
    /// them.
    ///
    /// # Errors
    /// Fails as the server does. `within` must be a session in that database.
    pub(crate) async fn forget(&self, within: &mut Session) -> Result<(), ActionError> {
        for name in self.subscriptions.iter().map(|name| ident(name)) {
            within.query(&format!("ALTER SUBSCRIPTION {name} DISABLE")).await?;
            within.query(&format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")).await?;
            within.query(&format!("DROP SUBSCRIPTION {name}")).await?;
        }
        Ok(())
    }

    /// Whether there are subscriptions.
    pub(crate) fn subscribes(&self) -> bool {
        !self.subscriptions.is_empty()
    }
}

async fn names(session: &mut Session, statement: &str) -> Result<Vec<String>, ActionError> {
    Ok(session.query(statement).await?.rows.into_iter().flatten().flatten().collect())
}
