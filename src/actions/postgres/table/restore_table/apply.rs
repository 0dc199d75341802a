//! Brings the live tables to what the copy says, in one transaction.
//!
//! The differences were found without holding anything up. Here the tables are locked against writers, each row is
//! proven to be as it was when it was compared, and only then changed: what somebody wrote meanwhile is never lost,
//! the whole is undone instead. The script that undoes it is on disk before the transaction commits.

use super::ApplyMode;
use super::around;
use super::compare;
use super::large_object::Objects;
use super::pair::{OP, Pair, WAS};
use super::trail::{Doing, Trail};
use super::undo::Script;
use crate::action::ActionError;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::{copying, integrity};

/// How long the lock on a table is waited for.
pub(super) const LOCK_WITHIN: &str = "30s";

/// What was done to one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Done {
    pub(super) inserted: u64,
    pub(super) updated: u64,
    pub(super) deleted: u64,
    pub(super) sequences: u64,
}

/// Everything one application needs.
pub(super) struct Application<'a> {
    /// The tables.
    pub(super) pairs: &'a [Pair],
    /// What is done.
    pub(super) mode: ApplyMode,
    /// What the rows refer to, and the live database lacks.
    pub(super) objects: &'a Objects,
    /// What is told of it when it is cancelled.
    pub(super) trail: &'a Trail,
}

impl Application<'_> {
    /// Brings the differences over, applies them and commits. Gives what was done to each table.
    ///
    /// # Errors
    /// Fails without having changed anything; of unknown outcome only when the connection breaks during the commit.
    pub(super) async fn run(
        &self,
        (copy, live): (&mut Session, &mut Session),
        script: &Script,
    ) -> Result<Vec<Done>, ActionError> {
        live.query(copying::SAME_TEXT).await?;
        live.query(&format!(
            "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '{LOCK_WITHIN}'"
        ))
        .await?;
        for (number, pair) in self.pairs.iter().enumerate() {
            let columns = pair.list("");
            let wanted = self.mode.wanted();
            live.query(&pair.difference(&delta(number), "")).await?;
            let from = compare::difference(number);
            let give = format!("COPY (SELECT {OP}, {WAS}, {columns} FROM {from} WHERE {OP} IN ({wanted})) TO STDOUT");
            let take = format!("COPY {} ({OP}, {WAS}, {columns}) FROM STDIN", delta(number));
            copying::copy((&mut *copy, &give), (&mut *live, &take)).await?;
            live.query(&format!("ANALYZE {}", delta(number))).await?;
        }
        self.objects.load((&mut *copy, &mut *live)).await?;
        live.query("BEGIN").await?;
        let done = self.change(copy, live, script).await?;
        self.trail.during((Doing::Committing, Some(script.path())), live.commit("the tables were")).await?;
        Ok(done)
    }

    /// The transaction's work.
    async fn change(&self, copy: &mut Session, live: &mut Session, script: &Script) -> Result<Vec<Done>, ActionError> {
        let names: Vec<&str> = self.pairs.iter().map(|pair| pair.live.name.as_str()).collect();
        let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", names.join(", "));
        live.query(&lock).await?;
        self.unmoved(live).await?;
        let mut triggers = Vec::new();
        for pair in self.pairs {
            triggers.extend(around::triggers(live, &pair.live).await?);
        }
        let shapes: Vec<_> = self.pairs.iter().map(|pair| &pair.live).collect();
        let order = around::parents_first(live, &shapes).await?;
        for (number, pair) in self.pairs.iter().enumerate() {
            live.query(&pair.difference(&undo(number), "ON COMMIT DROP")).await?;
            live.query(&pair.reverse((&delta(number), &undo(number)))).await?;
        }
        for trigger in &triggers {
            live.query(&trigger.off).await?;
        }
        for statement in self.objects.making() {
            live.query(&statement).await?;
        }
        live.query("SET CONSTRAINTS ALL DEFERRED").await?;
        let done = self.carry_out(live, &order).await?;
        live.query("SET CONSTRAINTS ALL IMMEDIATE").await?;
        for trigger in &triggers {
            live.query(&trigger.on).await?;
        }
        self.prove(copy, live, &done).await?;
        self.objects.prove(live).await?;
        script.write((self.pairs, self.objects), (&order, &triggers), live).await?;
        Ok(done)
    }

    /// Refuses when somebody changed a row since it was compared.
    async fn unmoved(&self, live: &mut Session) -> Result<(), ActionError> {
        for (number, pair) in self.pairs.iter().enumerate() {
            let moved = live.value(&pair.moved(&delta(number))).await?;
            if moved != "0" {
                let fact = format!("{moved} rows of {} were changed since they were compared", pair.live.name);
                return Err(ActionError::retryable(fact)
                    .help("nothing was changed; run the step again, best when nobody writes"));
            }
        }
        Ok(())
    }

    /// Deletes children first, then changes and inserts parents first.
    async fn carry_out(&self, live: &mut Session, order: &[usize]) -> Result<Vec<Done>, ActionError> {
        let mut done = vec![Done::default(); self.pairs.len()];
        for &number in order.iter().rev() {
            let pair = &self.pairs[number];
            refuse_cascade(live, pair, &delta(number)).await?;
            done[number].deleted = live.query(&pair.delete(&delta(number))).await?.affected;
        }
        for &number in order {
            let pair = &self.pairs[number];
            if let Some(update) = pair.update(&delta(number)) {
                done[number].updated = live.query(&update).await?.affected;
            }
            done[number].inserted = live.query(&pair.insert(&delta(number))).await?.affected;
            done[number].sequences = around::sequences(live, &pair.live).await?;
        }
        Ok(done)
    }

    /// Proves what was done: every row is what the copy says, a mirror has no other, and no foreign key is broken.
    async fn prove(&self, copy: &mut Session, live: &mut Session, done: &[Done]) -> Result<(), ActionError> {
        for (number, pair) in self.pairs.iter().enumerate() {
            let name = &pair.live.name;
            let wanted = live.value(&format!("SELECT count(*) FROM {}", delta(number))).await?;
            let (rows, keys) = (pair.live(), pair.same_key("l", "d"));
            let right = live
                .value(&format!(
                    "SELECT count(*) FROM {} d LEFT JOIN {rows} l ON {keys} WHERE CASE d.{OP} WHEN 'd' THEN l.ctid IS NULL ELSE {} = {} END",
                    delta(number),
                    pair.row("l."),
                    pair.row("d.")
                ))
                .await?;
            let made = done[number].inserted + done[number].updated + done[number].deleted;
            if right != wanted || made.to_string() != wanted {
                let fact = format!("{wanted} rows of {name} were to be changed, {made} were, and {right} are right");
                return Err(
                    ActionError::fatal(fact).help("a rule or a trigger may stand in the way; nothing was changed")
                );
            }
            if self.mode == ApplyMode::Mirror {
                let count = |from: String| format!("SELECT count(*) FROM {from}");
                let (there, here) = (copy.value(&count(pair.copy())).await?, live.value(&count(rows)).await?);
                if there != here {
                    let fact = format!("{name} would have {here} rows, the copy has {there}: somebody writes to it");
                    return Err(ActionError::retryable(fact)
                        .help("nothing was changed; stop what writes to it and run the step again"));
                }
            }
        }
        let mut oids = Vec::new();
        for pair in self.pairs {
            oids.extend(around::family(live, &pair.live).await?);
        }
        let proof = integrity::foreign_keys_of(live, &oids).await?;
        match proof.faults.as_slice() {
            [] => Ok(()),
            faults => Err(ActionError::fatal(format!("foreign keys would be broken: {}", faults.join("; ")))
                .help("name the tables that they lead to as well; nothing was changed")),
        }
    }
}

