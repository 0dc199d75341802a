//! Checklists for paper, and packs for the day the site is gone.

use std::fs;
use std::process::Command;

use crate::support::cli::Cli;

const INVENTORY: &str = r#"
version: 1
databases:
  orders: { pgdata: /srv/pg/main, port: 5433, os_user: postgres, store: primary, services: [backend] }
services:
  backend: { systemd: backend.service, url: "http://127.0.0.1:1/health" }
stores:
  primary: { url: "file:///srv/backups" }
secrets:
  token: { env: SECRET_TOKEN }
"#;

const RUNBOOK: &str = r#"
version: 1
name: tell
owner: platform-oncall
phases: [{ id: only, name: The only phase }]
steps:
  - id: call
    phase: only
    run: |
      curl -H "$AUTH" it's
    env: { AUTH: "Bearer {{ secrets.token }}" }
  - { id: off, phase: only, uses: service.stop, with: { services_of: orders } }
  - { id: list, phase: only, uses: exec, with: { argv: [ls, "a b"], dir: /srv } }
"#;

fn cli() -> Cli {
    let cli = Cli::with(RUNBOOK).var("SECRET_TOKEN", "hunter2hunter2");
    cli.file("inventory.yaml", INVENTORY);
    cli
}

#[test]
fn a_checklist_shows_what_to_type_and_no_secret() {
    let cli = cli();
    for form in ["--markdown", "--html"] {
        let told = cli.run(&["print", "runbook.yaml", form]).ends(0);
        assert!(!told.out.contains("hunter2"), "{form}");
        for words in [
            "systemctl stop backend.service",
            "The only phase",
            "platform-oncall",
            "‹secret token›",
            "env SECRET_TOKEN",
        ] {
            assert!(told.out.contains(words), "{form}: {words}\n{}", told.out);
        }
    }
    cli.run(&["print", "runbook.yaml"]).ends(0).prints("(cd /srv && ls 'a b')").prints("Initials: ____");
    let html = cli.run(&["print", "runbook.yaml", "--html"]).ends(0).out;
    assert!(!html.contains("<script") && !html.contains("<link"), "one file, nothing from elsewhere");
    let shipped = cli.run(&["print", "full-db-loss", "-p", "database=orders"]).ends(0);
    shipped
        .prints("pg_ctl stop -m fast -w -D /srv/pg/main")
        .prints("restore.sh")
        .prints("recovery_target_action")
        .prints("incident\\_at: `____");
}

#[test]
fn a_pack_is_whole_and_works_where_nothing_else_is() {
    let cli = cli();
    let pack = ["pack", "runbook.yaml", "full-db-loss", "-p", "database=orders", "-o", "stick"];
    cli.run(&pack).ends(0).says("2 runbooks");
    cli.run(&pack).ends(4).says("not empty");
    cli.file("twin.yaml", &cli.read("runbook.yaml"));
    cli.run(&["pack", "runbook.yaml", "twin.yaml", "-o", "twins"]).ends(4).says("are both called `tell`");
    assert!(!cli.path("twins").exists());
    let folder = cli.path("stick");
    let elsewhere = cli.dir().join("elsewhere");
    fs::rename(&folder, &elsewhere).expect("another place");
    for name in ["inventory.yaml", "runbook.yaml"] {
        fs::remove_file(cli.path(name)).expect("a file");
    }
    let here = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(args).current_dir(&elsewhere).env_clear().env("PATH", "/usr/bin:/bin").output();
        let output = output.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}");
        said
    };
    here("sha256sum", &["--quiet", "-c", "SHA256SUMS"]);
    here("./runbook", &["check", "runbooks/runbook.yaml", "--strict"]);
    assert!(here("./runbook", &["check", "full-db-loss"]).contains("sound"));
    let readme = fs::read_to_string(elsewhere.join("README.md")).expect("a README");
    assert!(
        readme.contains("./runbook run runbooks/postgres/full-db-loss.yaml -e default -p database=orders"),
        "{readme}"
    );
    for name in ["print/tell.html", "print/full-db-loss.md", "schemas/runbook.schema.json"] {
        assert!(elsewhere.join(name).is_file(), "{name}");
    }
}
