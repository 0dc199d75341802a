//! What of a configuration that is there becomes another one. Pure.

use crate::language::inventory::StoreEntry;
use crate::wal::{Config, encrypts_otherwise};

/// Says what of a server's configuration is written anew, each in words; nothing where it stays as it is.
pub(super) fn rewritten(now: &Config, wanted: &Config) -> Vec<String> {
    let mut all = Vec::new();
    let mut changed = |what: &str, from: String, to: String| {
        if from != to {
            all.push(format!("{what} becomes {to}, not {from}"));
        }
    };
    let urls = |config: &Config| {
        let urls: Vec<String> = config.stores().map(|entry| format!("`{}`", entry.plain_url())).collect();
        urls.join(", ")
    };
    changed("what it archives into", urls(now), urls(wanted));
    changed("the prefix", format!("`{}`", now.prefix), format!("`{}`", wanted.prefix));
    changed("`at_least`", now.at_least().to_string(), wanted.at_least().to_string());
    for entry in wanted.stores() {
        let Some(known) = now.stores().find(|known| known.plain_url() == entry.plain_url()) else { continue };
        let url = entry.plain_url();
        if let Some(what) = encrypts_otherwise(known.encryption.as_ref(), entry.encryption.as_ref()) {
            all.push(format!("the keys of `{url}` become the inventory's: until now the server {what}"));
        }
        let rest = |entry: &StoreEntry| StoreEntry { encryption: None, url: String::new(), ..entry.clone() };
        if rest(known) != rest(entry) {
            all.push(format!("the settings of `{url}` become the inventory's"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{Config, rewritten};

    fn config(text: &str) -> Config {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn what_stays_is_not_told_and_what_changes_is() {
        let store = |key: &str| format!("{{ url: 'file:///a', encryption: {{ recipients: [{key}] }} }}");
        let now = config(&format!("store: {}\nprefix: dd\nspool: /s\n", store("age1old")));
        assert!(rewritten(&now, &Config { spool: None, ..now.clone() }).is_empty());
        let told = rewritten(&now, &config(&format!("store: {}\nprefix: new\n", store("age1new")))).join("\n");
        assert!(told.contains("the prefix becomes `new`, not `dd`"), "{told}");
        assert!(told.contains("for `age1old`, not for `age1new`"), "{told}");
        let more = config(&format!("stores: [{}, 'file:///b']\nprefix: dd\n", store("age1old")));
        let told = rewritten(&now, &more).join("\n");
        assert!(told.contains("becomes `file:///a`, `file:///b`, not `file:///a`"), "{told}");
        let packed = "store: { url: 'file:///a', compression: { format: gzip } }\nprefix: dd\n";
        assert!(rewritten(&now, &config(packed)).join("\n").contains("the settings of `file:///a`"));
    }
}
