//! Reads the state of a database.

use super::super::connect::Session;
use crate::action::ActionError;
use crate::actions::postgres::cluster::name::literal;
use crate::catalog::{DatabaseSetting, DatabaseState};
use crate::pgformat::Change;

/// Reads the state of a database, from any database of its server.
///
/// # Errors
/// Fails as the server does, and when it has no such database.
pub(crate) async fn read(session: &mut Session, dbname: &str) -> Result<DatabaseState, ActionError> {
    let major = session.major().await?;
    let since = |change: Change, column: &'static str| if major.has(change) { column } else { "NULL" };
    let provider = since(Change::LocaleProvider, "d.datlocprovider");
    let locale = match major.has(Change::LocaleColumn) {
        true => "d.datlocale",
        false => since(Change::LocaleProvider, "d.daticulocale"),
    };
    let rules = since(Change::IcuRules, "d.daticurules");
    let collation = since(Change::CollationVersion, "d.datcollversion");
    let statement = format!(
        "SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, {provider}, \
         {locale}, {rules}, {collation}, d.datconnlimit, t.spcname, to_json(d.datacl::text[]), \
         shobj_description(d.oid, 'pg_database'), d.datistemplate \
         FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = {}",
        literal(dbname)
    );
    let found = session.query(&statement).await?;
    if found.rows.is_empty() {
        return Err(ActionError::fatal(format!("the server has no database `{dbname}`")));
    }
    let maybe = |column: usize| found.at(0, column).map(str::to_owned);
    let text = |column: usize| maybe(column).unwrap_or_default();
    let provider = maybe(4).map(|letter| match letter.as_str() {
        "c" => "libc".to_owned(),
        "i" => "icu".to_owned(),
        "b" => "builtin".to_owned(),
        other => other.to_owned(),
    });
    let acl = maybe(10).map(|json| serde_json::from_str::<Vec<String>>(&json)).transpose();
    let acl = acl.map_err(|error| ActionError::fatal("the rights of the database make no sense").because(&error))?;
    Ok(DatabaseState {
        owner: text(0),
        encoding: text(1),
        collate: text(2),
        ctype: text(3),
        provider,
        icu_locale: maybe(5),
        icu_rules: maybe(6),
        collation_version: maybe(7),
        connection_limit: text(8).parse().unwrap_or(-1),
        tablespace: maybe(9).filter(|name| name != "pg_default"),
        acl,
        comment: maybe(11),
        is_template: found.at(0, 12) == Some("t"),
        settings: settings(session, dbname).await?,
    })
}

/// What `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET` gave it.
async fn settings(session: &mut Session, dbname: &str) -> Result<Vec<DatabaseSetting>, ActionError> {
    let statement = format!(
        "SELECT r.rolname, split_part(one, '=', 1), substr(one, strpos(one, '=') + 1) \
         FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole, \
         unnest(s.setconfig) AS one WHERE d.datname = {} ORDER BY 1 NULLS FIRST, 2",
        literal(dbname)
    );
    let mut settings = Vec::new();
    for row in session.query(&statement).await?.rows {
        if let [role, Some(name), Some(value)] = row.as_slice() {
            settings.push(DatabaseSetting { role: role.clone(), name: name.clone(), value: value.clone() });
        }
    }
    Ok(settings)
}
