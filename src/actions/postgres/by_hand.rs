//! What a person types in place of the actions on a server, with PostgreSQL's own programs.

use super::super::store::by_hand::location;
use super::aim::Ending;
use super::base_backup::{BaseBackupParams, Checkpoint};
use super::container;
use super::dump::{AllDatabases, DatabaseNames, DumpParams};
use super::existing::Existing;
use super::layout::Cluster;
use super::outside::ConfigFiles;
use super::recover::{Landmark, RecoverParams};
use super::restore_base::RestoreBaseParams;
use super::restore_dump::RestoreDumpParams;
use super::restore_table::{RestoreTableMode, RestoreTableParams};
use super::server::Programs;
use super::side_instance::SideInstanceParams;
use crate::action::PlanContext;
use crate::action::by_hand::{command_line, quoted, remark};
use crate::catalog::BackupPlace;

/// Takes a backup that `restore_base` and a person can both use.
pub(super) fn base_backup(params: &BaseBackupParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (store, prefix) = cluster.archive().ok()?;
    let mut words = vec!["pg_basebackup".to_owned()];
    words.extend(connection(&cluster));
    let checkpoint = match params.checkpoint {
        Checkpoint::Fast => "fast",
        Checkpoint::Spread => "spread",
    };
    words.extend(
        ["-D", "‹new folder›", "-F", "tar", "-X", "stream", "-c", checkpoint, "--manifest-checksums=SHA256", "-P"]
            .map(str::to_owned),
    );
    if params.incremental {
        words.push("--incremental=‹backup_manifest of the backup it is to rest on›".to_owned());
    }
    words.extend(params.max_rate.iter().flat_map(|rate| ["--max-rate".to_owned(), format!("{}k", rate.0 / 1024)]));
    let target = location(cx.inventory, store, &format!("{prefix}/by-hand/‹date›/"));
    Some(vec![
        remark("choose an empty folder with room for the whole database"),
        command_line(words),
        remark(&format!("copy base.tar, every OID.tar, pg_wal.tar and backup_manifest to {target}")),
        remark("a backup made by hand is not found by `backup.find`: write down where it lies"),
    ])
}

/// Dumps databases as `postgres.restore_dump` and a person can both use them.
pub(super) fn dump(params: &DumpParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (store, prefix) = cluster.archive().ok()?;
    let names = match &params.dbnames {
        None => vec![cluster.dbname.clone()],
        Some(DatabaseNames::Named(names)) => names.clone(),
        Some(DatabaseNames::Set(AllDatabases::All)) => vec!["‹each database›".to_owned()],
    };
    let mut lines = Vec::new();
    for name in names {
        let mut words = vec!["pg_dump".to_owned()];
        words.extend(connection(&cluster));
        words.extend(["-d", &name, "-F", "custom", "-f", "‹new folder›/database.dump"].map(str::to_owned));
        lines.push(command_line(words));
    }
    let mut words = vec!["pg_dumpall".to_owned()];
    words.extend(connection(&cluster));
    words.extend(["--globals-only", "-f", "‹new folder›/globals.sql"].map(str::to_owned));
    lines.push(command_line(words));
    lines.push(command_line(["pg_restore", "--list", "‹new folder›/database.dump"]));
    let target = location(cx.inventory, store, &format!("{prefix}/by-hand/‹date›/"));
    lines.push(remark(&format!("only if all of them ended well: copy the folder to {target}")));
    lines.push(remark("a backup made by hand is not found by `backup.find`: write down where it lies"));
    Some(lines)
}

