//! A table that the live database does not have: gone from it, of another database of the server, or called otherwise.

use super::params::RestoreTableParams;
use super::shape::{qualified, texts};
use crate::action::{ActionError, Findings, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::{Endpoint, Session};

/// The database of an entry that names none.
const MAINTENANCE: &str = "postgres";

/// The most databases that are asked.
const DATABASES: usize = 100;

const OTHERS: &str = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate \
 AND datname <> current_database() AND has_database_privilege(datname, 'CONNECT') ORDER BY 1";

const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1";

/// The live server, asked about its tables before a copy is made.
pub(super) struct Lacking<'a> {
    pub(super) params: &'a RestoreTableParams,
    pub(super) live: &'a Cluster,
    pub(super) secrets: &'a dyn Secrets,
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
        let gone = format!("database `{dbname}` has no table `{name}`: it comes back whole where the copy has it");
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
        let alike = alike(&name, texts(session, TABLES).await?);
        Ok(match alike {
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

/// The name that is most like another one, where one is.
fn alike(name: &str, known: Vec<String>) -> Option<String> {
    let far = |known: &String| strsim::damerau_levenshtein(known, name);
    // `public.` is most of a short name.
    let bare = name.rsplit('.').next().unwrap_or(name);
    known.into_iter().filter(|known| far(known) <= 1.max(bare.len() / 4)).min_by_key(far)
}

#[cfg(test)]
mod tests {
    use super::alike;

    #[test]
    fn a_slip_of_the_pen_is_told_and_another_name_is_not() {
        let known = || ["public.users", "shop.items", "public.t"].map(str::to_owned).to_vec();
        assert_eq!(alike("public.user", known()), Some("public.users".to_owned()));
        assert_eq!(alike("shop.itmes", known()), Some("shop.items".to_owned()));
        assert_eq!(alike("public.orders", known()), None);
    }
}
