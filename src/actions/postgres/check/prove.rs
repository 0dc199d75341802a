//! Proves one thing after the other, each in a session of its own that may only read.

use super::basis::{Basis, Origin};
use super::condition;
use super::params::{CheckParams, CheckResult, Newest};
use super::planned::{Planned, Threshold, What};
use super::smoke;
use crate::action::{ActionError, Late, RunContext};
use crate::actions::backup::vouched::vouched;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::connect::{Endpoint, Session};
use crate::actions::postgres::session::content::{Content, FactsDepth, differences};
use crate::actions::postgres::session::integrity::{self, Proof};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::base::clock;
use crate::catalog::{ContentFacts, DatabaseFacts};
use crate::event::{ErrorClass, Progress};

/// Proves a cluster.
pub(super) struct Prover<'a> {
    /// The cluster.
    pub(super) cluster: &'a Cluster,
    /// The arguments.
    pub(super) params: &'a CheckParams,
    /// The attempt.
    pub(super) cx: &'a RunContext,
    /// Facts that were taken because there were none.
    pub(super) taken: Option<ContentFacts>,
}

/// What a check found: whether it passed, the value, what was expected, and what is wrong.
#[derive(Default)]
struct Found {
    passed: bool,
    value: String,
    expected: String,
    details: Vec<String>,
    /// Why it could not be made; nothing was found wrong then.
    unproven: Option<String>,
}

impl Found {
    fn of(proof: Proof, what: &str) -> Self {
        let bad = proof.faults.len();
        let unproven = Some(proof.unmade.join("; ")).filter(|why| !why.is_empty() && bad == 0);
        let value = match &unproven {
            Some(_) => "not made".to_owned(),
            None => format!("{bad} faults in {}", proof.looked_at),
        };
        let details = proof.faults.into_iter().chain(proof.notes).chain(proof.unmade).collect();
        Self { passed: bad == 0 && unproven.is_none(), value, expected: format!("all {what}"), details, unproven }
    }
}

