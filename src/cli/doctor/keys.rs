//! `doctor --keys`: a canary is packed as a store packs backups, and decrypted with each key by itself.

use serde::Serialize;
use tokio::io::AsyncReadExt;

use super::kept::{self, Kept, Trials};
use crate::action::ByteStream;
use crate::cli::screen::Face;
use crate::cli::site::Site;
use crate::cli::wal::other_keys;
use crate::cli::{Exit, Failure, document, wiring};
use crate::language::inventory::{EarlierKeys, Encryption, Recipient, StoreEntry};
use crate::transfer::{Expected, Packing, PlainFacts, TransferError, Unpacking, has_password, public_keys};

/// What is packed; nobody needs it back.
const CANARY: &[u8] = b"runbook doctor --keys: whoever reads this can read the backups of this store\n";

/// What is known of one store's keys.
#[derive(Debug, Serialize)]
pub struct Report {
    store: String,
    format: &'static str,
    /// Whether some key here reads what the store writes.
    readable: bool,
    /// Why nothing can be written, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    keys: Vec<Key>,
    recipients: Vec<Holder>,
    /// The newest backups that lie there, tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept: Vec<Kept>,
    /// Why they were not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<String>,
    /// What older backups need.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<Earlier>,
    /// Servers that archive into it with other keys than these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    servers: Vec<Server>,
}

/// A server whose own configuration encrypts otherwise than the inventory says.
#[derive(Debug, Serialize)]
struct Server {
    database: String,
    /// What it does.
    what: String,
}

/// A key that older backups were made with.
#[derive(Debug, Serialize)]
struct Earlier {
    secret: String,
    format: &'static str,
    /// Whether it can be had here and is a key of its kind.
    at_hand: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// A key of the inventory, tried.
#[derive(Debug, Serialize)]
struct Key {
    secret: String,
    reads: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Who can read what is written.
#[derive(Debug, Serialize)]
struct Holder {
    recipient: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    offline: bool,
    /// The secret here that holds its identity.
    identity: Option<String>,
}

/// Examines the stores that encrypt; `only` one of them.
pub fn examine(site: &Site, only: Option<&str>) -> Result<Vec<Report>, Failure> {
    if let Some(name) = only {
        site.store_entry(name)?;
    }
    let stores = site.inventory.stores.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    let encrypting = stores.filter_map(|(name, entry)| entry.encryption.as_ref().map(|how| (name, entry, how)));
    let encrypting: Vec<_> = encrypting.collect();
    let servers = if encrypting.is_empty() { Vec::new() } else { servers(site)? };
    let report = |(name, entry, how): (&String, _, _)| {
        let own = servers.iter().filter(|(store, ..)| store == name);
        let own = own.map(|(_, database, what)| Server { database: database.clone(), what: what.clone() });
        Ok(Report { servers: own.collect(), ..Examination { site, entry, how }.report(name)? })
    };
    encrypting.into_iter().map(report).collect()
}

/// Each store into which a server archives with other keys, with the database and what it does.
fn servers(site: &Site) -> Result<Vec<(String, String, String)>, Failure> {
    let mut all = Vec::new();
    for database in site.inventory.databases.keys() {
        let differing = wiring::block_on(async { other_keys(site, database).await })?;
        all.extend(differing.into_iter().map(|(store, what)| (store, database.clone(), what)));
    }
    Ok(all)
}

struct Examination<'a> {
    site: &'a Site,
    entry: &'a StoreEntry,
    how: &'a Encryption,
}

impl Examination<'_> {
    fn report(&self, store: &str) -> Result<Report, Failure> {
        let empty = Report {
            store: store.to_owned(),
            format: format(self.how),
            readable: false,
            error: None,
            keys: Vec::new(),
            recipients: self.holders(),
            earlier: self.earlier(),
            kept: Vec::new(),
            unseen: None,
            servers: Vec::new(),
        };
        let canary = match wiring::block_on(self.pack())? {
            Ok(canary) => canary,
            Err(error) => return Ok(Report { error: Some(chain(&error)), ..empty }),
        };
        let mut keys = Vec::new();
        for (secret, alone) in self.alone() {
            let why = wiring::block_on(self.unpack(&canary, &alone))?.err().map(|error| chain(&error));
            keys.push(Key { secret, reads: why.is_none(), why });
        }
        let report = Report { readable: keys.iter().any(|key| key.reads), keys, ..empty };
        Ok(match self.kept(store)? {
            Ok(Trials { kept, unread }) => {
                Report { kept, unseen: (!unread.is_empty()).then(|| unread.join("; ")), ..report }
            }
            Err(unseen) => Report { unseen: Some(unseen), ..report },
        })
    }

