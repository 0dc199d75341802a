//! Several databases in one step: one that cannot be dumped keeps no other from its dump, and is named in the end.

use super::params::{AllDatabases, DatabaseNames, DumpParams};
use crate::action::{ActionError, Findings};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::ident;
use crate::actions::postgres::logical::restore_dump::seat;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::sessions::Door;
use crate::catalog::Backup;
use crate::event::{ErrorClass, ErrorInfo, StepFinding, Verdict};

/// What came of each database so far.
#[derive(Default)]
pub(super) struct Yield {
    /// Those that have a dump of this run, with its copies.
    pub(super) dumped: Vec<(String, Vec<Backup>)>,
    lacking: Vec<(String, ActionError)>,
}

impl Yield {
    /// Takes what came of the next one.
    ///
    /// # Errors
    /// Gives the error back that ends the others, too: that of a cancel.
    pub(super) fn add(&mut self, dbname: String, dump: Result<Vec<Backup>, ActionError>) -> Result<(), ActionError> {
        match dump {
            Ok(backups) => self.dumped.push((dbname, backups)),
            Err(error) if error.info().class == ErrorClass::Cancelled => return Err(error),
            Err(error) => self.lacking.push((dbname, error)),
        }
        Ok(())
    }

    /// Gives the dumps when every database has its own.
    ///
    /// # Errors
    /// Fails with the reason of each that has none; worth another try when it is for one of them.
    pub(super) fn whole(mut self) -> Result<Vec<(String, Vec<Backup>)>, ActionError> {
        match (self.lacking.len(), self.dumped.len()) {
            (0, _) => Ok(self.dumped),
            (1, 0) => Err(self.lacking.remove(0).1),
            _ => Err(self.told()),
        }
    }

    fn told(&self) -> ActionError {
        let reasons = self.lacking.iter().map(|(dbname, error)| format!("`{dbname}`: {}", reason(error)));
        let reasons: Vec<String> = reasons.collect();
        let dumped = match self.dumped.is_empty() {
            true => "no database is done".to_owned(),
            false => format!("a dump of this run have {}", listed(self.dumped.iter().map(|(name, _)| name))),
        };
        let all = self.lacking.len() + self.dumped.len();
        let fact = format!(
            "{} of {all} databases have no dump of this run, or one in too few stores: {}; {dumped}",
            reasons.len(),
            reasons.join("; ")
        );
        let is_passing = self.lacking.iter().any(|(_, error)| error.info().class == ErrorClass::Retryable);
        let class = if is_passing { ErrorClass::Retryable } else { ErrorClass::Fatal };
        let mut told = ErrorInfo::new(class, fact);
        told.causes = self.lacking.iter().flat_map(|(_, error)| error.info().causes.clone()).collect();
        told.causes.dedup();
        let tails = self.lacking.iter().map(|(_, error)| (error.info().exit_code, &error.info().output_tail));
        for (exit_code, tail) in tails {
            told.exit_code = told.exit_code.or(exit_code);
            told.output_tail.extend(tail.iter().cloned());
        }
        ActionError::from(told).help(self.advice())
    }

    fn advice(&self) -> String {
        let mut helps: Vec<String> = Vec::new();
        for (dbname, error) in &self.lacking {
            let own = error.info().help.clone();
            helps.extend(seat::is_old(dbname).then(|| kept(dbname)).or(own));
        }
        helps.dedup();
        if !self.dumped.is_empty() {
            helps.push(
                "the dumps that are there stay, and another attempt of this run takes only the others".to_owned(),
            );
        }
        helps.push(
            "a database that nobody needs can be dropped; `exclude_dbnames` (`exclude` of `daily-backup`) leaves one out"
                .to_owned(),
        );
        helps.join("; ")
    }
}

/// The advice for a database that a restore kept under another name.
fn kept(dbname: &str) -> String {
    format!(
        "`{dbname}` was kept by a restore: `DROP DATABASE {}` when it was looked at, for as long as it cannot be read \
         every backup of all databases fails at it",
        ident(dbname)
    )
}

