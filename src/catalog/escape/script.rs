//! `restore.sh`.

use std::collections::BTreeSet;

use super::shown;
use super::unpack::{pipeline, programs};
use crate::action::Encrypted;
use crate::action::by_hand::quoted;
use crate::catalog::{
    BackupPlace, KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP, Manifest, ManifestObject, ObjectRole, PostgresFacts,
};

const HEAD: &str = include_str!("head.sh");
const FILES: &str = include_str!("files.sh");
const DUMP: &str = include_str!("dump.sh");
const BASE: &str = include_str!("base.sh");
const BASE_WAY: &str = include_str!("base_way.sh");
const BASE_MAP: &str = include_str!("base_map.sh");
const BASE_WORDS: &str = include_str!("base_words.sh");
const INCREMENT_MAP: &str = include_str!("increment_map.sh");
const INCREMENT_WORDS: &str = include_str!("increment_words.sh");
const DEMANDS: &str = include_str!("base_demands.sh");
const TABLESPACE: &str = include_str!("tablespace.sh");
const FETCHER: &str = include_str!("fetcher.sh");
const FETCH: &str = include_str!("fetch_wal.sh");

/// The script of a backup.
pub(super) fn script(place: &BackupPlace, manifest: &Manifest) -> String {
    let mut text = head(place, manifest);
    for object in &manifest.objects {
        text.push_str(&unpacked(object));
    }
    match manifest.kind.as_str() {
        KIND_POSTGRES_BASE => text.push_str(&base(manifest)),
        KIND_POSTGRES_DUMP => text.push_str(DUMP),
        _ => text.push_str(FILES),
    }
    text
}

fn head(place: &BackupPlace, manifest: &Manifest) -> String {
    let needed: BTreeSet<&str> = manifest.objects.iter().flat_map(|object| programs(&object.encoding)).collect();
    let listed: String = needed.iter().map(|program| format!(" {program}")).collect();
    let needs = std::iter::once("a POSIX shell, tar, sha256sum").chain(needed).collect::<Vec<_>>().join(", ");
    let (usage, options) = options(manifest);
    // Values come last, so that nothing in them is taken for a place of the template.
    HEAD.replace("@PROGRAMS@", &listed)
        .replace("@NEEDS@", &needs)
        .replace("@USAGE@", &usage)
        .replace("@OPTIONS@", &options)
        .replace("@DEMANDS@", &demands(place, manifest))
        .replace("@WAY@", &way(manifest))
        .replace("@ENDED@", &manifest.stopped_at.to_string())
        .replace("@KIND@", &shown(&manifest.kind))
        .replace("@ID@", &shown(&manifest.id))
        .replacen("@SOURCE@", &shown(&manifest.source), 1)
}

/// The options this backup has a use for: how they are called, and what they mean.
fn options(manifest: &Manifest) -> (String, String) {
    let ciphers = || manifest.objects.iter().filter_map(|object| object.encoding.encryption.as_ref());
    let mut found: Vec<(&str, &str)> = Vec::new();
    let is_base = manifest.kind == KIND_POSTGRES_BASE;
    if is_base || ciphers().any(|cipher| matches!(cipher, Encrypted::Age { .. })) {
        found.push(("--identity FILE", "the age identity that reads what is encrypted so"));
    }
    if ciphers().any(|cipher| matches!(cipher, Encrypted::OpensslEnc { .. } | Encrypted::GpgSymmetric { .. })) {
        found.push(("--password-file FILE", "its password on one line; without it you are asked"));
    }
    if is_base {
        found.push(("--wal FOLDER", "the archived WAL of the cluster (with folders like 00000001 and history)"));
        found.push((
            "--timeline NUMBER",
            "the timeline that --wal is to follow; without it the newest one that was not given up",
        ));
        found.push((
            "--other-machine",
            "no other server here uses the folders of its tablespaces: nothing is looked at",
        ));
    }
    let usage = found.iter().map(|(option, _)| format!(" [{option}]")).collect();
    let line = |(option, meaning): &(&str, &str)| format!("    say {}\n", quoted(&format!("  {option}   {meaning}")));
    let told = found.iter().map(line).collect();
    (usage, told)
}

/// What must be given: age would fail on a missing identity with words about a file called "".
/// A base backup's WAL is looked at before it is replayed, unless that is waived.
fn demands(place: &BackupPlace, manifest: &Manifest) -> String {
    let is_age = |object: &ManifestObject| matches!(object.encoding.encryption, Some(Encrypted::Age { .. }));
    let identity = match manifest.objects.iter().any(is_age) {
        true => {
            "[ -n \"$identity\" ] || die 'it is encrypted by age: give --identity FILE, the file with AGE-SECRET-KEY-1...'\n"
        }
        false => "",
    };
    let facts = manifest.postgres.as_ref().filter(|_| manifest.kind == KIND_POSTGRES_BASE);
    let base = facts.map(|facts| {
        let up = if place.tier.is_some() { "../../.." } else { "../.." };
        DEMANDS
            .replace("@WAL_FOLDER@", &format!("{up}/wal/{}", facts.system_id))
            .replace("@MAJOR@", &major(facts))
            .replace("@TABLESPACE@", TABLESPACE)
    });
    format!("{identity}{}", base.unwrap_or_default())
}

