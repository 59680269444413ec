//! `docs/configuration.md` tells of every setting and every flag of the worker, with the defaults that they have.

use std::collections::BTreeMap;

use taskq::settings::{SettingReport, Settings};
use taskq_tests::harness::{App, repository};

/// The cells of the tables below a heading, rows by their first cell. Headers and the lines under them are none.
fn table(file: &str, heading: &str) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(repository().join(file)).expect("the document is there");
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect("it has this heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<String> = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        (cells[0].clone(), cells[1..].to_vec())
    });
    rows.collect()
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Every key has a row, every row is a key, and its default is the one that holds.
fn assert_settings(rows: &BTreeMap<String, Vec<String>>, file: &str) {
    let report = Settings::default().report();
    for SettingReport { key, value, .. } in &report {
        let row = rows.get(&code(key)).unwrap_or_else(|| panic!("{file} does not tell of `{key}`"));
        // What this is by default depends on the broker, which takes a sentence.
        if !["result_url", "beat_store"].contains(key) {
            assert_eq!(row[0], code(value), "{file}: the default of `{key}`");
        }
    }
    let known = |row: &&String| report.iter().any(|setting| **row == code(setting.key));
    assert_eq!(rows.keys().find(|row| !known(row)), None, "{file} tells of a setting that is not there");
}

#[test]
fn every_setting_has_its_row() {
    let rows = table("docs/configuration.md", "Settings");
    assert_settings(&rows, "docs/configuration.md");
    for (key, row) in &rows {
        let variable = format!("`TASKQ_{}", key.trim_start_matches('`').to_uppercase());
        assert_eq!(row[1], variable, "the variable of {key}");
    }
}

/// The flags that `--help` names below a heading, with their defaults.
fn flags(help: &str, heading: &str) -> BTreeMap<String, Option<String>> {
    let (_, section) = help.split_once(&format!("\n{heading}:\n")).unwrap_or_else(|| panic!("{help}"));
    let mut flags: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut last = None;
    // The next heading begins at the left.
    for line in section.lines().take_while(|line| line.is_empty() || line.starts_with(' ')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let names: Vec<&str> = words.iter().copied().take_while(|word| word.starts_with('-')).collect();
        if !names.is_empty() && names != ["-h,", "--help"] {
            let shown: Vec<String> = names.iter().map(|name| code(name.trim_end_matches(','))).collect();
            last = Some(shown.join(", "));
            flags.insert(shown.join(", "), None);
        }
        if let (Some(flag), Some((_, rest))) = (&last, line.split_once("[default: ")) {
            flags.insert(flag.clone(), rest.strip_suffix(']').map(str::to_owned));
        }
    }
    flags
}

#[test]
fn every_flag_of_the_worker_has_its_row() {
    let help = App::new(env!("CARGO_BIN_EXE_shop")).run(&["worker", "--help"]).expect_exit(0).stdout;
    let own = flags(&help, "Options");
    let everywhere = flags(&help, "Everywhere");
    assert!(own.contains_key("`-c`, `--concurrency`") && everywhere.contains_key("`--json`"), "{own:?} {everywhere:?}");
    let rows = table("docs/configuration.md", "The worker");
    let expected: Vec<&String> = rows.keys().collect();
    let mut found: Vec<&String> = own.keys().chain(everywhere.keys()).collect();
    found.sort();
    assert_eq!(found, expected, "the flags that there are, and those that docs/configuration.md tells of");
    for (flag, default) in own {
        if let Some(default) = default {
            assert_eq!(rows[&flag][0].replace('`', ""), default, "the default of {flag}");
        }
    }
}
