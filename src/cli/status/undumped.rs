//! The databases of a managed server that have no dump: one is of one database, and the newest says nothing of the others.

use std::collections::BTreeMap;

use serde::Serialize;

use super::advice::{Advice, OLD};
use super::gather::Status;
use crate::actions::postgres::recovery::server_status::ServerStatus;
use crate::actions::postgres::{is_half_loaded, is_kept_old};
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::catalog::health::Level;
use crate::language::inventory::Database;

/// What `initdb` makes as templates.
const TEMPLATES: [&str; 2] = ["template0", "template1"];
/// What every server has for sessions that want no other; many keep nothing in it.
const USUAL: &str = "postgres";

/// A database that is there and has no dump of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Undumped {
    /// When its newest dump was begun; null where it has none.
    pub dumped_at: Option<Timestamp>,
    /// Whether the inventory names it as the entry's `dbname`.
    pub is_own: bool,
}

/// The databases of a server that answers whose newest dump is old, or that have none. `postgres` is one of them where it was
/// dumped once, or is all there is.
pub(super) fn of(
    server: &ServerStatus,
    entry: &Database,
    (dumped, now): (&BTreeMap<String, Timestamp>, Timestamp),
) -> BTreeMap<String, Undumped> {
    if !server.answers || !server.contradictions.is_empty() {
        return BTreeMap::new();
    }
    let is_aside = |name: &str| TEMPLATES.contains(&name) || is_kept_old(name) || is_half_loaded(name);
    let there: Vec<&String> = server.databases.iter().filter(|name| !is_aside(name)).collect();
    let is_empty_one = |name: &str| name == USUAL && there.len() > 1 && !dumped.contains_key(name);
    let judged = there.iter().filter(|name| !is_empty_one(name)).filter_map(|name| {
        let dumped_at = dumped.get(*name).copied();
        let is_fresh = dumped_at.is_some_and(|at| between(at, now) <= OLD);
        let is_own = **name == entry.dbname && entry.dbname != USUAL;
        (!is_fresh).then(|| ((*name).clone(), Undumped { dumped_at, is_own }))
    });
    judged.collect()
}

/// What to do about them. Where there is no dump at all, or the newest of all is old, that is told already.
pub(super) fn advice(status: &Status, backup: &str) -> Vec<Advice> {
    let Some(newest) = &status.backup else { return Vec::new() };
    let named = |is_it: &dyn Fn(&Undumped) -> bool| {
        let found = status.undumped.iter().filter(|(_, known)| is_it(known));
        let names: Vec<String> = found.map(|(name, _)| format!("`{name}`")).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let own = named(&|known| known.is_own && known.dumped_at.is_none());
    let own = own.map(|name| {
        let text =
            format!("database {name}, which the inventory names, has no dump; those there are of others: {backup}");
        Advice::new(Level::Critical, text)
    });
    // Which others must have one the inventory has said.
    let others = named(&|known| !known.is_own && known.dumped_at.is_none()).filter(|_| !status.limits.dbnames);
    let others = others.map(|names| {
        let text = format!(
            "the server has databases without a dump, {names}: {backup}; where that is in order, `dbnames` of the inventory's \
             `backups` says which must have one"
        );
        Advice::new(Level::Warning, text)
    });
    let is_told = status.limits.age || status.limits.dbnames || between(newest.ended_at, status.at) > OLD;
    let old = named(&|known| known.dumped_at.is_some()).filter(|_| !is_told);
    let old = old.map(|names| {
        Advice::new(Level::Warning, format!("the newest dump of a database of the server is old, {names}: {backup}"))
    });
    [own, others, old].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::{OLD, Undumped, of};
    use crate::actions::postgres::recovery::server_status::ServerStatus;
    use crate::base::Timestamp;
    use crate::base::clock::{after, before};
    use crate::language::inventory::Database;

    fn names(
        databases: &[&str],
        dbname: &str,
        dumped: &[(&str, Timestamp)],
        now: Timestamp,
    ) -> Vec<(String, Undumped)> {
        let databases = databases.iter().map(|name| (*name).to_owned()).collect();
        let server = ServerStatus { answers: true, databases, ..ServerStatus::default() };
        let entry = Database { dbname: dbname.to_owned(), ..Database::default() };
        let dumped: BTreeMap<String, Timestamp> = dumped.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        of(&server, &entry, (&dumped, now)).into_iter().collect()
    }

    #[test]
    fn what_has_no_dump_of_late_is_named_but_what_is_nobodys_data() {
        let now = after(Timestamp::UNIX_EPOCH, Duration::from_secs(90 * 86_400));
        let old = before(now, OLD + Duration::from_secs(1));
        let (kept, half) = ("shop_old_20260128-143002-3fa9c1", "shop_runbook_20260128-143002-3fa9c1");
        let server = ["crm", half, kept, "postgres", "shop", "template0", "template1", "wiki"];
        let found = names(&server, "shop", &[("wiki", old), ("crm", now), (kept, now)], now);
        let own = Undumped { dumped_at: None, is_own: true };
        let other = Undumped { dumped_at: Some(old), is_own: false };
        assert_eq!(found, [("shop".to_owned(), own), ("wiki".to_owned(), other)]);
        let dumped = [("shop", now), ("crm", now), ("wiki", now)];
        assert!(names(&server, "shop", &dumped, now).is_empty());
        // It was dumped once: somebody wanted it.
        let found = names(&server, "shop", &[&dumped[..], &[("postgres", old)]].concat(), now);
        assert_eq!(found, [("postgres".to_owned(), other)]);
        let alone = names(&["postgres", "template0", "template1"], "postgres", &[], now);
        assert_eq!(alone, [("postgres".to_owned(), Undumped { dumped_at: None, is_own: false })]);
    }
}
