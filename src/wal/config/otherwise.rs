//! How a server's own configuration differs from what the inventory says now: it was written once, and an entry changes.

use std::collections::BTreeSet;
use std::path::Path;

use super::Config;
use crate::action::Secrets;
use crate::language::inventory::{Database, Encryption, Inventory, Recipient, StoreEntry, Via};
use crate::wal::WalError;

/// How a server archives otherwise than the inventory says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Otherwise {
    /// The prefix that it archives under, where that is another one.
    pub prefix: Option<String>,
    /// What it encrypts for other keys than the inventory's, each store in words.
    pub keys: Vec<String>,
}

impl Config {
    /// Reads the configuration of a database's server, as its command names it. A container calls it by another name than this
    /// machine, and so its spool.
    ///
    /// # Errors
    /// Fails as [`Config::load`]: the files are the server's user's, on the server's machine.
    pub fn of_server(entry: &Database, path: &Path) -> Result<Self, WalError> {
        let Via::Compose(compose) = &entry.via else { return Self::load(&entry.pgdata.join(path)) };
        let folder = compose.wal_folder();
        let config = Self::load(&folder.join(path.file_name().unwrap_or_default()))?;
        let inside = path.parent().unwrap_or(Path::new("/"));
        let spool = config.spool.as_deref().and_then(|spool| spool.strip_prefix(inside).ok());
        Ok(Self { spool: spool.map(|spool| folder.join(spool)), pgdata: Some(entry.pgdata.clone()), ..config })
    }

    /// Under which other prefix than a database of the inventory has it archives.
    #[must_use]
    pub fn elsewhere(&self, name: &str, inventory: &Inventory) -> Option<String> {
        let wanted = inventory.databases.get(name)?.prefix.as_deref().unwrap_or(name);
        (self.prefix != wanted).then(|| self.prefix.clone())
    }

    /// Holds it against a database of the inventory: under which prefix, and for which keys. A secret of one name may hold another
    /// password here and there.
    #[must_use]
    pub fn otherwise(&self, name: &str, (inventory, secrets): (&Inventory, &dyn Secrets)) -> Otherwise {
        let Some(entry) = inventory.databases.get(name) else { return Otherwise::default() };
        let own_secrets = self.vault();
        let known: Vec<&StoreEntry> = entry.archives().filter_map(|store| inventory.stores.get(store)).collect();
        let same = |own: &StoreEntry| known.iter().find(|known| known.plain_url() == own.plain_url()).copied();
        let keys = self.stores().filter_map(|own| {
            let settings = (own.encryption.as_ref(), same(own)?.encryption.as_ref());
            let what = differing_keys(settings, (own_secrets.as_ref(), secrets))?;
            Some(format!("the server {what}, in `{}`", own.plain_url()))
        });
        Otherwise { prefix: self.elsewhere(name, inventory), keys: keys.collect() }
    }
}

/// What a server writes otherwise than the inventory has it, by its settings and by what the secrets of both hold; `None` where the
/// same keys read it, and where a secret cannot be had here.
pub fn differing_keys(
    (now, wanted): (Option<&Encryption>, Option<&Encryption>),
    (own, inventory): (&dyn Secrets, &dyn Secrets),
) -> Option<String> {
    let another = || {
        let mut names = now.into_iter().flat_map(Encryption::passwords);
        let name = names.find(|name| match (own.get(name), inventory.get(name)) {
            (Ok(own), Ok(wanted)) => own.reveal() != wanted.reveal(),
            (Err(_), _) | (_, Err(_)) => false,
        })?;
        Some(format!("encrypts its WAL with another password than secret `{name}` holds now"))
    };
    encrypts_otherwise(now, wanted).or_else(another)
}