/// Restores a dump beside and renames it.
pub(super) fn restore_dump(params: &RestoreDumpParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (store, prefix) = cluster.archive().ok()?;
    let folder = match params.backup.known() {
        Some(backup) => BackupPlace::new(prefix, (&backup.kind, backup.tier.as_deref()), &backup.id).folder(),
        None => format!("{prefix}/dump/{}", params.backup.shown(|backup| backup.id.clone())),
    };
    let name = params.dbname.clone().unwrap_or_else(|| "‹database›".to_owned());
    let fresh = format!("{name}_restored");
    let maintenance = |statement: &str| sql(&cluster, "postgres", statement);
    let mut load = vec!["pg_restore".to_owned()];
    load.extend(connection(&cluster));
    load.extend(["-d", &fresh, "--exit-on-error", "‹new folder›/database.dump"].map(str::to_owned));
    Some(vec![
        remark(&format!("fetch {} first", location(cx.inventory, store, &folder))),
        command_line(["sh", "restore.sh", "‹new folder›"]),
        remark(
            "make the roles of globals.sql that the server lacks; manifest.json has owner, locale, rights and settings",
        ),
        maintenance(&format!("CREATE DATABASE \"{fresh}\" TEMPLATE template0 OWNER ‹owner›")),
        command_line(load),
        remark("look at it, compare it with the facts in manifest.json; then, with nobody connected to either:"),
        maintenance(&format!(
            "BEGIN; ALTER DATABASE \"{name}\" RENAME TO \"{name}_old\"; ALTER DATABASE \"{fresh}\" RENAME TO \"{name}\"; COMMIT"
        )),
    ])
}

/// Unpacks a backup beside the live data.
pub(super) fn restore_base(params: &RestoreBaseParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (store, prefix) = cluster.archive().ok()?;
    let folder = match params.backup.known() {
        Some(backup) => BackupPlace::new(prefix, (&backup.kind, backup.tier.as_deref()), &backup.id).folder(),
        None => format!("{prefix}/base/{}", params.backup.shown(|backup| backup.id.clone())),
    };
    let from = location(cx.inventory, store, &folder);
    let archive = location(cx.inventory, store, &format!("{prefix}/wal/‹system id›"));
    let staged = by_hand_folder(&cluster);
    let live = match params.existing.on(&cluster) {
        Existing::KeepBeside => format!("the live data in {} is not touched here", cluster.pgdata.display()),
        Existing::Delta | Existing::Replace => format!(
            "verify the whole backup first (`sha256sum -c SHA256SUMS`); then stop the server and move {}/pg_wal and {}/global/pg_control to a safe place before anything in {} is removed",
            cluster.pgdata.display(),
            cluster.pgdata.display(),
            cluster.pgdata.display()
        ),
    };
    Some(vec![
        remark(&live),
        remark("where the store is no folder of this machine, copy the backup's folder and the WAL to a disk first"),
        remark(
            "encrypted ones also want `--identity FILE` or `--password-file FILE`; RESTORE.md beside it says all in words",
        ),
        as_owner(&cluster, &["sh", &format!("{from}/restore.sh"), &staged, "--wal", &archive]),
    ])
}

/// Restores a backup into a folder of its own and opens it on a socket there.
pub(super) fn side_instance(params: &SideInstanceParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (database, backup) = (params.database.clone(), params.backup.clone());
    let restore =
        RestoreBaseParams { database, backup, config_files: ConfigFiles::Leave, existing: Existing::KeepBeside };
    let mut lines = restore_base(&restore, cx)?;
    if params.target != Some(Landmark::Immediate) && !cluster.is_scratch() {
        lines.push(remark("what the live server committed last is in the archive only when its segment is finished"));
        lines.push(sql(&cluster, &cluster.dbname, "SELECT pg_switch_wal()"));
    }
    let folder = format!("{}/data", by_hand_folder(&cluster));
    let line =
        |setting: &String| format!("echo {} >> {}", quoted(setting), quoted(&format!("{folder}/postgresql.auto.conf")));
    lines.push(remark("nothing of the copy may reach out, so its settings stand on the command line too"));
    lines.extend(
        std::iter::once("recovery_target_action = 'promote'".to_owned())
            .chain(target(&params.recovery()))
            .map(|setting| line(&setting)),
    );
    let options = format!(
        "-c archive_mode=off -c archive_command= -c external_pid_file= -c listen_addresses= -c unix_socket_directories={folder} \
         -c max_logical_replication_workers=0 -c primary_conninfo= -c shared_preload_libraries= -c ssl=off"
    );
    lines.push(as_owner(&cluster, &["pg_ctl", "start", "-w", "-D", &folder, "-o", &options]));
    lines.push(remark(&format!(
        "ask it with `psql -h {folder}`; in the end `pg_ctl stop -m immediate -D {folder}` and remove the folder"
    )));
    Some(lines)
}

