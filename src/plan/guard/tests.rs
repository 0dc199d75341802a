#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Identity, Place, Refusal, drill, overlap};
use crate::action::{Access, EffectClass, Effects, Target};
use crate::language::inventory::{Database, Inventory, Service, ServiceCommands, StoreEntry, Via};
use crate::plan::BoundPlan;
use crate::plan::fixture::{plan, step};

/// A machine whose links and mounts are written down.
#[derive(Default)]
struct Machine {
    links: BTreeMap<PathBuf, PathBuf>,
    inodes: BTreeMap<PathBuf, (u64, u64)>,
}

impl Identity for Machine {
    fn canonical(&self, path: &Path) -> PathBuf {
        let link = path.ancestors().find_map(|parent| Some((self.links.get(parent)?, path.strip_prefix(parent).ok()?)));
        link.map_or_else(|| path.to_owned(), |(real, rest)| real.join(rest))
    }
    fn device_inode(&self, path: &Path) -> Option<(u64, u64)> {
        self.inodes.get(path).copied()
    }
}

fn path(text: &str, own: Option<(u64, u64)>, parents: &[(u64, u64)]) -> Place {
    let identities = parents.iter().copied().chain(own).collect();
    Place::Path { host: "local".to_owned(), path: text.into(), identities, own }
}

fn production() -> Inventory {
    let orders = Database {
        host: "local".to_owned(),
        pgdata: "/var/lib/pg".into(),
        port: 5432,
        via: Via::Systemd("postgresql@15-main".to_owned()),
        ..Database::default()
    };
    let unit = |name: &str| Service { host: "local".to_owned(), systemd: Some(name.to_owned()), ..Service::default() };
    let commands = |word: &str| Service {
        host: "local".to_owned(),
        command: Some(ServiceCommands {
            start: vec!["ctl".to_owned(), "start".to_owned(), word.to_owned()],
            stop: vec!["ctl".to_owned(), "stop".to_owned(), word.to_owned()],
            status: vec!["ctl".to_owned(), "status".to_owned()],
        }),
        ..Service::default()
    };
    Inventory {
        databases: [("orders".to_owned(), orders)].into(),
        services: [("backend".to_owned(), unit("backend.service")), ("worker".to_owned(), commands("prod"))].into(),
        stores: [("primary".to_owned(), StoreEntry { url: "file:///srv/backups".to_owned(), ..StoreEntry::default() })]
            .into(),
        ..Inventory::default()
    }
}

/// What a drill of one step that writes to `target` is told, `change` being what its environment overrides.
fn judged(target: Target, change: impl FnOnce(&mut Inventory), machine: &Machine) -> Vec<Refusal> {
    let mut one = step("one", "store.put");
    one.effects = Effects::of(EffectClass::Write).target(Access::Write, target);
    let mut mine = plan(vec![one]);
    mine.environment = "drill".to_owned();
    mine.inventory = production();
    change(&mut mine.inventory);
    let theirs = BoundPlan { inventory: production(), ..plan(Vec::new()) };
    let named = ["database:orders", "service:backend", "service:worker", "store:primary"].map(str::to_owned);
    drill(&mine, &BTreeSet::from(named), &[("production".to_owned(), theirs)], machine)
}

fn at(path: &str) -> Target {
    Target::Path { host: "local".to_owned(), path: path.into() }
}

#[test]
fn a_folder_inside_a_protected_one_overlaps() {
    assert!(overlap(&path("/data/pg/scratch", None, &[]), &path("/data/pg", None, &[])));
    assert!(overlap(&path("/data", None, &[]), &path("/data/pg", None, &[])));
    assert!(!overlap(&path("/data/pg2", None, &[]), &path("/data/pg", None, &[])));
}

#[test]
fn a_bind_mount_is_seen_by_device_and_inode() {
    let production = path("/var/lib/pg", Some((8, 42)), &[(8, 2)]);
    let mounted = path("/mnt/other", Some((8, 42)), &[(9, 2)]);
    let below = path("/mnt/other/x", None, &[(8, 42), (9, 2)]);
    assert!(overlap(&mounted, &production));
    assert!(overlap(&below, &production));
    assert!(!overlap(&path("/srv/x", Some((8, 77)), &[(8, 2)]), &production));
}