    /// What lies in the store. A key can be tried where the store gives no answer, so that is no failure.
    fn kept(&self, store: &str) -> Result<Result<Trials, String>, Failure> {
        match self.site.read_store(store) {
            Ok(opened) => wiring::block_on(kept::try_newest(self.site, (store, opened.as_ref()), self.how)),
            Err(failure) => Ok(Err(failure.message)),
        }
    }

    async fn pack(&self) -> Result<Canary, TransferError> {
        let packing = Packing::of(self.entry, &*self.site.vault)?;
        let (mut body, packed) = packing.seal(Box::new(CANARY)).split();
        let mut stored = Vec::new();
        let read = body.read_to_end(&mut stored).await;
        read.map_err(|source| TransferError::Io { what: "pack the canary", source })?;
        let unread = || TransferError::Settings("the canary was not packed to its end".to_owned());
        let packed = packed().ok_or_else(unread)?;
        let facts = PlainFacts { size_bytes: packed.stored_size_bytes, sha256: packed.stored_sha256 };
        Ok(Canary { packing, stored, expected: Expected { stored: facts, plain: packed.plain } })
    }

    async fn unpack(&self, canary: &Canary, alone: &Encryption) -> Result<(), TransferError> {
        let unpacking = Unpacking::of(canary.packing.encoding(), Some(alone), &*self.site.vault)?;
        let stored: ByteStream = Box::new(std::io::Cursor::new(canary.stored.clone()));
        let mut plain = Vec::new();
        let read = unpacking.open(stored, canary.expected).read_to_end(&mut plain).await;
        read.map(drop).map_err(|error| TransferError::of_reading("the canary", error))
    }

    /// Every key of the settings by the name of its secret, with settings that know no other.
    fn alone(&self) -> Vec<(String, Encryption)> {
        let how = self.how;
        let identity =
            |name: &String| (name.clone(), Encryption { identities: vec![name.clone()], ..Encryption::default() });
        if !how.recipients.is_empty() {
            return how.identities.iter().map(identity).collect();
        }
        let word = how.passphrase.as_ref();
        let word = word.or(how.openssl.as_ref().map(|openssl| &openssl.password));
        let word = word.or(how.gpg.as_ref().map(|gpg| &gpg.passphrase));
        word.map(|name| (name.clone(), how.clone())).into_iter().collect()
    }

    /// Every key that only reads. Nothing of their time is at hand to try them on.
    fn earlier(&self) -> Vec<Earlier> {
        let mut found = Vec::new();
        for keys in &self.how.earlier {
            let EarlierKeys { identities, passphrase, openssl, gpg } = keys;
            let password = openssl.as_ref().map(|openssl| &openssl.password);
            let words = [
                ("age passphrase", passphrase.as_ref()),
                ("openssl", password),
                ("gpg", gpg.as_ref().map(|gpg| &gpg.passphrase)),
            ];
            let words = words.into_iter().filter_map(|(format, name)| Some((format, name?)));
            for (format, name) in identities.iter().map(|name| ("age", name)).chain(words) {
                let why = match format {
                    "age" => public_keys(name, &*self.site.vault).err().map(|error| chain(&error)),
                    _ => has_password(name, &*self.site.vault).err().map(|error| chain(&error)),
                };
                found.push(Earlier { secret: name.clone(), format, at_hand: why.is_none(), why });
            }
        }
        found
    }

    fn holders(&self) -> Vec<Holder> {
        let held = |name: &String| (name.clone(), public_keys(name, &*self.site.vault).unwrap_or_default());
        let here: Vec<(String, Vec<String>)> = self.how.identities.iter().map(held).collect();
        let holder = |recipient: &Recipient| {
            let key = recipient.key().trim().to_owned();
            let identity = here.iter().find(|(_, keys)| keys.contains(&key)).map(|(name, _)| name.clone());
            let name = match recipient {
                Recipient::Key(_) => None,
                Recipient::Named(named) => named.name.clone(),
            };
            Holder { recipient: key, name, offline: recipient.is_offline(), identity }
        };
        self.how.recipients.iter().map(holder).collect()
    }
}