/// What is written otherwise with one setting than with another; `None` where the same keys read it.
pub(crate) fn encrypts_otherwise(now: Option<&Encryption>, wanted: Option<&Encryption>) -> Option<String> {
    let (now, wanted) = match (now, wanted) {
        (None, None) => return None,
        (None, Some(_)) => return Some("does not encrypt its WAL, and the inventory does".to_owned()),
        (Some(_), None) => return Some("encrypts its WAL, and the inventory does not".to_owned()),
        (Some(now), Some(wanted)) => (now, wanted),
    };
    let keys = |how: &Encryption| how.recipients.iter().map(|one| one.key().trim().to_owned()).collect::<BTreeSet<_>>();
    let (own, theirs) = (keys(now), keys(wanted));
    let beside = |some: &BTreeSet<String>, others: &BTreeSet<String>, how: &Encryption| {
        let left: Vec<String> = some.difference(others).map(|key| shown(key, how)).collect();
        (!left.is_empty()).then(|| left.join(", "))
    };
    match (beside(&own, &theirs, now), beside(&theirs, &own, wanted)) {
        (Some(old), Some(new)) => {
            Some(format!("encrypts its WAL for another key than the inventory's: for {old}, not for {new}"))
        }
        (Some(old), None) if theirs.is_empty() => {
            Some(format!("encrypts its WAL for {old}, and the inventory with a password"))
        }
        (Some(old), None) => Some(format!("encrypts its WAL for a key that the inventory does not name: {old}")),
        (None, Some(new)) => Some(format!("does not encrypt its WAL for a key of the inventory: {new}")),
        (None, None) => {
            let is_same =
                (&now.passphrase, &now.openssl, &now.gpg) == (&wanted.passphrase, &wanted.openssl, &wanted.gpg);
            (!is_same)
                .then(|| "encrypts its WAL with another password, or in another way, than the inventory".to_owned())
        }
    }
}

/// A key as people know it.
fn shown(key: &str, how: &Encryption) -> String {
    let named = how.recipients.iter().find_map(|one| match one {
        Recipient::Named(named) if named.key.trim() == key => named.name.as_deref(),
        Recipient::Named(_) | Recipient::Key(_) => None,
    });
    named.map_or_else(|| format!("`{key}`"), |name| format!("`{key}` ({name})"))
}

#[cfg(test)]
mod tests {
    use super::encrypts_otherwise;
    use crate::language::inventory::{Encryption, Recipient};

    fn to(keys: &[&str]) -> Encryption {
        let recipients = keys.iter().map(|key| Recipient::Key((*key).to_owned())).collect();
        Encryption { recipients, ..Encryption::default() }
    }

    fn told(now: Option<&Encryption>, wanted: Option<&Encryption>) -> String {
        encrypts_otherwise(now, wanted).unwrap_or_default()
    }

    #[test]
    fn only_who_can_read_what_is_written_counts() {
        let read = Encryption { identities: vec!["ours".to_owned()], ..to(&["age1b", "age1a"]) };
        assert_eq!(encrypts_otherwise(Some(&to(&["age1a", "age1b"])), Some(&read)), None);
        assert_eq!(encrypts_otherwise(None, None), None);
        let other = told(Some(&to(&["age1old", "age1safe"])), Some(&to(&["age1new", "age1safe"])));
        assert!(other.ends_with("another key than the inventory's: for `age1old`, not for `age1new`"), "{other}");
        let more = told(Some(&to(&["age1old", "age1new"])), Some(&to(&["age1new"])));
        assert!(more.contains("does not name: `age1old`"), "{more}");
        let fewer = told(Some(&to(&["age1new"])), Some(&to(&["age1new", "age1safe"])));
        assert!(fewer.contains("a key of the inventory: `age1safe`"), "{fewer}");
        assert!(told(None, Some(&to(&["age1a"]))).contains("does not encrypt"));
        assert!(told(Some(&to(&["age1a"])), None).contains("the inventory does not"));
        let password = |name: &str| Encryption { passphrase: Some(name.to_owned()), ..Encryption::default() };
        assert!(told(Some(&password("a")), Some(&password("b"))).contains("another password"));
        assert!(told(Some(&to(&["age1a"])), Some(&password("b"))).contains("with a password"));
    }
}