impl Prover<'_> {
    /// Proves one thing. What the server refuses is a check that failed: the others are proved all the same.
    ///
    /// # Errors
    /// Fails when nothing can be judged: the server is lost, facts are not comparable, the step was cancelled.
    pub(super) async fn prove(&mut self, check: &Planned) -> Result<CheckResult, ActionError> {
        self.cx.reporter.progress(Progress::Doing { text: format!("check `{}`", check.name) });
        let found = match self.found(check).await {
            Ok(found) => found,
            Err(error) if self.is_no_verdict(check, &error) => return Err(error),
            Err(error) => {
                let info = error.into_info();
                let details = std::iter::once(info.message).chain(info.causes).collect();
                Found {
                    passed: false,
                    value: "an error".to_owned(),
                    expected: "an answer".to_owned(),
                    details,
                    ..Found::default()
                }
            }
        };
        let Found { passed, value, expected, details, unproven } = found;
        Ok(CheckResult { name: check.name.clone(), passed, value, expected, details, unproven })
    }

    fn is_no_verdict(&self, check: &Planned, error: &ActionError) -> bool {
        let fatal = error.info().class == ErrorClass::Fatal;
        !fatal || matches!(check.what, What::Facts(_) | What::Smoke(_))
    }

    async fn found(&mut self, check: &Planned) -> Result<Found, ActionError> {
        let dbname = check.dbname.as_deref();
        match &check.what {
            What::Keys => {
                let proof = self.everywhere(check).await?;
                // The only thing that is noted of a key.
                let unproven = proof.notes.len();
                let found = Found::of(proof, "foreign keys hold");
                Ok(match unproven {
                    0 => found,
                    _ => Found {
                        value: format!("{}; {unproven} NOT VALID and not looked at", found.value),
                        expected: "all valid foreign keys hold".to_owned(),
                        ..found
                    },
                })
            }
            What::Indexes(_) => Ok(Found::of(self.everywhere(check).await?, "indexes are valid")),
            What::Sequences => Ok(Found::of(self.everywhere(check).await?, "sequences are ahead of their columns")),
            What::Extensions => Ok(Found::of(self.everywhere(check).await?, "extensions are installed")),
            What::Collations => Ok(Found::of(self.everywhere(check).await?, "collations are of their version")),
            What::Tables(tables) => self.tables(tables, dbname).await,
            What::Rows(rows) => self.rows(rows, dbname).await,
            What::Facts(depth) => self.facts(*depth, dbname).await,
            What::Schema(wanted) => {
                let mut content = Content::open(self.open(dbname).await?).await?;
                let found = content.schema().await?;
                let expected = format!("schema {wanted}");
                Ok(Found { passed: found == *wanted, value: format!("schema {found}"), expected, ..Found::default() })
            }
            What::Newest(newest) => self.newest(newest, dbname).await,
            What::Smoke(test) => {
                let dbname = dbname.unwrap_or(&self.cluster.dbname);
                let (passed, value, details) = smoke::run(test, (self.cluster, dbname), self.cx).await?;
                Ok(Found { passed, value, expected: "exit 0".to_owned(), details, ..Found::default() })
            }
            What::Sql { sql, expect, shown } => {
                let mut session = self.reading(dbname).await?;
                session.types(sql).await?;
                let table = session.query(sql).await?;
                let (passed, value) = match expect {
                    Some(expect) => {
                        let value = table.first().map_or_else(|| "null".to_owned(), |value| format!("`{value}`"));
                        (expect.holds(table.first()), value)
                    }
                    None => (!table.rows.is_empty(), format!("{} rows", table.rows.len())),
                };
                Ok(Found { passed, value, expected: shown.clone(), ..Found::default() })
            }
        }
    }

    /// Proves what every database must keep: the one that is named, else all.
    async fn everywhere(&self, check: &Planned) -> Result<Proof, ActionError> {
        let names = match &check.dbname {
            Some(name) => vec![name.clone()],
            None => integrity::databases(&mut self.somewhere().await?).await?,
        };
        let mut whole = Proof::default();
        for name in names {
            let part = async {
                let mut session = self.open(Some(&name)).await?;
                self.of_database(&check.what, &mut session).await
            };
            let part = match part.await {
                Ok(part) => part,
                Err(error) if whole.faults.is_empty() || error.info().class == ErrorClass::Cancelled => {
                    return Err(error);
                }
                // What was found in another database stands.
                Err(error) => {
                    whole.unmade.push(format!("{name}: {}", error.in_full()));
                    continue;
                }
            };
            whole.looked_at += part.looked_at;
            whole.faults.extend(part.faults.into_iter().map(|fault| format!("{name}: {fault}")));
            whole.notes.extend(part.notes.into_iter().map(|note| format!("{name}: {note}")));
            whole.unmade.extend(part.unmade.into_iter().map(|why| format!("{name}: {why}")));
        }
        Ok(whole)
    }

    async fn of_database(&self, what: &What, session: &mut Session) -> Result<Proof, ActionError> {
        if let What::Indexes(walk) = what {
            // Only what is thrown away may be changed, and that is rolled back as well.
            let lent = self.cluster.is_scratch() && integrity::lend_amcheck(session).await?;
            if !lent {
                integrity::begin(session).await?;
            }
            return integrity::indexes(session, *walk).await;
        }
        integrity::begin(session).await?;
        match what {
            What::Keys => integrity::foreign_keys(session).await,
            What::Sequences => condition::sequences(session).await,
            What::Extensions => condition::extensions(session).await,
            What::Collations => condition::collations(session).await,
            What::Indexes(_)
            | What::Tables(_)
            | What::Rows(_)
            | What::Facts(_)
            | What::Schema(_)
            | What::Newest(_)
            | What::Smoke(_)
            | What::Sql { .. } => Ok(Proof::default()),
        }
    }

    async fn tables(&self, tables: &[String], dbname: Option<&str>) -> Result<Found, ActionError> {
        let mut session = self.reading(dbname).await?;
        let mut details = Vec::new();
        for table in tables {
            if condition::table(&mut session, table).await?.is_none() {
                details.push(missing(table));
            }
        }
        let value = format!("{} of {}", tables.len() - details.len(), tables.len());
        Ok(Found { passed: details.is_empty(), value, expected: "every table".to_owned(), details, ..Found::default() })
    }

    async fn rows(&self, rows: &[Threshold], dbname: Option<&str>) -> Result<Found, ActionError> {
        let mut session = self.reading(dbname).await?;
        let (mut details, mut values) = (Vec::new(), Vec::new());
        for Threshold { table, expect, shown } in rows {
            let Some(full) = condition::table(&mut session, table).await? else {
                details.push(missing(table));
                continue;
            };
            let count = session.value(&format!("SELECT count(*) FROM {full}")).await?;
            if !expect.holds(Some(&count)) {
                details.push(format!("table `{table}` has {count} rows, expected `{shown}`"));
            }
            values.push(format!("{table} {count}"));
        }
        let expected = rows.iter().map(|row| format!("{} `{}`", row.table, row.shown)).collect::<Vec<_>>().join(", ");
        Ok(Found { passed: details.is_empty(), value: values.join(", "), expected, details, ..Found::default() })
    }

    async fn newest(&self, newest: &Newest, dbname: Option<&str>) -> Result<Found, ActionError> {
        let mut session = self.reading(dbname).await?;
        let bound = clock::before(self.cx.about.incident_at, newest.within.0).to_string();
        let expected = format!("not before {bound}");
        let Some(table) = condition::table(&mut session, &newest.table).await? else {
            return Ok(Found {
                passed: false,
                value: "nothing".to_owned(),
                expected,
                details: vec![missing(&newest.table)],
                ..Found::default()
            });
        };
        let (value, passed) = condition::newest(&mut session, (newest, &table), &bound).await?;
        Ok(Found { passed, value: value.unwrap_or_else(|| "no value".to_owned()), expected, ..Found::default() })
    }

    async fn facts(&mut self, depth: FactsDepth, dbname: Option<&str>) -> Result<Found, ActionError> {
        let handle = self.params.backup.as_ref().map(Late::get).transpose()?;
        let handle =
            handle.ok_or_else(|| ActionError::fatal("a check of `facts` wants the `backup` that was restored"))?;
        let (store, files) = (self.cx.store(&handle.store)?, self.cx.host.read_files());
        let vouched = vouched(store.as_read(), &self.cx.about.inventory)?;
        let origin = Origin { cluster: self.cluster, store: &vouched, files: files.as_ref() };
        let backup = origin.backup(handle).await?;
        match origin.basis((&backup, depth), &mut self.somewhere().await?).await? {
            Basis::Known(facts) => self.compared(&facts, dbname).await,
            Basis::First(known) => {
                let taken = self.take(depth).await?;
                let differing = known.map_or_else(Vec::new, |known| differing(&known, &taken));
                if !differing.is_empty() {
                    let value = format!("{} differences", differing.len());
                    return Ok(Found {
                        passed: false,
                        value,
                        expected: "what was backed up".to_owned(),
                        details: differing,
                        ..Found::default()
                    });
                }
                let tables: usize = taken.databases.values().map(|facts| facts.tables.len()).sum();
                // Of two checks the deeper one is kept.
                if self.taken.as_ref().is_none_or(|before| !FactsDepth::Hashes.is_in(before)) {
                    self.taken = Some(taken);
                }
                let details =
                    vec!["the first restore to the end of this backup: its facts are kept with the proof".to_owned()];
                let value = format!("taken of {tables} tables");
                Ok(Found {
                    passed: true,
                    value,
                    expected: "facts to compare with later".to_owned(),
                    details,
                    ..Found::default()
                })
            }
        }
    }

    /// Takes the facts of every database.
    async fn take(&self, depth: FactsDepth) -> Result<ContentFacts, ActionError> {
        let names = integrity::databases(&mut self.somewhere().await?).await?;
        let mut taken = ContentFacts::default();
        for name in &names {
            let mut content = Content::open(self.open(Some(name)).await?).await?;
            let facts = content.facts(depth).await?;
            let dated = content.dated(facts);
            taken.databases.extend(dated.databases);
            (taken.taken_at, taken.lsn) = (dated.taken_at, dated.lsn);
        }
        Ok(taken)
    }

    async fn compared(&self, expected: &ContentFacts, dbname: Option<&str>) -> Result<Found, ActionError> {
        let (mut details, mut tables) = (Vec::new(), 0);
        for (name, facts) in &expected.databases {
            // A dump is of one database, which may have got another name.
            let here = dbname.filter(|_| expected.databases.len() == 1).unwrap_or(name);
            let depth = FactsDepth::of(facts);
            let mut content = Content::open(self.open(Some(here)).await?).await?;
            let found: DatabaseFacts = content.facts(depth).await?;
            tables += facts.tables.len();
            details.extend(differences(facts, &found).into_iter().map(|what| format!("{here}: {what}")));
        }
        let value = format!("{} differences in {tables} tables", details.len());
        Ok(Found {
            passed: details.is_empty(),
            value,
            expected: "what was backed up".to_owned(),
            details,
            ..Found::default()
        })
    }

    async fn open(&self, dbname: Option<&str>) -> Result<Session, ActionError> {
        Endpoint::of(self.cluster, dbname, self.cx.about.secrets.as_ref())?.open().await
    }

    /// A session for what is asked of the server: that of a restored dump need not have the entry's database.
    async fn somewhere(&self) -> Result<Session, ActionError> {
        MaintenanceDb::own(self.cluster, self.cx.about.secrets.as_ref())?.open().await
    }

    async fn reading(&self, dbname: Option<&str>) -> Result<Session, ActionError> {
        let mut session = self.open(dbname).await?;
        session.query(&format!("{}; BEGIN READ ONLY", integrity::ALL_ROWS)).await?;
        Ok(session)
    }
}

/// What differs between facts that were kept and deeper ones of the same databases.
fn differing(known: &ContentFacts, taken: &ContentFacts) -> Vec<String> {
    let of = |(name, facts): (&String, &DatabaseFacts)| match taken.databases.get(name) {
        Some(found) => differences(facts, found).into_iter().map(|what| format!("{name}: {what}")).collect(),
        None => vec![format!("database `{name}` is missing")],
    };
    known.databases.iter().flat_map(of).collect()
}

fn missing(table: &str) -> String {
    format!("table `{table}` is missing")
}