/// Looks at tables of a copy, and brings them back by hand.
pub(super) fn restore_table(params: &RestoreTableParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let dbname = params.dbname.as_ref().unwrap_or(&cluster.dbname).as_str();
    let psql = |rest: &[&str]| {
        let mut words = vec!["psql".to_owned()];
        words.extend(connection(&cluster));
        words.extend(["-d", dbname, "-X", "-v", "ON_ERROR_STOP=1"].map(str::to_owned));
        words.extend(rest.iter().map(|word| (*word).to_owned()));
        command_line(words)
    };
    let mut lines = Vec::new();
    match params.mode {
        RestoreTableMode::Revert => {
            lines.push(remark("the scripts lie in the folder of the step that applied, below `attempts` of its run"));
            lines.push(psql(&["-f", "‹undo-rows.sql›"]));
            lines.push(psql(&["-f", "‹undo-tables.sql›"]));
            return Some(lines);
        }
        RestoreTableMode::Compare | RestoreTableMode::Apply => {}
    }
    for table in &params.tables {
        let dump = ["pg_dump", "-h", "‹socket of the copy›", "-d", dbname, "-f", "tables.sql", "-t", table.as_str()];
        lines.push(command_line(dump));
    }
    lines.push(remark("a table that is gone comes back whole with it, in one transaction:"));
    lines.push(psql(&["--single-transaction", "-f", "tables.sql"]));
    lines.push(remark(
        "for one that is there: change its schema in tables.sql to a new one, read it, compare by primary key with EXCEPT, and INSERT … ON CONFLICT DO NOTHING",
    ));
    lines.push(remark("then foreign keys of other tables that the drop took along, and setval() of its sequences"));
    Some(lines)
}

/// The folder that the backup's own script fills: beside the data, for a container where its user of this machine can.
pub(super) fn by_hand_folder(cluster: &Cluster) -> String {
    match cluster.is_contained() {
        true => format!("/var/tmp/{}.by-hand", cluster.name),
        false => format!("{}.by-hand", cluster.pgdata.display()),
    }
}

/// Swaps the restored data in and replays the archive.
pub(super) fn recover(params: &RecoverParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    cluster.archive().ok()?;
    let pgdata = cluster.pgdata.display().to_string();
    let action = match params.action.unwrap_or_default() {
        Ending::Promote => "promote",
        Ending::Pause | Ending::Standby => "pause",
    };
    let mut settings = vec![format!("recovery_target_action = '{action}'")];
    settings.extend(target(params));
    if cluster.is_contained() {
        let here = Cluster { socket: Some(by_hand_folder(&cluster).into()), ..cluster.clone() };
        let wait = wait(&here, params.action.unwrap_or_default());
        return Some(container::by_hand::recover(&cluster, &settings, wait));
    }
    let line =
        |setting: &String| format!("echo {} >> {}", quoted(setting), quoted(&format!("{pgdata}/postgresql.auto.conf")));
    let mut lines = vec![remark("the server must be stopped; keep the old data until the new one is proved")];
    lines.push(as_owner(&cluster, &["mv", "-n", &pgdata, &format!("{pgdata}.old")]));
    lines.push(remark("WAL that the archive does not have yet lies in the old pg_wal: copy it into the new one"));
    lines.push(as_owner(&cluster, &["mv", "-n", &format!("{}/data", by_hand_folder(&cluster)), &pgdata]));
    lines.extend(settings.iter().map(line));
    lines.push(remark(
        "the script has set `restore_command` there, and `archive_mode = off`: remove both lines in the end",
    ));
    lines.push(cluster.keeper().start_by_hand(&cluster));
    lines.extend(wait(&cluster, params.action.unwrap_or_default()));
    Some(lines)
}

