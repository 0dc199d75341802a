//! The fingerprint of a schema: what there is, in a form that survives a dump and its restore.
//!
//! The server prints an expression in another form once it has read back its own: `x IN ('a', 'b')` on a `varchar`
//! comes back from a restore with its casts elsewhere. So of views, checks, defaults, policies and partial indexes it
//! counts that they are there and on what, not how the server words them. Owners and rights are no part of it: what a
//! restore is told to leave out must not look like damage.

use super::super::connect::Session;
use crate::action::ActionError;
use crate::base::Digest;
use crate::base::digest::Hasher;

/// Objects of people: not the server's own, and not those that come with an extension.
const OWN: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend d \
 WHERE d.classid = {class}::regclass AND d.objid = {oid} AND d.deptype = 'e')";

/// Each listing gives one column of lines. `{own}` stands for what [`OWN`] keeps, with the class and oid it names.
const LISTINGS: [(&str, &str, &str); 10] = [
    (
        "pg_namespace",
        "n.oid",
        "SELECT format('schema %I', n.nspname) FROM pg_namespace n WHERE n.nspname <> 'public' AND {own}",
    ),
    (
        "pg_extension",
        "e.oid",
        "SELECT format('extension %I', e.extname) FROM pg_extension e JOIN pg_namespace n ON true \
         WHERE n.nspname = 'pg_catalog'",
    ),
    (
        "pg_class",
        "c.oid",
        "SELECT format('relation %I.%I %s %s rls=%s/%s key=%s of=%s', n.nspname, c.relname, c.relkind, c.relpersistence, \
         c.relrowsecurity, c.relforcerowsecurity, CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END, \
         (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno) FROM pg_inherits i \
         WHERE i.inhrelid = c.oid AND c.relkind <> 'i')) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND {own}",
    ),
    (
        "pg_class",
        "c.oid",
        "SELECT format('column %I.%I.%s %I %s notnull=%s default=%s identity=%s generated=%s collation=%s', n.nspname, \
         c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname, \
         format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef, a.attidentity, a.attgenerated, \
         (SELECT o.collname FROM pg_collation o WHERE o.oid = a.attcollation)) \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND a.attnum > 0 AND NOT a.attisdropped AND {own}",
    ),
    (
        "pg_class",
        "c.oid",
        "SELECT format('constraint %I.%I %I %s', n.nspname, c.relname, k.conname, CASE WHEN k.contype = 'c' THEN \
         format('check %s valid=%s', (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a \
         WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey)), k.convalidated) ELSE pg_get_constraintdef(k.oid) END) \
         FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND {own}",
    ),
    (
        "pg_class",
        "c.oid",
        "SELECT format('index %I.%I %I unique=%s valid=%s %s (%s) exprs=%s pred=%s', n.nspname, c.relname, i.relname, \
         x.indisunique, x.indisvalid, m.amname, (SELECT string_agg(coalesce(a.attname, '?'), ',' ORDER BY k.at) \
         FROM unnest(x.indkey::int2[]) WITH ORDINALITY k(number, at) \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number AND k.number <> 0), \
         x.indexprs IS NOT NULL, x.indpred IS NOT NULL) \
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid \
         JOIN pg_am m ON m.oid = i.relam JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind <> 't' AND {own}",
    ),
    (
        "pg_proc",
        "p.oid",
        "SELECT format('function %I.%I(%s) %s %s %s', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), \
         p.prokind, pg_get_function_result(p.oid), md5(p.prosrc)) \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {own}",
    ),
    (
        "pg_class",
        "c.oid",
        "SELECT format('trigger %I.%I %I %s %s %s when=%s', n.nspname, c.relname, g.tgname, g.tgfoid::regproc, g.tgtype, \
         g.tgenabled, g.tgqual IS NOT NULL) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT g.tgisinternal AND {own}",
    ),
    (
        "pg_class",
        "c.oid",
        "SELECT format('policy %I.%I %I %s permissive=%s using=%s check=%s', n.nspname, c.relname, p.polname, p.polcmd, \
         p.polpermissive, p.polqual IS NOT NULL, p.polwithcheck IS NOT NULL) \
         FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {own}",
    ),
    (
        "pg_type",
        "t.oid",
        "SELECT format('type %I.%I %s %s notnull=%s base=%s', n.nspname, t.typname, t.typtype, \
         (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder) FROM pg_enum e \
         WHERE e.enumtypid = t.oid), t.typnotnull, CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END) \
         FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r') AND {own}",
    ),
];

/// Takes the fingerprint. The session's search path must be `pg_catalog`, so that every name is written with its schema.
pub(super) async fn fingerprint(session: &mut Session) -> Result<Digest, ActionError> {
    let mut hasher = Hasher::default();
    for (class, oid, listing) in LISTINGS {
        let own = OWN.replace("{class}", &format!("'{class}'")).replace("{oid}", oid);
        let statement =
            format!("SELECT line FROM ({}) AS lines(line) ORDER BY line COLLATE \"C\"", listing.replace("{own}", &own));
        for line in session.query(&statement).await?.rows.into_iter().flatten().flatten() {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
    }
    Ok(hasher.finish())
}
