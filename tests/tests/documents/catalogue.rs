//! The catalogue of failures names tests that exist.

use serde_json::Value;
use taskq_tests::harness::repository;

#[test]
fn every_test_of_the_catalogue_exists() {
    let text = std::fs::read_to_string(repository().join("tests/guarantees/catalogue.json")).expect("it is there");
    let rows: Vec<Value> = serde_json::from_str(&text).expect("it is a list of rows");
    let mut tests = 0;
    for row in rows {
        let Some([file, name]) = row["test"].as_array().map(Vec::as_slice) else { continue };
        let (file, name) = (file.as_str().expect("a path"), name.as_str().expect("a name"));
        let source = std::fs::read_to_string(repository().join(file))
            .unwrap_or_else(|error| panic!("row {}: {file}: {error}", row["id"]));
        assert!(source.contains(&format!("fn {name}(")), "row {}: {file} has no test {name}", row["id"]);
        tests += 1;
    }
    assert!(tests > 0, "the catalogue has rows that are tests");
}
