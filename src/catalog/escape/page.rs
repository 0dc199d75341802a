//! `RESTORE.md`.

use super::{shown, unpack};
use crate::action::Encrypted;
use crate::action::by_hand::quoted;
use crate::base::units::ByteSize;
use crate::catalog::{
    BackupPlace, KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP, KIND_POSTGRES_SNAPSHOT, Manifest, ManifestObject,
};

/// The page of a backup.
pub(super) fn page(place: &BackupPlace, manifest: &Manifest) -> String {
    let mut text = format!(
        "# Restoring the backup `{}`\n\nA backup of kind `{}` of `{}`, begun {} and ended {}.\n",
        shown(&manifest.id),
        shown(&manifest.kind),
        shown(&manifest.source),
        manifest.started_at,
        manifest.stopped_at
    );
    if let Some(label) = &manifest.label {
        text.push_str(&format!("It was called \"{}\".\n", shown(label)));
    }
    text.push_str(&format!(
        "\nThis folder is `{}` of its store. Copy all of it to a disk; then nothing but the programs below is needed.\n",
        shown(&place.folder())
    ));
    text.push_str(&objects(manifest));
    text.push_str(&keys(manifest));
    let inside = manifest.objects.iter().all(|object| object.key.is_none());
    text.push_str(if inside { AT_ONCE } else { ELSEWHERE });
    text.push_str(&step_by_step(manifest));
    if let Some(parent) = &manifest.parent {
        text.push_str(&INCREMENT.replace("@PARENT@", &shown(parent)));
    }
    if let Some(snapshot) = &manifest.snapshot {
        let text_of = SNAPSHOT.replace("@PGDATA@", &shown(&snapshot.pgdata));
        text.push_str(&text_of.replace("@PLACE@", &shown(&snapshot.place)));
    }
    if manifest.linked_files().next().is_some() {
        text.push_str(LINKED);
    }
    text.push_str(match manifest.kind.as_str() {
        KIND_POSTGRES_BASE => BASE,
        KIND_POSTGRES_SNAPSHOT => REPLAY,
        KIND_POSTGRES_DUMP => DUMP,
        _ => "",
    });
    text
}

const AT_ONCE: &str = "
## At once

    sh restore.sh /a/folder/that/does/not/exist/yet

It verifies every digest, unpacks, never overwrites anything, and says what to do next. `sh restore.sh` alone shows
its options.
";

const ELSEWHERE: &str = "
This backup was imported where it lay: its objects are not in this folder but under the keys above, so that there is
no script. Fetch them and go on as below.
";

const INCREMENT: &str = "
## It rests on another backup

This backup holds only what changed since the backup `@PARENT@`, which may rest on another one in turn. Restore each of them
with its own `restore.sh` into a folder of its own; then PostgreSQL's `pg_combinebackup -o NEW FULL/data ... THIS/data`, the
full one first and this one last, makes the data directory. Where there are tablespaces, `-T OLD=NEW` says for each where it
goes. No server starts from an increment alone.
";

const LINKED: &str = "
## Links in the data directory

What lies below `pgdata` was behind links in the data directory, which PostgreSQL leaves out of its backups. Put each file into the
restored data directory, at the same path, before a server starts from it. `restore.sh` does so.
";

const SNAPSHOT: &str = "
## The data

It is not here: it lies in the snapshot `@PLACE@`, which was taken of `@PGDATA@` while the server was in backup mode. Copy the data
directory out of it without `postmaster.pid` and the content of `pg_wal`, put `backup_label` of this folder into the copy (and
`tablespace_map`, its paths turned to where the copies of the tablespaces lie), and let it replay the archived WAL as below.
";

const BASE: &str = "
## The server

1. Extract `base.tar` into a new, empty data directory (mode 0700), `pg_wal.tar` into its `pg_wal`, and each
   `<number>.tar` into a folder of its own; point `pg_tblspc/<number>` and the line of `tablespace_map` at it.
2. **Never remove `backup_label`.** Without it the server starts and is silently corrupt.
3. To replay archived WAL, put `restore_command` into `postgresql.auto.conf` and create `recovery.signal`. The command
   must end with 1 only for a segment that is surely not in the archive, and with 126 or more for everything else:
   a server that is told 1 opens there and then.