fn wait(cluster: &Cluster, ending: Ending) -> Vec<String> {
    let ask = |statement: &str| sql(cluster, &cluster.dbname, statement);
    match ending {
        Ending::Promote => vec![remark("wait until this says `f`:"), ask("SELECT pg_is_in_recovery()")],
        Ending::Pause => vec![
            remark("wait until this says `t`; then look at the data:"),
            ask("SELECT pg_is_wal_replay_paused()"),
            remark("to open it for good:"),
            ask("SELECT pg_promote()"),
        ],
        Ending::Standby => vec![
            remark("it was started with `recovery.signal`: rename that to `standby.signal` before the start"),
            ask("SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()"),
        ],
    }
}

fn target(params: &RecoverParams) -> Vec<String> {
    let mut settings = Vec::new();
    if params.target == Some(Landmark::Immediate) {
        settings.push("recovery_target = 'immediate'".to_owned());
    }
    if params.inclusive == Some(false) {
        settings.push("recovery_target_inclusive = 'off'".to_owned());
    }
    settings.extend(params.target_time.iter().map(|at| format!("recovery_target_time = '{at}'")));
    settings.extend(params.target_lsn.iter().map(|lsn| format!("recovery_target_lsn = '{lsn}'")));
    settings.extend(params.target_name.iter().map(|name| format!("recovery_target_name = '{name}'")));
    settings.extend(params.target_xid.iter().map(|xid| format!("recovery_target_xid = '{xid}'")));
    settings.extend(params.timeline.iter().map(|timeline| format!("recovery_target_timeline = '{timeline}'")));
    settings
}

/// What a person expects of the statement that follows.
pub(super) fn expected(name: &str, expect: Option<&str>) -> String {
    remark(&format!("{name}: {}", expect.map_or("at least one row".to_owned(), |expect| format!("expected {expect}"))))
}

/// A statement in a database of the server.
pub(super) fn sql(cluster: &Cluster, dbname: &str, statement: &str) -> String {
    let mut words = vec!["psql".to_owned()];
    words.extend(connection(cluster));
    words.extend(["-d", dbname, "-Atc", statement].map(str::to_owned));
    command_line(words)
}

/// A session with one of its databases.
pub(super) fn psql(cluster: &Cluster, dbname: &str) -> String {
    let words = std::iter::once("psql".to_owned()).chain(connection(cluster));
    command_line(words.chain(["-d".to_owned(), dbname.to_owned()]))
}

/// How a program of PostgreSQL connects.
pub(super) fn connection(cluster: &Cluster) -> Vec<String> {
    let mut words = Vec::new();
    let host = cluster.socket.as_ref().map(|folder| folder.display().to_string());
    let host = host.or_else(|| cluster.entry.address.clone());
    words.extend(host.into_iter().flat_map(|host| ["-h".to_owned(), host]));
    words.extend(["-p".to_owned(), cluster.port.to_string(), "-U".to_owned(), cluster.user.clone()]);
    words
}

/// A command as the server's user.
pub(super) fn as_owner(cluster: &Cluster, words: &[&str]) -> String {
    let owner = cluster.entry.os_user.clone().unwrap_or_else(|| "postgres".to_owned());
    let programs = Programs::of_any_version(cluster);
    let (program, rest) = words.split_first().unwrap_or((&"true", &[]));
    let own = if program.starts_with("pg_") { programs.path(program) } else { (*program).to_owned() };
    let mut line = vec!["sudo".to_owned(), "-u".to_owned(), owner, own];
    line.extend(rest.iter().map(|word| (*word).to_owned()));
    command_line(line)
}
