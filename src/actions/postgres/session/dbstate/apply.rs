//! Makes a database with a given state.

use super::super::connect::Session;
use super::acl;
use crate::action::ActionError;
use crate::actions::postgres::cluster::name::{ident, literal};
use crate::catalog::{DatabaseSetting, DatabaseState};
use crate::pgformat::{Change, Major};

/// Settings whose value is a list of names: a literal would make one name of all of them.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// What of a state is not given to a new database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Leave {
    /// The owner: it belongs to the role that restores.
    pub(crate) owner: bool,
    /// The rights.
    pub(crate) privileges: bool,
    /// The tablespace: it lies in the server's default one.
    pub(crate) tablespace: bool,
}

/// The statement that makes an empty database of the same locale. From `template0`: nothing of the site's own template
/// is in it, and its locale may be another one than the server's.
#[must_use]
pub(crate) fn creation(dbname: &str, state: &DatabaseState, leave: Leave, major: Major) -> String {
    let mut words = vec![format!("CREATE DATABASE {} WITH TEMPLATE template0", ident(dbname))];
    if !leave.owner && !state.owner.is_empty() {
        words.push(format!("OWNER {}", ident(&state.owner)));
    }
    let mut option = |keyword: &str, value: &str| {
        if !value.is_empty() {
            words.push(format!("{keyword} {}", literal(value)));
        }
    };
    option("ENCODING", &state.encoding);
    option("LC_COLLATE", &state.collate);
    option("LC_CTYPE", &state.ctype);
    if major.has(Change::LocaleProvider)
        && let Some(provider) = &state.provider
    {
        option("LOCALE_PROVIDER", provider);
        let keyword = if provider == "builtin" { "BUILTIN_LOCALE" } else { "ICU_LOCALE" };
        option(keyword, state.icu_locale.as_deref().unwrap_or_default());
        option("ICU_RULES", state.icu_rules.as_deref().unwrap_or_default());
    }
    if let Some(tablespace) = state.tablespace.as_ref().filter(|_| !leave.tablespace) {
        words.push(format!("TABLESPACE {}", ident(tablespace)));
    }
    words.join(" ")
}

/// Gives a database everything of a state that its creation did not, in one transaction.
///
/// # Errors
/// Fails as the server does: a role of the rights or settings that does not exist is named by it.
pub(crate) async fn apply(
    session: &mut Session,
    dbname: &str,
    state: &DatabaseState,
    leave: Leave,
) -> Result<(), ActionError> {
    let target = ident(dbname);
    let mut statements = vec!["BEGIN".to_owned()];
    if let Some(comment) = &state.comment {
        statements.push(format!("COMMENT ON DATABASE {target} IS {}", literal(comment)));
    }
    statements.push(format!("ALTER DATABASE {target} CONNECTION LIMIT {}", state.connection_limit));
    if state.is_template {
        statements.push(format!("ALTER DATABASE {target} IS_TEMPLATE true"));
    }
    if let Some(acl) = state.acl.as_ref().filter(|_| !leave.privileges) {
        let owner = format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = {}", literal(dbname));
        let owner = session.value(&owner).await?;
        // What an owner had and gave who is left out, the new one has and gives.
        let acl = if leave.owner { acl::renamed(acl, (&state.owner, &owner)) } else { acl.clone() };
        statements.extend(grants(session, (dbname, &owner), &acl).await?);
    }
    statements.extend(state.settings.iter().map(|setting| set(&target, setting)));
    statements.push("COMMIT".to_owned());
    session.query(&statements.join(";\n")).await.map(drop)
}

/// Every right, after all default ones are taken away. Who gave it stays who gave it.
async fn grants(
    session: &mut Session,
    (dbname, owner): (&str, &str),
    acl: &[String],
) -> Result<Vec<String>, ActionError> {
    let target = ident(dbname);
    let items: Vec<String> = acl.iter().map(|item| literal(item)).collect();
    let statement = format!(
        "SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(e.rolname) END, a.privilege_type, a.is_grantable, \
         quote_ident(r.rolname), a.grantor <> d.datdba FROM pg_database d, \
         aclexplode(ARRAY[{}]::text[]::aclitem[]) a LEFT JOIN pg_roles e ON e.oid = a.grantee \
         JOIN pg_roles r ON r.oid = a.grantor WHERE d.datname = {} ORDER BY 5",
        items.join(", "),
        literal(dbname)
    );
    let mut statements = vec![format!("REVOKE ALL ON DATABASE {target} FROM PUBLIC, {}", ident(owner))];
    for row in session.query(&statement).await?.rows {
        let [Some(grantee), Some(right), Some(option), Some(grantor), Some(foreign)] = row.as_slice() else { continue };
        let option = if option == "t" { " WITH GRANT OPTION" } else { "" };
        let grant = format!("GRANT {right} ON DATABASE {target} TO {grantee}{option}");
        match foreign.as_str() {
            "t" => statements.extend([format!("SET LOCAL ROLE {grantor}"), grant, "RESET ROLE".to_owned()]),
            _ => statements.push(grant),
        }
    }
    Ok(statements)
}

fn set(target: &str, setting: &DatabaseSetting) -> String {
    let whom = match &setting.role {
        None => format!("ALTER DATABASE {target}"),
        Some(role) => format!("ALTER ROLE {} IN DATABASE {target}", ident(role)),
    };
    let (name, value) = (parameter(&setting.name), literal(&setting.value));
    if LISTS.contains(&setting.name.as_str()) {
        return format!(
            "SELECT set_config({}, {value}, true);\n{whom} SET {name} FROM CURRENT",
            literal(&setting.name)
        );
    }
    format!("{whom} SET {name} TO {value}")
}

/// A parameter's name, part by part: `app.tenant`.
fn parameter(name: &str) -> String {
    name.split('.').map(ident).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::{Leave, creation, set};
    use crate::catalog::{DatabaseSetting, DatabaseState};
    use crate::pgformat::Major;

    #[test]
    fn a_database_is_made_with_its_own_locale_and_owner() {
        let state = DatabaseState {
            owner: "app".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "C".into(),
            provider: Some("icu".into()),
            icu_locale: Some("en-US".into()),
            tablespace: Some("fast".into()),
            ..DatabaseState::default()
        };
        let made = creation("it\"s", &state, Leave::default(), Major::of_number(150_000));
        assert_eq!(
            made,
            "CREATE DATABASE \"it\"\"s\" WITH TEMPLATE template0 OWNER \"app\" ENCODING 'UTF8' LC_COLLATE 'C' \
             LC_CTYPE 'C' LOCALE_PROVIDER 'icu' ICU_LOCALE 'en-US' TABLESPACE \"fast\""
        );
        let left = Leave { owner: true, tablespace: true, privileges: true };
        let made = creation("x", &state, left, Major::of_number(140_000));
        assert!(!made.contains("OWNER") && !made.contains("PROVIDER") && !made.contains("TABLESPACE"), "{made}");
    }

    #[test]
    fn a_list_of_names_stays_a_list() {
        let setting = |name: &str, value: &str| DatabaseSetting { role: None, name: name.into(), value: value.into() };
        let path = set("\"d\"", &setting("search_path", "app, public"));
        assert!(path.ends_with("SET \"search_path\" FROM CURRENT"), "{path}");
        assert_eq!(set("\"d\"", &setting("app.tenant", "7")), "ALTER DATABASE \"d\" SET \"app\".\"tenant\" TO '7'");
    }
}
