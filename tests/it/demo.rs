//! The demo, as people play it.

use std::path::Path;

use crate::support::cli::{Cli, processes_of};

#[test]
fn the_demo_brings_a_destroyed_cluster_back_and_leaves_only_its_history() {
    let cli = Cli::new();
    let ran = cli.run(&["demo", "--scale", "5"]).ends(0).says("DISASTER");
    let said = format!("{}{}", ran.out, ran.err);
    let equal = said.lines().filter(|line| line.trim_end().ends_with("equal")).count();
    assert_eq!(equal, 4, "{said}");
    assert!(!said.contains("DIFFERENT"), "{said}");
    let home = &said[said.find("/var/tmp/rbdemo").expect("the demo names its folder")..];
    let end = home["/var/tmp/".len()..].find(|c: char| !c.is_ascii_alphanumeric()).expect("more words");
    let home = Path::new(&home[.."/var/tmp/".len() + end]);
    assert!(!home.exists(), "{} is left", home.display());
    let running = processes_of(home);
    assert!(running.is_empty(), "{running:#?}");
    assert_eq!(cli.runs().len(), 2);
    cli.run(&["audit", "verify", "all"]).ends(0);
    cli.run(&["report", "last", "--html"]).ends(0).prints("full-db-loss");
}

#[test]
fn a_folder_that_the_demo_did_not_make_is_never_removed() {
    let cli = Cli::with("version: 1\n");
    let kept = cli.file("precious/data", "x");
    let home = kept.parent().unwrap().to_string_lossy().into_owned();
    cli.run(&["demo", "--home", &home]).ends(2).says("not a folder that the demo made");
    assert!(kept.exists());
}
