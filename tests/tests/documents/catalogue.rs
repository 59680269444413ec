//! The catalogue of failures and the guides name tests that exist.

use serde_json::Value;
use taskq_tests::harness::repository;

/// Checks that a source file of the repository has a test; `row` names it.
fn assert_test(row: &str, file: &str, name: &str) {
    let source = std::fs::read_to_string(repository().join(file));
    let source = source.unwrap_or_else(|error| panic!("{row}: {file}: {error}"));
    assert!(source.contains(&format!("fn {name}(")), "{row}: {file} has no test {name}");
}

#[test]
fn every_test_of_the_catalogue_exists() {
    let text = std::fs::read_to_string(repository().join("tests/guarantees/catalogue.json")).expect("it is there");
    let rows: Vec<Value> = serde_json::from_str(&text).expect("it is a list of rows");
    let mut tests = 0;
    for row in rows {
        let Some([file, name]) = row["test"].as_array().map(Vec::as_slice) else { continue };
        let (file, name) = (file.as_str().expect("a path"), name.as_str().expect("a name"));
        assert_test(&row["id"].to_string(), file, name);
        tests += 1;
    }
    assert!(tests > 0, "the catalogue has rows that are tests");
}

/// Each class of attacks that the guide to security lists is held by a test.
#[test]
fn every_test_of_the_guide_to_security_exists() {
    let guide = std::fs::read_to_string(repository().join("docs/security.md")).expect("it is there");
    let (_, table) = guide.split_once("| held by |\n").expect("the guide has the table");
    let rows: Vec<&str> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    for row in &rows {
        let held_by = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let parts: Vec<&str> = held_by.split('`').collect();
        let [_, name, " in ", file, _] = parts[..] else { panic!("no test: {row}") };
        assert_test(row, file, name);
    }
    assert!(rows.len() >= 6, "{} rows", rows.len());
}
