//! What a dump into a store costs: `postgres.dump` against the same dump by hand.
//!
//! `cargo bench --bench dumps -- [FOLDER] [--rows N] [--turns N]`; a cluster is made in the folder and removed. By hand
//! means what careful scripts do: `pg_dump` into a file, `sha256sum`, and a copy of it into the store's folder. Ours
//! does more: facts, globals, the list of what lies in the store, a manifest.

#[path = "measure/mod.rs"]
mod measure;
#[path = "../tests/it/support/postgres.rs"]
#[expect(clippy::disallowed_methods, reason = "the tests' own cluster")]
mod postgres;

use std::path::Path;
use std::process::Command;

use measure::{Times, build, runbook, timed, write};
use postgres::Cluster;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str, usual: u64| {
        let at = args.iter().position(|arg| arg == flag);
        at.and_then(|at| args.get(at + 1)).and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (rows, turns) = (number("--rows", 2_000_000), number("--turns", 3));
    let cluster = Cluster::start(&[("shared_buffers", "256MB")]);
    cluster.sql(
        "CREATE TABLE big (id bigint PRIMARY KEY, name text, at timestamptz, amount numeric, note text); \
         CREATE TABLE other (id bigint PRIMARY KEY, note text)",
    );
    cluster.sql(&format!(
        "INSERT INTO big SELECT n, 'customer ' || n % 1000, now() - n * interval '1s', n / 7.0, md5(n::text) \
         FROM generate_series(1, {rows}) n; INSERT INTO other SELECT n, md5(n::text) FROM generate_series(1, {rows} / 2) n; ANALYZE"
    ));
    let size = cluster.sql("SELECT pg_size_pretty(pg_database_size('postgres'))");
    println!("dumps, {}, a database of {size}, {turns} turns each, in {}", build(), cluster.dir().display());
    let (store, by_hand) = (cluster.folder("store"), cluster.folder("by-hand"));
    let state = cluster.folder("state");
    let inventory = format!(
        "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary }}\nstores: {{ primary: {{ url: \"file://{}\" }} }}\n",
        cluster.pgdata().display(),
        cluster.port(),
        cluster.socket_dir().display(),
        cluster.bin().display(),
        store.display()
    );
    write(&state.join("inventory.yaml"), &inventory);
    for (format, more) in [("custom", ""), ("custom", ", facts: off"), ("directory", ", jobs: 2")] {
        let text = format!(
            "version: 1\nname: dump\nsteps:\n  - {{ id: dump, uses: postgres.dump, with: {{ database: main, format: {format}{more} }} }}\n"
        );
        write(&state.join(format!("{format}{}.yaml", more.len())), &text);
    }
    let ours = |name: &str| {
        let path = state.join(name).display().to_string();
        let inventory = state.join("inventory.yaml").display().to_string();
        runbook(&state, &["run", &path, "--inventory", &inventory])
    };
    let script = |words: &str| by_script(&cluster, &by_hand, &store, words);
    let rivals: [(&str, &dyn Fn() -> Command); 7] = [
        ("ours: custom, counts, globals, list", &|| ours("custom0.yaml")),
        ("ours: custom, no facts", &|| ours("custom12.yaml")),
        ("ours: directory, 2 jobs, counts", &|| ours("directory9.yaml")),
        ("pg_dump -Fc -Z9, sha256sum, cp", &|| script("-Fc -Z9 -f $D/x")),
        ("pg_dump -Fc, sha256sum, cp", &|| script("-Fc -f $D/x")),
        ("pg_dump -Fd -j2 -Z1, sha256sum, cp", &|| script("-Fd -j2 -Z1 -f $D/x")),
        ("pg_dump -Fc -Z0 > /dev/null", &|| script("-Fc -Z0 -f /dev/null")),
    ];
    let mut times: Vec<Times> = rivals.iter().map(|_| Times::new()).collect();
    for _ in 0..turns {
        for ((_, rival), times) in rivals.iter().zip(&mut times) {
            times.add(timed(rival()));
        }
    }
    let first = times[0].median_ms();
    for ((name, _), times) in rivals.iter().zip(&times) {
        println!("{name:40} {:9.0} ms  ours takes {:.2} of it", times.median_ms(), first / times.median_ms());
    }
}

/// The dump by hand: into a folder, digested, copied durably into the store's folder.
fn by_script(cluster: &Cluster, by_hand: &Path, store: &Path, words: &str) -> Command {
    let (by_hand, store) = (by_hand.display(), store.display());
    let mut command = measure::quiet("sh");
    let connect = format!("-U postgres -h {} -p {}", cluster.socket_dir().display(), cluster.port());
    let script = format!(
        "set -e; D={by_hand}; rm -rf $D/x {store}/x; {}/pg_dump {connect} {words} postgres; \
         if test -e $D/x; then find $D/x -type f -exec sha256sum {{}} + >$D/sums; cp -r $D/x {store}/x; sync {store}; fi",
        cluster.bin().display()
    );
    command.args(["-c", &script]);
    command
}
