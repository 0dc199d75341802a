//! A table that the live database does not have: gone from it, of another database of the server, or called otherwise.

use super::params::RestoreTableParams;
use super::shape::{QUOTED, qualified, texts};
use crate::action::{ActionError, CheckContext, Findings, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::{Endpoint, Session};
use crate::actions::postgres::table::names::bare;

/// The database of an entry that names none.
const MAINTENANCE: &str = "postgres";

/// The most databases that are asked.
const DATABASES: usize = 100;

/// Actions that make no database and no schema of a live server. Whatever else stands before a step may.
const MAKE_NOTHING: [&str; 17] = [
    "approval",
    "assert",
    "backup.find",
    "backup.verify",
    "http.check",
    "notify.command",
    "notify.webhook",
    "postgres.check",
    "postgres.erase",
    "postgres.restore_base",
    "postgres.restore_point",
    "postgres.restore_table",
    "postgres.side_instance",
    "postgres.terminate_connections",
    "service.start",
    "service.status",
    "service.stop",
];

/// The schema of a name, where it has one that is not there.
const SCHEMA: &str = "SELECT quote_ident(parts[1]) FROM parse_ident($) parts WHERE array_length(parts, 1) = 2 \
 AND NOT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = parts[1])";

const OTHERS: &str = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate \
 AND datname <> current_database() AND has_database_privilege(datname, 'CONNECT') ORDER BY 1";

const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1";

/// The live server, asked about its tables before a copy is made.
pub(super) struct Lacking<'a> {
    pub(super) params: &'a RestoreTableParams,
    pub(super) live: &'a Cluster,
    pub(super) secrets: &'a dyn Secrets,
    /// Whether a step that comes before may make what is not there.
    pub(super) may_come: bool,
}

/// Whether a step that comes before may make a database or a schema.
pub(super) fn may_come(cx: &CheckContext) -> bool {
    cx.ahead && cx.actions_before.iter().any(|action| !MAKE_NOTHING.contains(&action.as_str()))
}

/// What to do where the database itself cannot be entered.
pub(super) fn without_database(dbname: &str) -> String {
    format!(
        "tables come back into a database that is there: where `{dbname}` is gone, the runbook `restore-dump` brings a dump of it \
         back whole; or `CREATE DATABASE`, and every table that is named comes back into it; `runbook restore DATABASE --side` opens \
         a copy to look at"
    )
}

/// Why a database cannot be entered, on one line.
pub(super) fn refused(error: &ActionError) -> String {
    let info = error.info();
    std::iter::once(&info.message).chain(&info.causes).cloned().collect::<Vec<_>>().join(": ")
}

