#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Identity, Refusal, drill};
use crate::action::{Access, EffectClass, Effects, Target};
use crate::language::inventory::{Database, Inventory, Managed, Service, ServiceCommands, StoreEntry, Via};
use crate::plan::BoundPlan;
use crate::plan::fixture::{plan, step};

/// A machine whose links and mounts are written down.
#[derive(Default)]
struct Machine {
    links: BTreeMap<PathBuf, PathBuf>,
    inodes: BTreeMap<PathBuf, (u64, u64)>,
    blocks: BTreeMap<PathBuf, u64>,
    disks: BTreeMap<u64, u64>,
    systems: BTreeMap<PathBuf, u64>,
    hosts: BTreeMap<String, Vec<String>>,
}

impl Identity for Machine {
    fn canonical(&self, path: &Path) -> PathBuf {
        let link = path.ancestors().find_map(|parent| Some((self.links.get(parent)?, path.strip_prefix(parent).ok()?)));
        link.map_or_else(|| path.to_owned(), |(real, rest)| real.join(rest))
    }
    fn device_inode(&self, path: &Path) -> Option<(u64, u64)> {
        self.inodes.get(path).copied()
    }
    fn block_device(&self, path: &Path) -> Option<u64> {
        self.blocks.get(path).copied()
    }
    fn made_of(&self, device: u64) -> BTreeSet<u64> {
        self.disks.get(&device).copied().into_iter().chain([device]).collect()
    }
    fn hosts(&self, address: &str) -> BTreeSet<String> {
        self.hosts.get(address).cloned().unwrap_or_default().into_iter().chain([address.to_owned()]).collect()
    }
    fn system_id(&self, pgdata: &Path) -> Option<u64> {
        self.systems.get(pgdata).copied()
    }
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
fn a_folder_that_is_contains_or_lies_inside_a_protected_one_is_refused_and_a_longer_name_is_not() {
    for refused in ["/var/lib/pg", "/var/lib/pg/base", "/var/lib", "/"] {
        assert_eq!(judged(at(refused), |_| {}, &Machine::default()).len(), 1, "{refused}");
    }
    assert_eq!(judged(at("/var/lib/pg2"), |_| {}, &Machine::default()), []);
}

#[test]
fn sharing_a_file_system_or_a_folder_is_no_match() {
    let inodes = [("/".into(), (8, 2)), ("/var/lib".into(), (8, 9)), ("/var/lib/pg".into(), (8, 42))].into();
    let machine = Machine { inodes, ..Machine::default() };
    assert_eq!(judged(at("/var/lib/other"), |_| {}, &machine), []);
    assert_eq!(judged(at("/var/lib/pg/x"), |_| {}, &machine).len(), 1);
}

#[test]
fn what_does_not_exist_yet_is_known_by_the_folder_it_would_be_in() {
    let inodes = [("/run/pg".into(), (8, 42)), ("/mnt/run".into(), (8, 42))].into();
    let machine = Machine { inodes, ..Machine::default() };
    let with_socket = |socket: &str| {
        let socket = socket.to_owned();
        move |mine: &mut Inventory| {
            let orders = mine.databases.get_mut("orders").unwrap();
            orders.pgdata = "/srv/drill/pg".into();
            orders.via = Via::Systemd("drill".to_owned());
            orders.socket = Some(socket.into());
        }
    };
    let mut one = step("one", "postgres.stop");
    one.effects = Effects::of(EffectClass::Write).target(Access::Write, Target::Database { name: "orders".to_owned() });
    for (socket, refusals) in [("/mnt/run", 1), ("/run/pg", 1), ("/srv/drill", 0)] {
        let mut mine = plan(vec![one.clone()]);
        mine.inventory = production();
        with_socket(socket)(&mut mine.inventory);
        let mut theirs = BoundPlan { inventory: production(), ..plan(Vec::new()) };
        theirs.inventory.databases.get_mut("orders").unwrap().socket = Some("/run/pg".into());
        let named = BTreeSet::from(["database:orders".to_owned()]);
        let found = drill(&mine, &named, &[("production".to_owned(), theirs)], &machine);
        assert_eq!(found.len(), refusals, "{socket}: {found:?}");
    }
}

#[test]
fn a_port_of_production_is_refused_also_where_production_is_reached_by_its_socket() {
    let port = |port| Target::Port { host: "local".to_owned(), port };
    assert_eq!(judged(port(5432), |_| {}, &Machine::default()).len(), 1);
    assert_eq!(judged(port(5433), |_| {}, &Machine::default()), []);
}

#[test]
fn the_block_device_below_a_protected_folder_is_refused_as_its_disk_is_and_another_partition_is_not() {
    let inodes = [("/var/lib/pg".into(), (0x0801, 42)), ("/dev/sda1".into(), (5, 1))].into();
    let blocks = [("/dev/sda".into(), 0x0800), ("/dev/sda1".into(), 0x0801), ("/dev/sda2".into(), 0x0802)].into();
    let machine = Machine { inodes, blocks, disks: [(0x0801, 0x0800), (0x0802, 0x0800)].into(), ..Machine::default() };
    for (device, refusals) in [("/dev/sda1", 1), ("/dev/sda", 1), ("/dev/sda2", 0)] {
        let found = judged(at(device), |_| {}, &machine);
        assert_eq!(found.len(), refusals, "{device}: {found:?}");
    }
}

#[test]
fn a_server_elsewhere_is_known_by_every_name_and_number_of_its_address() {
    let target = Target::Database { name: "orders".to_owned() };
    let at = |address: &str, port: u16| Database {
        host: "local".to_owned(),
        address: Some(address.to_owned()),
        port,
        via: Via::Managed(Managed::default()),
        ..Database::default()
    };
    let numbers = |number: &str| vec![number.to_owned()];
    let machine = Machine {
        hosts: BTreeMap::from([
            ("db.example.org".to_owned(), numbers("192.0.2.7")),
            ("alias.example.org".to_owned(), numbers("192.0.2.7")),
            ("own.example.org".to_owned(), numbers("local")),
        ]),
        ..Machine::default()
    };
    let refused = |mine: Database, theirs: Database| {
        let inventory = |entry| Inventory { databases: [("orders".to_owned(), entry)].into(), ..Inventory::default() };
        let mut writes = step("s", "postgres.query");
        writes.effects = Effects::of(EffectClass::Write).target(Access::Write, target.clone());
        let mine = BoundPlan { inventory: inventory(mine), ..plan(vec![writes]) };
        let theirs = BoundPlan { inventory: inventory(theirs), ..plan(Vec::new()) };
        let named = BTreeSet::from(["database:orders".to_owned()]);
        !drill(&mine, &named, &[("production".to_owned(), theirs)], &machine).is_empty()
    };
    assert!(refused(at("db.example.org", 5432), at("db.example.org", 5432)));
    assert!(refused(at("alias.example.org", 5432), at("db.example.org", 5432)), "another name of the same machine");
    assert!(!refused(at("alias.example.org", 5433), at("db.example.org", 5432)), "another port");
    assert!(!refused(at("copy.example.org", 5432), at("db.example.org", 5432)));
    let here = Database { host: "local".to_owned(), port: 5432, pgdata: "/var/lib/pg".into(), ..Database::default() };
    assert!(refused(at("own.example.org", 5432), here.clone()), "this machine under its own name");
    assert!(!refused(at("db.example.org", 5432), here));
}

#[test]
fn a_cluster_that_is_there_already_and_is_a_copy_of_production_is_refused_and_a_new_one_is_not() {
    let database = || Target::Database { name: "orders".to_owned() };
    let elsewhere = |mine: &mut Inventory| {
        let orders = mine.databases.get_mut("orders").unwrap();
        (orders.pgdata, orders.port, orders.via) = ("/srv/copy".into(), 5499, Via::Systemd("copy".to_owned()));
    };
    let systems = BTreeMap::from([("/var/lib/pg".into(), 7), ("/srv/copy".into(), 7)]);
    let found = judged(database(), elsewhere, &Machine { systems, ..Machine::default() });
    assert!(found.len() == 1 && found[0].message.contains("system id 7"), "{found:?}");
    let systems = BTreeMap::from([("/var/lib/pg".into(), 7)]);
    assert_eq!(judged(database(), elsewhere, &Machine { systems, ..Machine::default() }), []);
}

#[test]
fn a_url_below_a_protected_one_is_refused_however_it_is_written() {
    let s3 = |mine: &mut Inventory| mine.stores.get_mut("primary").unwrap().url = "s3://drill/x".to_owned();
    let mut one = step("one", "http.check");
    for (prefix, refusals) in
        [("s3://prod/a/../b/c", 1), ("s3://prod/ab", 0), ("s3://PROD/b", 1), ("file:///srv/backups/x", 0)]
    {
        one.effects = Effects::of(EffectClass::Write).target(Access::Write, Target::Url { prefix: prefix.to_owned() });
        let mut mine = plan(vec![one.clone()]);
        mine.inventory = production();
        s3(&mut mine.inventory);
        let mut theirs = BoundPlan { inventory: production(), ..plan(Vec::new()) };
        theirs.inventory.stores.get_mut("primary").unwrap().url = "s3://prod/b/".to_owned();
        let found = drill(&mine, &BTreeSet::new(), &[("production".to_owned(), theirs)], &Machine::default());
        assert_eq!(found.len(), refusals, "{prefix}: {found:?}");
    }
    let file = Target::Url { prefix: "file://localhost/srv/backups/x".to_owned() };
    assert_eq!(judged(file, |_| {}, &Machine::default()).len(), 1);
}

#[test]
fn a_refusal_names_both_places_and_why_they_meet() {
    let linked = Machine { links: [("/scratch/pg".into(), "/var/lib/pg".into())].into(), ..Machine::default() };
    let found = judged(at("/scratch/pg/base"), |_| {}, &linked);
    for words in ["`/scratch/pg/base`", "`/var/lib/pg/base`", "database `orders`", "`/var/lib/pg`", "contains"] {
        assert!(found[0].message.contains(words), "{words}: {found:?}");
    }
}

#[test]
fn a_command_that_stops_a_unit_of_production_is_that_unit() {
    let stops = |mine: &mut Inventory| {
        let commands = mine.services.get_mut("worker").unwrap().command.as_mut().unwrap();
        commands.start = vec!["drillctl".to_owned(), "start".to_owned()];
        commands.stop = ["/bin/systemctl", "stop", "--no-block", "backend"].map(str::to_owned).into();
    };
    assert_eq!(judged(Target::Service { name: "worker".to_owned() }, stops, &Machine::default()).len(), 1);
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
