//! The keys of stores: that they are declared, and that they outlive the site.

use std::collections::BTreeMap;

use super::file::InventoryFile;
use super::{BUILT_IN, Encryption};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};

/// Recipients below which one lost key loses every backup.
const FEWEST: usize = 2;

impl InventoryFile {
    /// Where a store encrypts to recipients, at least two are named and one of them is kept offline: an error for
    /// a store that a protected environment writes to, else a warning.
    pub(super) fn recipients(&self, faults: &mut Diagnostics) {
        let mut found: BTreeMap<String, Diagnostic> = BTreeMap::new();
        for (environment, is_protected) in self.writers() {
            // What cannot be put together has faults of its own.
            let Ok(inventory) = self.for_environment(environment) else { continue };
            for (store, entry) in inventory.stores.iter().filter(|(_, entry)| !entry.read_only) {
                let Some(lack) = entry.encryption.as_ref().and_then(lack) else { continue };
                let (code, whose) = match is_protected {
                    true => (Code::KeysLostWithSite, format!(" of the protected environment `{environment}`")),
                    false => (Code::FewRecipients, String::new()),
                };
                if found.get(store).is_none_or(|known| known.code == Code::FewRecipients) {
                    let message = format!("the store `{store}`{whose} encrypts {lack}");
                    found.insert(
                        store.clone(),
                        Diagnostic::new(code, message).at(self.recipients_place(environment, store)),
                    );
                }
            }
        }
        let help = "name a second public key whose identity is kept away from every machine that can be lost with the \
                    data: `{ key: age1…, name: safe, offline: true }`";
        found.into_values().for_each(|fault| faults.push(fault.help(help)));
    }

    /// The environments and whether each is protected.
    fn writers(&self) -> Vec<(&str, bool)> {
        let named = self.environments.iter().map(|(name, environment)| (name.as_str(), environment.protected));
        let named: Vec<_> = named.collect();
        if named.is_empty() { vec![(BUILT_IN, false)] } else { named }
    }

    fn recipients_place(&self, environment: &str, store: &str) -> crate::base::diagnostic::Place {
        let below = format!("/stores/{store}/encryption/recipients");
        let own = format!("/environments/{environment}{below}");
        if self.places.contains_key(&own) { self.place(&own) } else { self.place(&below) }
    }
}

/// What is missing.
fn lack(encryption: &Encryption) -> Option<&'static str> {
    let recipients = &encryption.recipients;
    if recipients.is_empty() {
        return None;
    }
    if recipients.len() < FEWEST {
        return Some("to one recipient: who loses that key loses every backup");
    }
    let any_offline = recipients.iter().any(|recipient| recipient.is_offline());
    (!any_offline).then_some("to recipients of which none is marked `offline`: the keys may be lost with the site")
}
