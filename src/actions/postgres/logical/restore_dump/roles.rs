//! Roles of the globals that were saved beside a dump: only what a server lacks is taken from them.
//!
//! `pg_dumpall` writes each statement about a role on a line of its own, the role's name after fixed words. What is not
//! such a line is left alone: a comment on a role may span lines, and nobody's rights hang on it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read as _};

use crate::action::ActionError;
use crate::actions::postgres::cluster::name::ident;
use crate::actions::postgres::session::connect::Session;

/// As much of a line of SQL text is looked at: a line of rows may be longer than the memory should hold.
const LINE_BYTES: u64 = 4096;

/// Has the server log nothing of what a transaction does; a superuser may say so.
const QUIET: &str = "SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1; \
                     SET LOCAL log_duration = off; SET LOCAL log_min_error_statement = 'panic'";

/// The names of a kind of object that the globals make.
fn made(globals: &str, words: &str) -> BTreeSet<String> {
    let names = globals.lines().filter_map(|line| name(line.strip_prefix(words)?));
    names.map(|(name, _)| name).collect()
}

/// Reads the name at the beginning of a text, and gives the rest.
fn name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || "_$".contains(c))).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' if rest.peek().is_some_and(|(_, next)| *next == '"') => {
                rest.next();
                name.push('"');
            }
            '"' => return Some((name, &quoted[at + 1..])),
            other => name.push(other),
        }
    }
    None
}

/// The statements that make the missing roles what they were. A membership went with its group as well as with its member.
fn statements<'a>(globals: &'a str, missing: &BTreeSet<String>) -> Vec<&'a str> {
    let about = |line: &str| {
        let after = ["CREATE ROLE ", "ALTER ROLE "].iter().find_map(|words| line.strip_prefix(words));
        if let Some((role, rest)) = after.and_then(name) {
            // What a role has in one database belongs to that database's state.
            return missing.contains(&role) && !rest.starts_with(" IN DATABASE ");
        }
        membership(line).is_some_and(|(group, member)| missing.contains(&group) || missing.contains(&member))
    };
    globals.lines().filter(|line| line.ends_with(';') && about(line)).collect()
}

/// Statements that make, as names alone, the roles that SQL text gives something to: for a throw-away server, into which nobody
/// but the tool logs in. `pg_dump` writes each such statement on a line of its own. A row of data that looks like one makes
/// a role too many, which does nothing.
///
/// # Errors
/// Fails as reading does.
pub(super) fn of_text(mut text: impl BufRead) -> io::Result<String> {
    let (mut roles, mut line) = (BTreeSet::new(), Vec::new());
    while text.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? > 0 {
        roles.extend(given_to(&String::from_utf8_lossy(&line)));
        if line.last() != Some(&b'\n') {
            text.skip_until(b'\n')?;
        }
        line.clear();
    }
    Ok(roles.iter().map(|role| format!("CREATE ROLE {} NOLOGIN;\n", ident(role))).collect())
}

/// The roles that a line of SQL text gives something to, or takes it from.
fn given_to(line: &str) -> Vec<String> {
    let line = line.trim_end();
    let after = |words: &str| line.rsplit_once(words).map(|(_, rest)| rest);
    let texts: [Option<&str>; 2] = match line.split(' ').next() {
        _ if !line.ends_with(';') => [None, None],
        Some("ALTER") if line.starts_with("ALTER DEFAULT PRIVILEGES ") => {
            [after(" FOR ROLE "), after(" TO ").or_else(|| after(" FROM "))]
        }
        Some("ALTER") => [after(" OWNER TO "), None],
        Some("GRANT") => [after(" TO "), None],
        Some("REVOKE") => [after(" FROM "), None],
        Some("CREATE") if line.starts_with("CREATE POLICY ") => [line.split_once(" TO ").map(|(_, rest)| rest), None],
        Some(_) | None => [None, None],
    };
    let mut roles = Vec::new();
    for text in texts.into_iter().flatten() {
        let mut rest = Some(text);
        while let Some((role, more)) = rest.and_then(name) {
            roles.extend((role != "PUBLIC").then_some(role));
            rest = more.strip_prefix(", ");
        }
    }
    roles
}

/// The group and the member of a line that makes a membership.
fn membership(line: &str) -> Option<(String, String)> {
    let (group, rest) = name(line.strip_prefix("GRANT ")?)?;
    let (member, _) = name(rest.strip_prefix(" TO ")?)?;
    Some((group, member))
}

/// What was made on a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// The roles that it lacked.
    pub(super) roles: Vec<String>,
    /// Roles that it had, and are members of such again: group and member.
    pub(super) memberships: Vec<(String, String)>,
}

