//! What hung on tables that are gone and is no part of them, so that `DROP TABLE … CASCADE` took it and `pg_dump -t` does
//! not write it: policies of other tables, membership in publications, and whatever else the copy knows.
//!
//! Policies and memberships are made again together with the tables. One that cannot be made costs no table: what is
//! missing in the end is told by name.

use crate::action::ActionError;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::Session;
use crate::pgformat::Change;

/// Policies of tables beside `$` that refer to one of them.
const POLICIES: &str = "SELECT format('%I.%I', n.nspname, r.relname), quote_ident(p.polname), format('CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s%s%s', \
  p.polname, n.nspname, r.relname, CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, \
  CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END, \
  (SELECT string_agg(CASE WHEN one = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(one)) END, ', ') FROM unnest(p.polroles) one), \
  ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')') \
 FROM pg_policy p JOIN pg_class r ON r.oid = p.polrelid JOIN pg_namespace n ON n.oid = r.relnamespace \
 WHERE NOT p.polrelid = ANY (ARRAY[$]::oid[]) AND EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_policy'::regclass \
  AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (ARRAY[$]::oid[])) ORDER BY 1, 2";

/// Publications that name one of the tables, with the columns and the condition where a server has such.
const MEMBERSHIPS: &str = "SELECT format('%I.%I', n.nspname, r.relname), p.pubname, \
  format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I%s%s', p.pubname, n.nspname, r.relname, §columns, §condition) \
 FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid JOIN pg_class r ON r.oid = m.prrelid \
 JOIN pg_namespace n ON n.oid = r.relnamespace WHERE m.prrelid = ANY (ARRAY[$]::oid[]) ORDER BY 1, 2";
const COLUMNS: &str = "(SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')' FROM pg_attribute a \
 WHERE a.attrelid = m.prrelid AND a.attnum = ANY (m.prattrs))";
const CONDITION: &str = "' WHERE (' || pg_get_expr(m.prqual, m.prrelid) || ')'";

/// Everything that depends on the relations, over any number of steps, as an address that another database understands.
/// Names that the server makes up for itself are left out: they differ from one database to the next.
const HANGING: &str = "WITH RECURSIVE hanging(classid, objid, objsubid) AS ( \
  SELECT 'pg_class'::regclass::oid, one, 0 FROM unnest(ARRAY[$]::oid[]) one \
  UNION SELECT d.classid, d.objid, d.objsubid FROM hanging h JOIN pg_depend d ON d.refclassid = h.classid \
   AND d.refobjid = h.objid AND (h.objsubid = 0 OR d.refobjsubid = h.objsubid) AND d.deptype IN ('n', 'a', 'i', 'P', 'S')) \
 SELECT a.type, a.object_names, a.object_args, \
  CASE i.type WHEN 'publication relation' THEN '' ELSE i.type || ' ' END || i.identity FROM hanging h, \
  pg_identify_object_as_address(h.classid, h.objid, h.objsubid) a, pg_identify_object(h.classid, h.objid, h.objsubid) i \
 WHERE i.schema IS DISTINCT FROM 'pg_toast' \
 AND NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE h.classid = 'pg_trigger'::regclass AND t.oid = h.objid AND t.tgisinternal) \
 AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE h.classid = 'pg_constraint'::regclass AND c.oid = h.objid AND c.conparentid <> 0) \
 ORDER BY 4";

/// A policy of another table, or a membership in a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dependent {
    /// What it is called.
    name: String,
    /// The statement that makes it.
    making: String,
    /// The statement that removes it before its table is dropped, where the drop would not.
    removal: Option<String>,
}

/// What hung on tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Dependents {
    lost: Vec<Dependent>,
    /// The numbers of all relations in the copy on which something may hang.
    numbers: String,
}

impl Dependents {
    /// Looks in the copy for what hung on its relations `numbers`, and leaves out what the live database still has, or
    /// has no place for.
    ///
    /// # Errors
    /// Fails as a server says.
    pub(super) async fn of(numbers: String, (copy, live): (&mut Session, &mut Session)) -> Result<Self, ActionError> {
        // Then expressions name everything in full.
        copy.query("SET search_path = ''").await?;
        let mut lost = Vec::new();
        for row in rows(copy, &POLICIES.replace('$', &numbers)).await? {
            let [table, policy, making] = row;
            let (relation, name) = (literal(&table), literal(&policy));
            let wanted = format!(
                "to_regclass({relation}) IS NOT NULL AND NOT EXISTS (SELECT 1 FROM pg_policy \
                 WHERE polrelid = to_regclass({relation}) AND quote_ident(polname) = {name})"
            );
            let removal = format!("DROP POLICY IF EXISTS {policy} ON {table}");
            let name = format!("policy {policy} on {table}");
            lost.extend(is_so(live, &wanted).await?.then_some(Dependent { name, making, removal: Some(removal) }));
        }
        let has_parts = copy.major().await?.has(Change::PublicationParts);
        let (columns, condition) = if has_parts { (COLUMNS, CONDITION) } else { ("NULL", "NULL") };
        let memberships = MEMBERSHIPS.replace("§columns", columns).replace("§condition", condition);
        for row in rows(copy, &memberships.replace('$', &numbers)).await? {
            let [table, publication, making] = row;
            let wanted = format!("EXISTS (SELECT 1 FROM pg_publication WHERE pubname = {})", literal(&publication));
            let name = format!("{table} in publication {publication}");
            lost.extend(is_so(live, &wanted).await?.then_some(Dependent { name, making, removal: None }));
        }
        Ok(Self { lost, numbers })
    }

    /// The statements that make them again, each for itself.
    pub(super) fn statements(&self) -> impl Iterator<Item = String> {
        let guarded = |one: &Dependent| {
            format!(
                "DO $runbook$ BEGIN {}; EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLERRM; END $runbook$",
                one.making
            )
        };
        self.lost.iter().map(guarded)
    }

    /// The statements that remove what would keep a table from being dropped.
    pub(super) fn removals(&self) -> impl Iterator<Item = String> {
        self.lost.iter().filter_map(|one| one.removal.clone())
    }

    /// What was to be made again.
    pub(super) fn names(&self) -> Vec<String> {
        self.lost.iter().map(|one| one.name.clone()).collect()
    }

    /// What hung on the tables in the copy and is not in the live database, now that they are back.
    ///
    /// # Errors
    /// Fails when the copy does not answer.
    pub(super) async fn missing(&self, (copy, live): (&mut Session, &mut Session)) -> Result<Vec<String>, ActionError> {
        let hanging = copy.query(&HANGING.replace('$', &self.numbers)).await?;
        let mut missing = Vec::new();
        for row in 0..hanging.rows.len() {
            let cell = |column| hanging.at(row, column).unwrap_or_default();
            let address = [0, 1, 2].map(|column| literal(cell(column)));
            let [kind, names, arguments] = address;
            // There is no other way to ask for an object by its address: one that is not there is an error.
            let asked = format!("SELECT pg_get_object_address({kind}, {names}::text[], {arguments}::text[])");
            if live.query(&asked).await.is_err() {
                missing.push(cell(3).to_owned());
            }
        }
        Ok(missing)
    }
}

async fn rows(copy: &mut Session, statement: &str) -> Result<Vec<[String; 3]>, ActionError> {
    let found = copy.query(statement).await?;
    let row = |row| [0, 1, 2].map(|column| found.at(row, column).unwrap_or_default().to_owned());
    Ok((0..found.rows.len()).map(row).collect())
}

async fn is_so(live: &mut Session, condition: &str) -> Result<bool, ActionError> {
    Ok(live.value(&format!("SELECT {condition}")).await? == "t")
}
