//! Tests of JSON trees.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn tree(text: &str) -> Tree<'_> {
    Tree::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn numbers_and_texts_stay_as_they_are_written() {
    for text in [
        "0",
        "-0",
        "-0.0",
        "1267650600228229401496703205376",
        "-170141183460469231731687303715884105728",
        "985.6906946328695",
        "5e-324",
        "1.7976931348623157E+308",
        "1e999",
        r#""\u00e9 \ud83d\ude00 \" \\ \/""#,
        r#"[null,true,{"b":[],"a":{}},"é"]"#,
    ] {
        assert_eq!(tree(text).to_json(), text);
        assert_eq!(tree(text).loss(), None, "{text}");
    }
    assert_eq!(tree(" [ 1 ,\n\t{ \"a\" : 2 } ] ").to_json(), r#"[1,{"a":2}]"#);
}

#[test]
fn what_json_has_no_form_for_is_lost_by_name() {
    for (text, json, what) in [
        ("NaN", "null", "NaN"),
        (r#"{"a": [1, -Infinity]}"#, r#"{"a":[1,null]}"#, "-Infinity"),
        ("[Infinity, NaN]", "[null,null]", "Infinity"),
        (r#"["NaN", "\udc80.txt"]"#, r#"["NaN","\ufffd.txt"]"#, "a text that is not Unicode"),
        (r#"{"\ud83d": 1}"#, r#"{"\ufffd":1}"#, "a text that is not Unicode"),
    ] {
        assert_eq!(tree(text).to_json(), json);
        assert_eq!(tree(text).loss().expect(text).what, what);
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "",
        " ",
        "[",
        "]",
        "[1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "\"a",
        "\"\\",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "--1",
        "-",
        "nul",
        "Nan",
        "1 2",
        "[1]]",
        "'a'",
        "0x10",
    ] {
        assert!(Tree::parse(text).is_err(), "{text:?}");
    }
    assert!(Tree::parse(&"[".repeat(100_000)).is_err());
    let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(Tree::parse(&deep(127)).is_ok());
    assert!(Tree::parse(&deep(129)).is_err());
}

#[test]
fn people_read_every_digit() {
    let text =
        r#"[1, -2.5, 18446744073709551615, 1267650600228229401496703205376, 1e999, NaN, "a\u00e9", {"k": null}]"#;
    let expected = json!([
        1,
        -2.5,
        u64::MAX,
        "1267650600228229401496703205376",
        "1e999",
        "NaN",
        "aé",
        {"k": null}
    ]);
    assert_eq!(tree(text).to_value(), expected);
    let pretty = "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}";
    assert_eq!(tree(r#"{"a":[1,{}],"b":[]}"#).to_pretty_json(), pretty);
}

proptest! {
    /// Every value is read back as it was, and lines are broken as serde_json breaks them.
    #[test]
    fn values_round_trip(text in ".*", key in ".*", integer in any::<i128>(), float in any::<f64>().prop_filter("finite", |float| float.is_finite())) {
        let json = format!(
            "[{},{{{}:{}}},{integer},[{},[]]]",
            json!(text), json!(key), json!(float), json!({ "n": float })
        );
        prop_assert_eq!(tree(&json).to_json(), json.clone());
        prop_assert_eq!(tree(&json).loss(), None);
        let value = json!([text, { key: float }]);
        prop_assert_eq!(tree(&value.to_string()).to_value(), value.clone());
        prop_assert_eq!(tree(&value.to_string()).to_pretty_json(), format!("{value:#}"));
    }

    /// A text is JSON here if it is so for `serde_json`, which alone looks into quoted texts.
    #[test]
    fn json_is_what_serde_takes(text in "[\\[\\]{},:\"a\\\\0-9.eE+ tnulrfs-]{0,12}") {
        let serde = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        let ours = Tree::parse(&text).is_ok_and(|tree| serde_json::from_str::<&serde_json::value::RawValue>(&tree.to_json()).is_ok());
        prop_assert_eq!(serde, ours, "{}", text);
    }
}
