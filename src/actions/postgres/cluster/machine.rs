//! Whether this machine can run what a backup holds, as far as that shows before anything is stopped: the libraries that
//! its server loads at start, and the collations that its text indexes were built with (hazard 45).

use std::path::Path;

use super::server::Programs;
use crate::action::{CommandSpec, Findings, ReadHost};
use crate::catalog::PostgresFacts;

/// Where packages and builds from source put a server's libraries, beside the `bin` of its programs.
const LIBRARIES: [&str; 5] = ["lib", "lib/postgresql", "lib/pgsql", "lib64", "lib64/pgsql"];

/// Judges this machine for a backup.
pub(crate) async fn judge(
    facts: &PostgresFacts,
    programs: &Programs,
    host: &dyn ReadHost,
    findings: Findings,
) -> Findings {
    let findings = libraries(facts, programs, host, findings);
    collations(facts, host, findings).await
}

/// A server that does not find a library of `shared_preload_libraries` does not start.
fn libraries(facts: &PostgresFacts, programs: &Programs, host: &dyn ReadHost, findings: Findings) -> Findings {
    let files = host.read_files();
    let postgres = programs.path("postgres");
    // Every server has `plpgsql` where it looks for libraries; where that is in none of these nothing is known.
    let is_there = |path: &Path| matches!(files.facts(path), Ok(Some(_)));
    let home = Path::new(&postgres).parent().and_then(Path::parent);
    let folders = home.into_iter().flat_map(|home| LIBRARIES.map(|folder| home.join(folder)));
    let Some(folder) = folders.into_iter().find(|folder| is_there(&folder.join("plpgsql.so"))) else { return findings };
    let simple = |name: &&String| !name.contains('/');
    let missing = facts.preload_libraries.iter().filter(simple).find(|name| {
        let file = folder.join(format!("{}.so", name.trim_start_matches("$libdir/")));
        matches!(files.facts(&file), Ok(None))
    });
    match missing {
        None => findings,
        Some(name) => findings.refuse(
            format!("the backup's server loads `{name}` at its start, and `{}` has no `{name}.so`", folder.display()),
            "install the package of that extension: without it the restored server does not start",
        ),
    }
}

/// Another version of the C library may sort texts in another order. Of ICU only the restored server itself knows the
/// version; it says in its log when it is another one.
async fn collations(facts: &PostgresFacts, host: &dyn ReadHost, findings: Findings) -> Findings {
    let built: Vec<_> = facts.databases.iter().filter_map(|one| Some((one, one.glibc_version()?))).collect();
    if built.is_empty() {
        return findings;
    }
    let asked = host.probe(CommandSpec::new("getconf").arg("GNU_LIBC_VERSION")).await;
    let Ok(output) = asked else { return findings };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some(own) = text.trim().strip_prefix("glibc ") else { return findings };
    let Some((database, version)) = built.into_iter().find(|(_, version)| *version != own) else { return findings };
    let fact = format!(
        "the indexes of database `{}` were built with version {version} of collation `{}`, this machine has {own}",
        database.name, database.collate
    );
    findings
        .warn(fact, "texts may sort in another order: REINDEX after the restore, and prove it with `indexes: valid`")
}