/// Why one has none: the error, and what its program said last of it.
fn reason(error: &ActionError) -> String {
    let tail = &error.info().output_tail;
    let said = tail.iter().rfind(|line| line.contains("ERROR:") || line.contains("FATAL:")).or(tail.last());
    said.map_or_else(|| error.in_full(), |said| format!("{}: {said}", error.in_full()))
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The databases that are dumped, and those of `all` that would be and take no connections.
pub(super) async fn dbnames(
    params: &DumpParams,
    cluster: &Cluster,
    session: &mut Session,
) -> Result<Vec<(String, Door)>, ActionError> {
    let open = |name: &String| (name.clone(), Door::Open);
    match &params.dbnames {
        None => Ok(vec![open(&cluster.dbname)]),
        Some(DatabaseNames::Named(names)) => Ok(names.iter().map(open).collect()),
        Some(DatabaseNames::Set(AllDatabases::All)) => {
            let there = all(session).await?.into_iter().filter(|(name, door)| !is_left(name, *door));
            Ok(there.filter(|(name, _)| !params.exclude_dbnames.contains(name)).collect())
        }
    }
}

/// Whether a restore put a database aside and shut it, or left it half loaded: no dump misses it.
fn is_left(dbname: &str, door: Door) -> bool {
    door == Door::Shut && (seat::is_old(dbname) || seat::is_fresh(dbname))
}

/// Why a database that takes no connections has no dump, and what to do about it.
pub(super) fn shut(dbname: &str) -> (String, String) {
    let fact = format!("database `{dbname}` takes no connections (`ALLOW_CONNECTIONS false`)");
    let help = format!(
        "somebody shut `{dbname}`, or a restore that was cut off while it swapped; once no run works on it: ALTER DATABASE {} \
         ALLOW_CONNECTIONS true",
        ident(dbname)
    );
    (fact, help)
}

/// Warns of names that leave nothing out.
pub(super) async fn excluded(
    params: &DumpParams,
    session: &mut Session,
    findings: Findings,
) -> Result<Findings, ActionError> {
    if params.exclude_dbnames.is_empty() {
        return Ok(findings);
    }
    let there = all(session).await?;
    let (known, unknown): (Vec<&String>, Vec<&String>) =
        params.exclude_dbnames.iter().partition(|name| there.iter().any(|(there, _)| there == *name));
    let findings = unknown.into_iter().fold(findings, |findings, name| {
        let fact = format!("the server has no database `{name}`, so nothing is left out by it");
        findings.warn(fact, "correct `exclude_dbnames`, or leave it out")
    });
    Ok(match known.is_empty() {
        true => findings,
        false => findings.pass(format!("left out, as `exclude_dbnames` says: {}", listed(known.into_iter()))),
    })
}

/// Every database but those that `initdb` makes as templates: a template of the site's own holds what nobody else does
/// (`dumpDatabases` in `pg_dumpall.c` takes it, too).
async fn all(session: &mut Session) -> Result<Vec<(String, Door)>, ActionError> {
    const ALL: &str = "SELECT datname, datallowconn FROM pg_database \
        WHERE datname <> 'template0' AND NOT (datistemplate AND datname = 'template1') ORDER BY 1";
    let listed = session.query(ALL).await?;
    let door = |row| if listed.at(row, 1) == Some("t") { Door::Open } else { Door::Shut };
    Ok((0..listed.rows.len()).filter_map(|row| Some((listed.at(row, 0)?.to_owned(), door(row)))).collect())
}

/// What stands against each database's dump. While one of them can be dumped, what refuses another is a warning.
///
/// # Errors
/// Gives the error of the only database.
pub(super) fn judged(each: Vec<(String, Result<Findings, ActionError>)>) -> Result<Findings, ActionError> {
    let count = each.len();
    let mut all = Vec::with_capacity(count);
    for (dbname, findings) in each {
        match findings {
            Ok(findings) => all.push((dbname, findings)),
            Err(error) if count == 1 || error.info().class == ErrorClass::Cancelled => return Err(error),
            Err(error) => {
                let help = error.info().help.clone().unwrap_or_else(|| "mend it, or drop it".to_owned());
                let fact = format!("database `{dbname}` cannot be looked at: {}", error.in_full());
                all.push((dbname, Findings::default().refuse(fact, help)));
            }
        }
    }
    let some_can = all.iter().any(|(_, findings)| !findings.refused());
    let findings = all.into_iter().flat_map(|(dbname, Findings(own))| {
        own.into_iter().map(move |finding| match (finding.verdict, some_can) {
            (Verdict::Refuse, true) => StepFinding {
                verdict: Verdict::Warn,
                message: format!("{}: `{dbname}` will get no dump, and the step will fail for it", finding.message),
                ..finding
            },
            (Verdict::Pass | Verdict::Pending | Verdict::Warn | Verdict::Refuse, _) => finding,
        })
    });
    Ok(Findings(findings.collect()))
}

#[cfg(test)]
mod tests {
    use super::{Door, Yield, is_left, judged};
    use crate::action::{ActionError, Findings};
    use crate::event::{ErrorClass, Verdict};

    #[test]
    fn each_database_without_a_dump_is_named_with_its_reason_and_those_with_one_too() {
        let mut found = Yield::default();
        found.add("a".to_owned(), Ok(Vec::new())).expect("it is taken");
        let tail = vec!["pg_dump: error: ERROR:  invalid page in block 3".to_owned(), "pg_dump: detail".to_owned()];
        let failed = ActionError::retryable("`pg_dump` failed").process(Some(1), tail);
        found.add("shop_old_20260128-143002-3fa9c1".to_owned(), Err(failed)).expect("it is taken");
        found.add("b".to_owned(), Err(ActionError::fatal("it is closed"))).expect("it is taken");
        found.add("zeta".to_owned(), Ok(Vec::new())).expect("it is taken");
        let error = found.whole().expect_err("a fault");
        assert_eq!(error.info().class, ErrorClass::Retryable);
        let text = error.to_string();
        for part in ["2 of 4 databases", "invalid page in block 3", "`b`: it is closed", "have `a`, `zeta`"] {
            assert!(text.contains(part), "{text}");
        }
        let help = error.info().help.clone().expect("help");
        assert!(help.contains("DROP DATABASE \"shop_old_20260128-143002-3fa9c1\""), "{help}");
    }

    #[test]
    fn the_error_of_the_only_one_stays_as_it_is_and_a_cancel_ends_all() {
        let mut found = Yield::default();
        found.add("a".to_owned(), Err(ActionError::fatal("it is closed"))).expect("it is taken");
        assert_eq!(found.whole().expect_err("a fault"), ActionError::fatal("it is closed"));
        let cancelled = ActionError::cancelled("enough");
        assert_eq!(Yield::default().add("a".to_owned(), Err(cancelled.clone())), Err(cancelled));
    }

    #[test]
    fn only_what_a_restore_has_shut_or_left_half_loaded_is_left_out_without_a_word() {
        let (old, fresh) = ("shop_old_20260128-143002-3fa9c1", "shop_runbook_20260128-143002-3fa9c1");
        assert!(is_left(old, Door::Shut) && is_left(fresh, Door::Shut));
        assert!(!is_left(old, Door::Open) && !is_left("shop", Door::Shut) && !is_left("shop_old_data", Door::Shut));
    }

    #[test]
    fn a_database_that_cannot_be_dumped_refuses_the_step_only_where_no_other_can() {
        let bad = || Findings::default().refuse("closed", "open it");
        let one = |findings| vec![("a".to_owned(), Ok(findings))];
        assert!(judged(one(bad())).expect("it is taken").refused());
        let both = vec![("a".to_owned(), Ok(bad())), ("b".to_owned(), Err(ActionError::fatal("gone")))];
        assert!(judged(both).expect("it is taken").refused());
        let good = ("c".to_owned(), Ok(Findings::default().pass("fine")));
        let some = judged(vec![good, ("b".to_owned(), Err(ActionError::fatal("gone")))]).expect("it is taken");
        assert!(!some.refused() && some.0.iter().any(|one| one.verdict == Verdict::Warn), "{some:?}");
        assert_eq!(judged(vec![("a".to_owned(), Err(ActionError::fatal("gone")))]), Err(ActionError::fatal("gone")));
    }
}