/// The choice of the timeline, before anything is written.
fn way(manifest: &Manifest) -> String {
    let facts = manifest.postgres.as_ref().filter(|_| manifest.kind == KIND_POSTGRES_BASE);
    let way = facts.map(|facts| {
        let fetch = FETCH
            .replace("@TABLESPACE@", TABLESPACE)
            .replace("@SEGMENT_BYTES@", &facts.segment_size.bytes().to_string());
        let choice = BASE_WAY
            .replace("@TIMELINE@", &facts.timeline.hex().to_string())
            .replace("@END@", &format!("{:016X}", facts.stop_lsn.0));
        format!("{}{choice}", FETCHER.replace("@FETCH@", &fetch))
    });
    way.unwrap_or_default()
}

/// The major version of the server, as its programs tell it.
fn major(facts: &PostgresFacts) -> String {
    facts.server_version.chars().take_while(char::is_ascii_digit).collect()
}

/// The lines that put one object into its place below the stage.
fn unpacked(object: &ManifestObject) -> String {
    let plain = object.plain_name();
    let into = match object.role {
        ObjectRole::Data => Some("data".to_owned()),
        ObjectRole::Wal => Some("data/pg_wal".to_owned()),
        ObjectRole::Tablespace => object.tablespace.map(|oid| format!("tablespaces/{oid}")),
        ObjectRole::BackupManifest => {
            let from = pipeline(object);
            return format!(
                "mkdir -p \"$stage\"/data\n{from} >\"$stage\"/data/backup_manifest\nwhole backup_manifest\n"
            );
        }
        ObjectRole::Dump | ObjectRole::Globals | ObjectRole::Config | ObjectRole::File | ObjectRole::Unknown => {
            object.archive_of.clone()
        }
    };
    let (from, name) = (pipeline(object), quoted(&plain));
    match into {
        Some(folder) => {
            let folder = quoted(&folder);
            let failed = format!("die {name}' could not be unpacked: a wrong key, a full disk, or damage'");
            format!("mkdir -p \"$stage\"/{folder}\n{from} | extract \"$stage\"/{folder} || {failed}\nwhole {name}\n")
        }
        None => {
            let folder = plain
                .rsplit_once('/')
                .map_or(String::new(), |(folder, _)| format!("mkdir -p \"$stage\"/{}\n", quoted(folder)));
            format!("{folder}{from} >\"$stage\"/{name}\nwhole {name}\n")
        }
    }
}

fn base(manifest: &Manifest) -> String {
    let Some(facts) = &manifest.postgres else { return FILES.to_owned() };
    let links: String = facts.tablespaces.iter().map(|tablespace| {
        let oid = tablespace.oid;
        format!("mkdir -p \"$stage\"/data/pg_tblspc\nrm -f \"$stage\"/data/pg_tblspc/{oid}\nln -s ../../tablespaces/{oid} \"$stage\"/data/pg_tblspc/{oid}\n")
    }).collect();
    let map: String = facts
        .tablespaces
        .iter()
        .map(|tablespace| {
            let oid = tablespace.oid;
            format!("printf '%s %s\\n' {oid} \"$target/tablespaces/{oid}\" >>\"$stage\"/data/tablespace_map.new\n")
        })
        .collect();
    let absolute: String = facts
        .tablespaces
        .iter()
        .map(|tablespace| {
            let oid = tablespace.oid;
            format!("rm -f -- \"$stage\"/data/pg_tblspc/{oid}\nln -s \"$target\"/tablespaces/{oid} \"$stage\"/data/pg_tblspc/{oid}\n")
        })
        .collect();
    let mapping = |oid: u32| format!(" -T $target/tablespaces/{oid}=/a/new/tablespace/{oid}");
    let mappings: String = facts.tablespaces.iter().map(|tablespace| mapping(tablespace.oid)).collect();
    let bare = |text: &str| shown(text).replace(['\'', '"', '$', '`', '\\'], " ");
    let (map_part, linked, words) = match &manifest.parent {
        None => (BASE_MAP, linked(manifest), BASE_WORDS.to_owned()),
        Some(parent) => {
            let words = INCREMENT_WORDS.replace("@LINKED@", linked_beside(manifest));
            (INCREMENT_MAP, String::new(), words.replace("@PARENT@", &bare(parent)))
        }
    };
    let body = BASE
        .replace("@MAP@", map_part)
        .replace("@WORDS@", &words)
        .replace("@LINKED@", &linked)
        .replace("@TABLESPACE_MAP@", &map)
        .replace("@TABLESPACE_LINKS@", &absolute)
        .replace("@MAPPINGS@", &mappings)
        .replace("@MAJOR@", &major(facts))
        .replace("@SYSTEM_ID@", &facts.system_id.to_string())
        .replace("@VERSION@", &bare(&facts.server_version));
    format!("{links}{body}")
}

/// Puts what was behind links of the data directory into it, once the server's own program has read it: it calls what the
/// server's manifest does not have damage.
fn linked(manifest: &Manifest) -> String {
    let mut text = String::new();
    for (_, own) in manifest.linked_files() {
        let file = quoted(&own.to_string_lossy());
        if let Some(folder) = own.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            text.push_str(&format!("mkdir -p \"$stage\"/data/{}\n", quoted(&folder.to_string_lossy())));
        }
        text.push_str(&format!(
            "[ -e \"$stage\"/data/{file} ] || cp \"$stage\"/pgdata/{file} \"$stage\"/data/{file}\n"
        ));
        text.push_str(&format!("say '   a link in the data directory, now a plain file: '{file}\n"));
    }
    text
}

/// Says the same of an increment, whose data directory is made later.
fn linked_beside(manifest: &Manifest) -> &'static str {
    match manifest.linked_files().next() {
        None => "",
        Some(_) => {
            "say \"   Copy what is in $target/pgdata into its output: links of the data directory, which no server's backup holds.\"\n"
        }
    }
}