4. **Never replay WAL beside the old server unseen.** `CREATE TABLESPACE` is replayed with the path it had: a tablespace that
   is younger than the backup becomes the same files for both servers. `pg_waldump -r Tablespace` over the WAL names them
   (`CREATE`, a number and a path). `restore.sh` looks itself, segment by segment; by hand, do it on another machine, or where those
   folders are out of reach.
5. Set `archive_mode = off` until you know that this is the server you keep. Start it on another port, with
   `external_pid_file` empty and `max_logical_replication_workers = 0`. It is ready when `pg_is_in_recovery()` says `f`.
6. Look at the data before you replace anything, and keep the old data directory until then.
";

const REPLAY: &str = "
## The server

Never remove `backup_label`. Put `restore_command` into `postgresql.auto.conf` and create `recovery.signal`; the command must end
with 1 only for a segment that is surely not in the archive, and with 126 or more for everything else. Set `archive_mode = off`
until you know that this is the server you keep, and start it on another port. **Replay of `CREATE TABLESPACE` uses the path it had**: a
tablespace younger than the snapshot becomes the same files for two servers, unless this is another machine (`pg_waldump -r
Tablespace` names them). It is ready when `pg_is_in_recovery()` says `f`.
";

const DUMP: &str = "
## The database

Roles and tablespaces (`globals*.sql`) come first, as a superuser. Create a new database from `template0`; restore into
it (`psql -X -1 -v ON_ERROR_STOP=1 -f FILE` for SQL text, `pg_restore --exit-on-error` for anything else), look at it,
and only then rename it over the old one. Rights, owner and settings of the database itself are not in a dump.
";

fn objects(manifest: &Manifest) -> String {
    let mut text = "\n| object | size | SHA-256 as stored |\n|---|---|---|\n".to_owned();
    for object in &manifest.objects {
        let name = object.key.as_deref().unwrap_or(&object.name);
        text.push_str(&format!("| `{}` | {} | `{}` |\n", shown(name), ByteSize(object.size_bytes), object.sha256));
    }
    text
}

/// What reads it: programs, and whose keys.
fn keys(manifest: &Manifest) -> String {
    let mut lines: Vec<String> = Vec::new();
    for object in &manifest.objects {
        let line = match &object.encoding.encryption {
            None => continue,
            Some(Encrypted::Age { recipients }) => {
                format!(
                    "- Encrypted with age; any one of the identities of these public keys reads it: `{}`",
                    recipients.join("`, `")
                )
            }
            Some(Encrypted::AgePassphrase) => "- Encrypted with age by a passphrase".to_owned(),
            Some(Encrypted::OpensslEnc { .. }) => "- Encrypted with `openssl enc` by a password".to_owned(),
            Some(Encrypted::GpgSymmetric { .. }) => "- Encrypted with `gpg --symmetric` by a passphrase".to_owned(),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join("\n")) }
}

fn step_by_step(manifest: &Manifest) -> String {
    let mut text = "\n## Step by step\n\n    sha256sum -c SHA256SUMS\n".to_owned();
    for object in &manifest.objects {
        text.push_str(&format!("    {}\n", line(object)));
    }
    text
}

/// One command line that gives the plain file.
fn line(object: &ManifestObject) -> String {
    let own = object.key.as_deref().and_then(|key| key.rsplit('/').next()).unwrap_or(&object.name);
    let from = quoted(own);
    let plain = object.plain_name();
    let commands = unpack::commands(&object.encoding);
    let Some((first, rest)) = commands.split_first() else {
        return match &object.archive_of {
            Some(folder) => format!("mkdir {0} && tar -xpf {from} -C {0}", quoted(folder)),
            None => format!("# {from} is plain"),
        };
    };
    let rest: String = rest.iter().map(|command| format!(" | {command}")).collect();
    let extract = object.archive_of.as_ref().map(|folder| {
        let folder = quoted(folder);
        format!(" && mkdir {folder} && tar -xpf {} -C {folder}", quoted(&plain))
    });
    let line = format!("{first} <{from}{rest} >{}{}", quoted(&plain), extract.unwrap_or_default());
    let line = line
        .replace(r#""$identity""#, "IDENTITY-FILE")
        .replace(r#" ${password:+-pass} ${password:+"file:$password"}"#, "");
    line.replace(
        r#" ${password:+--batch} ${password:+--pinentry-mode} ${password:+loopback} ${password:+--passphrase-file} ${password:+"$password"}"#,
        "",
    )
}