impl Lacking<'_> {
    /// Judges a table that is not there. Another database that has it is refused where nobody said which one is meant.
    ///
    /// # Errors
    /// Fails as the server says; a database that cannot be asked is none that has the table.
    pub(super) async fn judge(
        &self,
        table: &str,
        session: &mut Session,
        findings: Findings,
    ) -> Result<Findings, ActionError> {
        let (name, dbname) = (qualified(table), self.params.dbname(self.live));
        let others = self.others(&name, session).await?;
        let gone = format!(
            "database `{dbname}` has no table `{name}`: it comes back whole where the copy has it; a materialized view that \
             went with it is made anew from the rows of now"
        );
        if let Some(other) = others.first() {
            let named: Vec<String> = others.iter().map(|other| format!("`{other}`")).collect();
            let fact =
                format!("database `{dbname}` has no table `{name}`, but {} of the same server has", named.join(", "));
            return Ok(match self.params.dbname {
                // The inventory says which database is meant, so it is gone from that one.
                None if self.live.dbname != MAINTENANCE => findings.warn(
                    fact,
                    format!("if another one is meant: `-p dbname={other}`; else it comes back whole in `{dbname}` where the copy has it"),
                ),
                None => findings.refuse(
                    fact,
                    format!("say which is meant: `-p dbname={other}`, or `-p dbname={dbname}` where it is gone from that one"),
                ),
                Some(_) => findings.warn(gone, format!("`dbname` says `{dbname}`; {} of the same server has one", named.join(", "))),
            });
        }
        if let Some(schema) = texts(session, &SCHEMA.replace('$', &literal(&name))).await?.first() {
            let fact = format!("database `{dbname}` has no schema `{schema}`, which `{name}` would come back into");
            let help = format!(
                "make it first, with its owner and its rights: `CREATE SCHEMA {schema}`; types and functions that the table is made \
                 of must be there as well"
            );
            return Ok(match self.may_come {
                true => findings.warn(fact, help),
                false => findings.refuse(fact, help),
            });
        }
        let known = texts(session, TABLES).await?;
        // A name with capitals that nobody quoted is never that of a table which is called so.
        let meant = known.iter().find(|known| has_capitals(&name) && bare(known) == bare(&name));
        if let Some(meant) = meant {
            let fact = format!("database `{dbname}` has no table `{name}`, but it has `{meant}`");
            let help = format!("say `-p 'tables={meant}'`; if the other one is meant, write it in small letters");
            return Ok(findings.refuse(fact, help));
        }
        Ok(match alike(&name, known) {
            Some(alike) => findings.warn(gone, format!("look at the name: `{alike}` is there")),
            None => findings.pass(gone),
        })
    }

    /// The other databases of the server that have a table of that name.
    async fn others(&self, name: &str, session: &mut Session) -> Result<Vec<String>, ActionError> {
        let mut having = Vec::new();
        for other in texts(session, OTHERS).await?.into_iter().take(DATABASES) {
            let Ok(mut session) = Endpoint::of(self.live, Some(&other), self.secrets)?.open().await else { continue };
            let sql = format!("SELECT to_regclass({}) IS NOT NULL", literal(name));
            if session.value(&sql).await.is_ok_and(|there| there == "t") {
                having.push(other);
            }
        }
        Ok(having)
    }
}

/// What to do where the copy has no table of that name.
///
/// # Errors
/// Fails as the server says.
pub(super) async fn in_copy(table: &str, copy: &mut Session) -> Result<String, ActionError> {
    let name = qualified(table);
    Ok(match alike(&name, texts(copy, TABLES).await?) {
        Some(alike) => format!("look at the name: the copy has `{alike}`; {QUOTED}"),
        None => "look at the name; a table of another database of the server wants `dbname` (`-p dbname=NAME`); else it was not there \
                 at that moment"
            .to_owned(),
    })
}

/// Whether a name has capital letters outside of quotes.
fn has_capitals(name: &str) -> bool {
    name.split('"').step_by(2).any(|plain| plain.chars().any(char::is_uppercase))
}

/// The name that is most like another one, where one is. How it is quoted does not count.
fn alike(name: &str, known: Vec<String>) -> Option<String> {
    let far = |known: &String| strsim::damerau_levenshtein(&bare(known), &bare(name));
    // `public.` is most of a short name.
    let own = name.rsplit('.').next().unwrap_or(name);
    known.into_iter().filter(|known| far(known) <= 1.max(own.len() / 4)).min_by_key(far)
}

#[cfg(test)]
mod tests {
    use super::{alike, has_capitals};

    #[test]
    fn a_slip_of_the_pen_is_told_and_another_name_is_not() {
        let known = || ["public.users", "shop.items", "public.t"].map(str::to_owned).to_vec();
        assert_eq!(alike("public.user", known()), Some("public.users".to_owned()));
        assert_eq!(alike("shop.itmes", known()), Some("shop.items".to_owned()));
        assert_eq!(alike("public.orders", known()), None);
        assert_eq!(alike("public.Odd", vec!["public.\"Odd\"".to_owned()]), Some("public.\"Odd\"".to_owned()));
        assert!(has_capitals("public.Odd") && has_capitals("Shop.\"odd\"") && !has_capitals("public.\"Odd\""));
    }
}