/// Makes the roles that the server lacks, in one transaction, with all their members.
///
/// # Errors
/// Fails as the server does, for example for a role that may not make roles.
pub(super) async fn create_missing(session: &mut Session, globals: &str) -> Result<Made, ActionError> {
    let mut missing = made(globals, "CREATE ROLE ");
    for name in session.query("SELECT rolname FROM pg_roles").await?.rows.into_iter().flatten().flatten() {
        missing.remove(&name);
    }
    if missing.is_empty() {
        return Ok(Made::default());
    }
    // Hashes of passwords stay out of the server's log, where the role may say so. That is a message of its own: a
    // message is logged before any of it is carried out, and timed when all of it is.
    if session.query(&format!("BEGIN; {QUIET}")).await.is_err() {
        session.query("ROLLBACK; BEGIN").await?;
    }
    let statements = statements(globals, &missing);
    let made = match session.query(&statements.join("\n")).await {
        Ok(_) => session.query("COMMIT").await,
        Err(error) => {
            let _ = session.query("ROLLBACK").await;
            Err(error)
        }
    };
    made.map_err(|error| {
        let mut info = error.into_info();
        info.message = format!("missing roles cannot be made: {}", info.message);
        ActionError::from(info).help("let a superuser restore, or make the roles yourself and say `roles: skip`")
    })?;
    let memberships = statements.into_iter().filter_map(membership);
    let memberships = memberships.filter(|(_, member)| !missing.contains(member)).collect();
    Ok(Made { roles: missing.into_iter().collect(), memberships })
}

/// The tablespaces of the globals that the server lacks.
///
/// # Errors
/// Fails as the server does.
pub(super) async fn missing_tablespaces(session: &mut Session, globals: &str) -> Result<BTreeSet<String>, ActionError> {
    let mut missing = made(globals, "CREATE TABLESPACE ");
    for name in session.query("SELECT spcname FROM pg_tablespace").await?.rows.into_iter().flatten().flatten() {
        missing.remove(&name);
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::{made, name, of_text, statements};

    const GLOBALS: &str = "SET default_transaction_read_only = off;\n\
        CREATE ROLE app;\nALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x';\n\
        CREATE ROLE \"odd \"\"name\";\nALTER ROLE \"odd \"\"name\" WITH NOLOGIN;\n\
        ALTER ROLE app SET work_mem TO '16MB';\nALTER ROLE app IN DATABASE shop SET x.y TO '1';\n\
        CREATE TABLESPACE fast OWNER app LOCATION '/srv/fast';\n\
        GRANT readers TO app GRANTED BY postgres;\nGRANT app TO readers;\n";

    #[test]
    fn whom_sql_text_gives_something_to_is_made() {
        let text = "ALTER TABLE public.t OWNER TO app;\nGRANT SELECT ON TABLE public.t TO \"odd, \"\"name\";\n\
            REVOKE ALL ON SCHEMA public FROM PUBLIC;\nALTER DEFAULT PRIVILEGES FOR ROLE boss IN SCHEMA public GRANT SELECT ON TABLES TO ro;\n\
            CREATE POLICY p ON public.t FOR SELECT TO one, two USING ((who = CURRENT_USER));\n\
            ALTER TABLE public.t ALTER COLUMN c SET DEFAULT 'from A TO B';\nCOPY public.t (c) FROM stdin;\n1\tx\n\\.\n";
        let made: Vec<String> = of_text(text.as_bytes()).expect("it is read").lines().map(str::to_owned).collect();
        let role = |name: &str| format!("CREATE ROLE \"{name}\" NOLOGIN;");
        assert_eq!(made, ["app", "boss", "odd, \"\"name", "one", "ro", "two"].map(role));
    }

    #[test]
    fn only_what_makes_the_missing_roles_is_taken() {
        assert_eq!(Vec::from_iter(made(GLOBALS, "CREATE ROLE ")), ["app", "odd \"name"]);
        let taken = statements(GLOBALS, &["app".to_owned()].into());
        assert_eq!(taken.len(), 5, "{taken:?}");
        assert!(taken.iter().all(|line| !line.contains("odd") && !line.contains("shop")), "{taken:?}");
        assert_eq!(taken[3], "GRANT readers TO app GRANTED BY postgres;");
        assert_eq!(taken[4], "GRANT app TO readers;");
        assert_eq!(statements(GLOBALS, &["odd \"name".to_owned()].into()).len(), 2);
        let group = statements(GLOBALS, &["readers".to_owned()].into());
        assert_eq!(group, ["GRANT readers TO app GRANTED BY postgres;", "GRANT app TO readers;"]);
    }

    #[test]
    fn a_name_without_end_is_none() {
        assert_eq!(name("\"open"), None);
        assert_eq!(name("plain;"), Some(("plain".to_owned(), ";")));
    }
}
