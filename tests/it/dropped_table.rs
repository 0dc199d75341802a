//! `runbook wal search` for a dropped table whose rows, or the WAL before it, are not all there to be read.

use std::fs;

use serde_json::Value;

use crate::pitr_plan::Asked;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A cluster that makes no checkpoint unasked: pages are in the WAL as a whole once only.
fn quiet() -> Asked {
    Asked::with(&[("max_wal_size", "8GB"), ("checkpoint_timeout", "1h")])
}

/// Lets the segment end that is written to, and some more with a commit in each; gives a time behind them.
fn move_on(asked: &Asked, from: u32) -> String {
    for n in from..from + 5 {
        asked.commit(n);
        asked.sql("SELECT pg_switch_wal()");
    }
    asked.commit(from + 5).to_string()
}

/// Waits until what was written is archived, without a checkpoint.
fn archive_quietly(asked: &Asked) {
    let last = asked.current();
    asked.sql("SELECT pg_switch_wal()");
    let archived = format!("SELECT coalesce(last_archived_wal, '') >= '{last}' FROM pg_stat_archiver");
    assert!((0..3000).any(|_| asked.sql(&archived) == "t"), "`{last}` is not archived");
}

fn drops(asked: &Asked, from: &str) -> Value {
    asked.json(&["wal", "search", "main", "--drops", "--between", from, "now"], 0)
}

#[test]
fn a_dropped_table_is_found_where_its_row_moved_to_another_page_first_and_the_search_begins_behind_the_old_one() {
    let asked = quiet();
    asked.sql("CREATE TABLE checked (n int CHECK (n > 0)); CREATE TABLE plain (n int); CREATE TABLE moved (n int)");
    // What was replaced makes room, and other tables take it: their page is full.
    asked.sql("VACUUM pg_class");
    asked.sql("DO $$ BEGIN FOR i IN 1..400 LOOP EXECUTE 'CREATE TABLE filler_' || i || ' (n int)'; END LOOP; END $$");
    let page = "SELECT (ctid::text::point)[0] FROM pg_class WHERE relname LIKE 'moved%'";
    let pages = asked.sql(&format!("{page}; BEGIN; ALTER TABLE moved RENAME TO moved_on; {page}; ROLLBACK"));
    let pages: Vec<&str> = pages.lines().collect();
    assert!(pages.len() == 2 && pages[0] != pages[1], "the page has room for a row that is replaced: {pages:?}");
    // The DROP of a table with such a constraint replaces its row before it deletes it.
    let begin = move_on(&asked, 100);
    archive_quietly(&asked);
    let oid = asked.sql("SELECT 'checked'::regclass::oid");
    asked.sql("BEGIN; ALTER TABLE moved RENAME TO moved_on; DROP TABLE moved_on; DROP TABLE checked; COMMIT");
    let found = drops(&asked, &begin);
    assert_eq!(found["found"].as_array().unwrap().len(), 1, "{found:#}");
    let words = text(&found["found"][0]["words"]);
    assert!(words.contains(": table public.checked (") && words.contains(", table public.moved ("), "{words}");
    // By the name that the table has in the copy.
    let only = text(found["found"][0]["commands"].as_array().unwrap().last().unwrap());
    assert!(only.contains("accidental-drop") && only.contains("tables=public.moved,public.checked"), "{only}");
    let by_number = asked.json(&["wal", "search", "main", "--relation", &oid, "--between", &begin, "now"], 0);
    assert_eq!(by_number["found"][0]["what"], "dropped", "{by_number:#}");
    assert_eq!(by_number["found"][0]["lsn"], found["found"][0]["lsn"]);
}

#[test]
fn what_was_dropped_is_found_although_the_wal_that_has_its_name_is_damaged() {
    let asked = quiet();
    asked.site.archive();
    asked.sql("CREATE TABLE named (n int)");
    move_on(&asked, 100);
    let damaged = asked.current();
    move_on(&asked, 200);
    let begin = move_on(&asked, 300);
    archive_quietly(&asked);
    let path = asked.object(&damaged);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    // Its row is in front of the damaged segment.
    let oid = asked.sql("SELECT 'named'::regclass::oid");
    asked.sql("DROP TABLE named");
    let found = drops(&asked, &begin);
    assert_eq!(found["found"].as_array().unwrap().len(), 1, "{found:#}");
    let words = text(&found["found"][0]["words"]);
    assert!(words.contains(&format!("{oid} (no source knows its name)")), "{words}");
    let note = found["notes"].as_array().unwrap().iter().map(text).find(|note| note.contains("not looked for"));
    let note = note.unwrap_or_else(|| panic!("{found:#}"));
    assert!(note.starts_with("names were not looked for in the WAL before `") && note.contains(&damaged), "{note}");
    // What is behind it is looked through all the same, and then there is nothing to note.
    asked.sql("CREATE TABLE behind (n int)");
    let begin = move_on(&asked, 400);
    asked.sql("DROP TABLE behind");
    let found = drops(&asked, &begin);
    assert!(text(&found["found"][0]["words"]).contains(": table public.behind ("), "{found:#}");
    assert!(!found["notes"].to_string().contains("not looked for"), "{found:#}");
}