struct Canary {
    packing: Packing,
    stored: Vec<u8>,
    expected: Expected,
}

/// The format as it is named in an inventory.
fn format(how: &Encryption) -> &'static str {
    if !how.recipients.is_empty() {
        return "age";
    }
    match (&how.passphrase, &how.openssl, &how.gpg) {
        (Some(_), _, _) => "age passphrase",
        (None, Some(_), _) => "openssl",
        (None, None, Some(_)) => "gpg",
        (None, None, None) => "none",
    }
}

/// An error with what caused it, on one line.
pub(super) fn chain(error: &TransferError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Says what was found.
pub fn print(reports: &[Report], site: &Site, face: Face) -> Result<Exit, Failure> {
    match face {
        Face::Json => document::write_json(&reports)?,
        Face::People => show(reports, site),
    }
    let lost = |report: &Report| {
        let is_lost = report.earlier.iter().any(|key| !key.at_hand) || report.kept.iter().any(|kept| !kept.readable);
        !report.readable || is_lost || !report.servers.is_empty()
    };
    let unreadable = reports.iter().filter(|report| lost(report)).count();
    Ok(if unreadable == 0 { Exit::Success } else { Exit::Refused })
}

fn show(reports: &[Report], site: &Site) {
    if reports.is_empty() {
        out!("no such store of the environment `{}` encrypts what it writes", site.environment);
    }
    for report in reports {
        let verdict = if report.readable { "can be read here" } else { "CANNOT BE READ HERE" };
        out!("{}  {}: what is written now {verdict}", report.store, report.format);
        if let Some(error) = &report.error {
            out!("  cannot be written either: {error}");
        }
        for key in &report.keys {
            let told = key.why.as_ref().map_or_else(|| "reads it".to_owned(), |why| format!("does not: {why}"));
            out!("  key        `{}` {told}", key.secret);
        }
        for holder in &report.recipients {
            let name = holder.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            out!("  recipient  {}{name}: {}", holder.recipient, kept(holder));
        }
        for key in &report.earlier {
            let told = key.why.as_ref().map_or_else(|| "is at hand".to_owned(), |why| format!("is NOT at hand: {why}"));
            out!("  earlier    `{}` ({}) {told}", key.secret, key.format);
        }
        for kept in &report.kept {
            let told = kept.why.as_ref().map_or_else(|| "is read".to_owned(), |why| format!("is NOT read: {why}"));
            out!("  newest     backup `{}` of `{}` {told}", kept.backup, kept.source);
            if let Some(other) = &kept.elsewhere {
                out!("             its copy in store `{other}` is read: a restore takes that one");
            }
        }
        for Server { database, what } in &report.servers {
            out!("  WAL        the server of `{database}` {what}");
            tell!(
                "  help: `runbook run setup-archiving -p database={database}` has it archive with the keys of the inventory"
            );
        }
        if report.kept.iter().any(|kept| !kept.readable) {
            tell!(
                "  help: what lies there was written with another key than is here, or is damaged: give the secret its value of then, or name that key under `earlier`; `runbook backups verify ID` tells damage"
            );
        }
        if let Some(why) = &report.unseen {
            out!("  not tried  {why}");
        }
        if report.earlier.iter().any(|key| !key.at_hand) {
            tell!(
                "  help: backups of its time cannot be read here; give the secret a source that answers, or remove the entry when none of them is left"
            );
        }
        if !report.readable {
            tell!("  help: {}", advice(report));
        }
    }
}

fn kept(holder: &Holder) -> String {
    match (&holder.identity, holder.offline) {
        (Some(secret), false) => format!("its identity is the secret `{secret}`"),
        (Some(secret), true) => format!("marked `offline`, and yet its identity is here as the secret `{secret}`"),
        (None, true) => "no identity here, as `offline` says: try it where it is kept".to_owned(),
        (None, false) => "no identity here, and it is not marked `offline`".to_owned(),
    }
}

fn advice(report: &Report) -> String {
    if report.error.is_some() {
        return "the lines above say what is wrong with the key that writing needs".to_owned();
    }
    if report.keys.is_empty() {
        return "name the secrets with identities under `encryption: { identities: [...] }`, or run this where they are kept"
            .to_owned();
    }
    "restore needs one of its keys: give the secret a source that answers here, or run this where the keys are kept"
        .to_owned()
}