/// Refuses what a foreign key would spread to rows that no difference names.
async fn refuse_cascade(live: &mut Session, pair: &Pair, difference: &str) -> Result<(), ActionError> {
    for reference in pair.live.references(live).await? {
        let (child, name) = (&reference.child, &reference.name);
        if reference.on_delete {
            let hit = live.value(&pair.followed(&reference, difference)).await?;
            if hit != "0" {
                let fact = format!("deleting rows of {} would change {hit} rows of {child} (`{name}`)", pair.live.name);
                let help = match reference.own {
                    true => "rows that stay refer to rows that came since: let them refer to others, or to none, first"
                        .to_owned(),
                    false => format!("name {child} among the tables as well"),
                };
                return Err(ActionError::fatal(fact).help(format!("{help}; nothing was changed")));
            }
        }
        if let Some(hit) = pair.spread(&reference, difference) {
            let hit = live.value(&hit).await?;
            if hit != "0" {
                let fact = format!("changing rows of {} would change rows of {child} (`{name}`)", pair.live.name);
                return Err(ActionError::fatal(fact)
                    .help("bring it back under another name and merge by hand; nothing was changed"));
            }
        }
    }
    Ok(())
}

/// The name of what is to be done to a table.
pub(super) fn delta(number: usize) -> String {
    format!("pg_temp.runbook_delta_{number}")
}

/// The name of what undoes that.
pub(super) fn undo(number: usize) -> String {
    format!("pg_temp.runbook_undo_{number}")
}
