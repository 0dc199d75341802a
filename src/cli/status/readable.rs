//! Whether the keys at hand open the base backups that there are, by their manifests alone: nothing more is read for it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::action::Encrypted;
use crate::catalog::Backup;
use crate::catalog::health::Level;
use crate::cli::site::Site;
use crate::language::inventory::{SecretEntry, SecretSpec};
use crate::transfer::public_keys;

/// Backups that no key at hand opens.
#[derive(Debug, Serialize)]
pub struct Locked {
    /// How bad that is: critical where no backup is left.
    pub level: Level,
    /// What is so.
    pub fact: String,
}

/// Says which backups of a store, newest first, nobody here can read by the identities that the inventory names for it.
/// Nothing where it names none, as on a machine that only takes backups, and where one of them is not at hand: whether it fits
/// is not known then. Passwords show in no manifest.
pub fn locked(found: &[Backup], store: &str, site: &Site) -> Option<Locked> {
    let how = site.inventory.stores.get(store)?.encryption.as_ref()?;
    let names: Vec<&String> =
        how.identities.iter().chain(how.earlier.iter().flat_map(|earlier| &earlier.identities)).collect();
    let mut held = BTreeSet::new();
    for name in &names {
        is_at_hand(site.inventory.secrets.get(*name)?).then_some(())?;
        held.extend(public_keys(name, &*site.vault).ok()?);
    }
    if held.is_empty() {
        return None;
    }
    let newest = found.first()?;
    let keys = unheld(newest, &held)?;
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    let id = &newest.manifest.id;
    let why = format!(
        "it was encrypted for {}, and no identity of store `{store}` belongs to that: bring that identity below `earlier` in its \
         `encryption`",
        keys.join(", ")
    );
    let is_read = |backup: &Backup| backup.missing.is_empty() && unheld(backup, &held).is_none();
    let older = found.iter().find(|backup| is_read(backup));
    Some(match older {
        None => Locked {
            level: Level::Critical,
            fact: format!("no backup can be read here, and nothing can be recovered; of the newest, `{id}`: {why}"),
        },
        Some(older) => Locked {
            level: Level::Warning,
            fact: format!(
                "the newest backup `{id}` cannot be read here, `{}` of {} can: {why}",
                older.manifest.id, older.manifest.stopped_at
            ),
        },
    })
}

/// Whether a secret is had without asking anybody.
fn is_at_hand(entry: &SecretEntry) -> bool {
    entry.sources().iter().all(|source| match source {
        SecretSpec::File(_) | SecretSpec::Env(_) => true,
        SecretSpec::Command(_) | SecretSpec::Prompt(_) | SecretSpec::Aws(_) | SecretSpec::Vault(_) => false,
    })
}

/// The public keys that an object of a backup was encrypted for, where none of them is held.
fn unheld<'a>(backup: &'a Backup, held: &BTreeSet<String>) -> Option<&'a [String]> {
    backup.manifest.objects.iter().find_map(|object| match object.encoding.encryption.as_ref()? {
        Encrypted::Age { recipients } => {
            let is_held = recipients.is_empty() || recipients.iter().any(|key| held.contains(key.trim()));
            (!is_held).then_some(recipients.as_slice())
        }
        Encrypted::AgePassphrase | Encrypted::OpensslEnc { .. } | Encrypted::GpgSymmetric { .. } => None,
    })
}