#[test]
fn a_path_below_a_protected_store_is_refused_though_no_step_would_touch_the_store() {
    let refusals = judged(at("/srv/backups/orders/new"), |_| {}, &Machine::default());
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].message.contains("store `primary`"), "{refusals:?}");
    assert_eq!(judged(at("/srv/elsewhere"), |_| {}, &Machine::default()), []);
}

#[test]
fn a_link_or_a_mount_that_leads_to_a_protected_directory_is_refused() {
    let linked = Machine { links: [("/scratch/pg".into(), "/var/lib/pg".into())].into(), ..Machine::default() };
    assert_eq!(judged(at("/scratch/pg/base"), |_| {}, &linked).len(), 1);
    let inodes = [("/var/lib/pg".into(), (8, 42)), ("/mnt/other".into(), (8, 42))].into();
    let mounted = Machine { inodes, ..Machine::default() };
    assert_eq!(judged(at("/mnt/other/base"), |_| {}, &mounted).len(), 1);
    assert_eq!(judged(at("/mnt/else"), |_| {}, &mounted), []);
}

#[test]
fn an_overridden_store_with_the_protected_folder_is_the_protected_store() {
    let target = || Target::Store { name: "primary".to_owned(), prefix: "drill".to_owned() };
    assert_eq!(judged(target(), |_| {}, &Machine::default()).len(), 1);
    let elsewhere = |mine: &mut Inventory| {
        mine.stores.get_mut("primary").unwrap().url = "file:///srv/backups-drill".to_owned();
    };
    assert_eq!(judged(target(), elsewhere, &Machine::default()), []);
}

#[test]
fn a_unit_is_the_same_with_and_without_its_suffix_and_as_the_way_a_database_is_run() {
    let backend = || Target::Service { name: "backend".to_owned() };
    for unit in ["backend", "backend.service", "postgresql@15-main.service"] {
        let as_unit = |mine: &mut Inventory| {
            mine.services.get_mut("backend").unwrap().systemd = Some(unit.to_owned());
        };
        assert_eq!(judged(backend(), as_unit, &Machine::default()).len(), 1, "{unit}");
    }
    let own = |mine: &mut Inventory| {
        mine.services.get_mut("backend").unwrap().systemd = Some("backend-drill".to_owned());
    };
    assert_eq!(judged(backend(), own, &Machine::default()), []);
}

#[test]
fn a_service_run_by_commands_is_told_apart_by_its_commands() {
    let worker = || Target::Service { name: "worker".to_owned() };
    assert_eq!(judged(worker(), |_| {}, &Machine::default()).len(), 1);
    let own = |mine: &mut Inventory| {
        let commands = mine.services.get_mut("worker").unwrap().command.as_mut().unwrap();
        commands.start = vec!["drillctl".to_owned(), "start".to_owned()];
        commands.stop = vec!["drillctl".to_owned(), "stop".to_owned()];
    };
    assert_eq!(judged(worker(), own, &Machine::default()), []);
}

#[test]
fn what_the_drill_environment_does_not_name_is_read_only() {
    let mut one = step("one", "service.stop");
    let target = Target::Service { name: "backend".to_owned() };
    one.effects = Effects::of(EffectClass::Write).target(Access::Write, target);
    let mine = BoundPlan { inventory: production(), ..plan(vec![one]) };
    let refusals = drill(&mine, &BTreeSet::new(), &[], &Machine::default());
    assert!(refusals[0].message.contains("does not name"), "{refusals:?}");
}

#[test]
fn the_folder_of_the_run_itself_is_nobodys() {
    let mut one = step("one", "store.get");
    one.effects = Effects::of(EffectClass::Write).target(Access::Write, at("/tmp/scratch/file"));
    let mine = plan(vec![one]);
    let theirs = BoundPlan { inventory: production(), ..mine.clone() };
    assert_eq!(drill(&mine, &BTreeSet::new(), &[("production".to_owned(), theirs)], &Machine::default()), []);
}

#[test]
fn a_script_that_declares_nothing_may_write_anywhere() {
    let mut one = step("one", "shell");
    one.effects = Effects::of(EffectClass::Write);
    let refusals = drill(&plan(vec![one.clone()]), &BTreeSet::new(), &[], &Machine::default());
    assert_eq!(refusals.len(), 1);
    one.declares_drill = true;
    assert_eq!(drill(&plan(vec![one]), &BTreeSet::new(), &[], &Machine::default()), []);
}
