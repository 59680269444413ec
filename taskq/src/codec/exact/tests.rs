//! Tests of exact decoding: what has big integers is decoded here, and everything else by `serde_json`; the two agree.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use proptest::prelude::*;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;

const BIG: &str = "1267650600228229401496703205376";

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
enum Shape {
    Unit,
    Newtype(u128),
    Tuple(i128, f64),
    Struct { size: Option<u128> },
}

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
struct Wrapped(u128);

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
struct Order {
    total: i128,
    rate: f32,
    shapes: Vec<Shape>,
    #[serde(default)]
    by_key: BTreeMap<i128, Option<Wrapped>>,
    flags: HashMap<bool, char>,
    pair: (u8, String),
    nothing: (),
}

/// Decodes from the tree, whether or not that is necessary.
fn from_tree<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    T::deserialize(&Tree::parse(json).expect("it is JSON")).map_err(|error| error.to_string())
}

fn agrees<T: DeserializeOwned + PartialEq + Debug>(json: &str) {
    let serde = serde_json::from_str::<T>(json);
    let ours = from_tree::<T>(json);
    assert_eq!(ours.is_ok(), serde.is_ok(), "{json}: {ours:?} and {serde:?}");
    if let (Ok(ours), Ok(serde)) = (ours, serde) {
        assert_eq!(ours, serde, "{json}");
    }
}

#[test]
fn a_big_integer_is_exact_or_refused_by_name() {
    assert_eq!(from_json::<u128>(BIG).expect("it has room"), 1 << 100);
    assert_eq!(
        from_json::<Vec<Option<i128>>>(&format!("[null, -{BIG}]")).expect("it has room"),
        [None, Some(-(1 << 100))]
    );
    assert_eq!(from_json::<Box<RawValue>>(BIG).expect("it is kept").get(), BIG);
    let kept: BTreeMap<String, Box<RawValue>> = from_json(&format!("{{\"a\": [{BIG}, 0.10]}}")).expect("it is kept");
    assert_eq!(kept["a"].get(), format!("[{BIG},0.10]"));
    assert_eq!(from_json::<f64>(BIG).expect("the nearest float").to_bits(), 2_f64.powi(100).to_bits());
    for json in [
        BIG.to_owned(),
        format!("[1, {{\"a\": -{BIG}}}]"),
        "18446744073709551616".into(),
        "-9223372036854775809".into(),
    ] {
        let error = from_json::<Value>(&json).expect_err("a value has no room").to_string();
        assert!(error.contains("more than 64 bits") && error.contains("u128"), "{json}: {error}");
    }
    assert!(from_json::<u64>(BIG).is_err() && from_json::<String>(BIG).is_err());
    // In a text, or with a fraction, it is no integer.
    for json in
        [format!("[\"{BIG}\"]"), format!("{BIG}.5"), "18446744073709551615".into(), "-9223372036854775808".into()]
    {
        let expected = serde_json::from_str::<Value>(&json).expect("it is JSON");
        assert_eq!(from_json::<Value>(&json).expect("it has room"), expected);
    }
}

/// A type that quotes the value.
#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "String")]
struct Card;

impl TryFrom<String> for Card {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Err(format!("{text} is no card"))
    }
}

#[test]
fn errors_do_not_repeat_the_value() {
    fn why<T: DeserializeOwned + Debug>(json: &str) -> String {
        from_json::<T>(json).expect_err(json).to_string()
    }

    for (told, expected) in [
        (why::<u32>("\"4111\""), "invalid type: a text of 4 characters, expected u32 at line 1 column 6"),
        (why::<u8>("4111"), "invalid value: an integer, expected u8 at line 1 column 4"),
        (why::<i128>("\"4111\""), " at line 1 column 1"),
        (why::<u128>("-4111"), " at line 1 column 1"),
        (why::<Vec<bool>>("[true, 4.111]"), "invalid type: a float, expected a boolean at line 1 column 12"),
        (why::<(u8, u8)>("[1]"), "invalid length 1, expected a tuple of size 2 at"),
        (why::<Shape>("\"4111\""), "unknown variant, expected `Unit`, `Newtype`, `Tuple`, `Struct` at"),
        (why::<Shape>("4111"), "an enum: a text, or a map with one key"),
        (why::<Order>("{\"total\": 4111}"), "missing field `rate` at"),
        (why::<Card>("\"4111\""), "the type refuses it (why is not repeated here: it may quote the value)"),
        (why::<BTreeMap<u8, u8>>("{\"4111\": 1}"), "expected u8 at"),
        (why::<Value>(&format!("[4111, {BIG}]")), "an integer of more than 64 bits, expected a smaller one"),
        (why::<u8>(&format!("4111{BIG}")), "invalid value: an integer of more than 64 bits, expected"),
        (why::<u16>("4111 x"), "trailing characters at line 1 column 6"),
    ] {
        assert!(told.contains(expected) && !told.contains("4111"), "{told} in place of {expected}");
    }
}

#[test]
fn only_long_rows_of_digits_are_looked_at() {
    for (json, may) in [
        ("", false),
        ("123456789012345678", false),
        ("1234567890123456789", true),
        ("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]", false),
        ("   1234567890123456789", true),
        ("xxxxxxxxxxxxxxxxxx123456789012345678x", false),
        ("xxxxxxxxxxxxxxxxxx1234567890123456789x", true),
    ] {
        assert_eq!(may_hold_big_integer(json.as_bytes()), may, "{json}");
    }
}

#[test]
fn every_type_is_decoded_as_serde_json_does() {
    let order = Order {
        total: i128::MIN,
        rate: 0.1,
        shapes: vec![Shape::Unit, Shape::Newtype(u128::MAX), Shape::Tuple(-1, 1.5), Shape::Struct { size: Some(7) }],
        by_key: BTreeMap::from([(i128::MAX, Some(Wrapped(1))), (-5, None)]),
        flags: HashMap::from([(true, 'é')]),
        pair: (255, "a\"\u{1f600}".to_owned()),
        nothing: (),
    };
    let json = serde_json::to_string(&order).expect("it can be written");
    assert_eq!(from_json::<Order>(&json).expect("our own"), order);
    agrees::<Order>(&json);
    for json in [
        "{}",
        "[]",
        "null",
        "1",
        "\"Unit\"",
        "{\"Newtype\":1}",
        "{\"Newtype\":1,\"Unit\":2}",
        "{\"Struct\":{}}",
        "[1,2,3]",
        "true",
    ] {
        agrees::<Order>(json);
        agrees::<Shape>(json);
        agrees::<Wrapped>(json);
        agrees::<Option<(u8, f32)>>(json);
        agrees::<(u8, u8, u8)>(json);
        agrees::<Vec<u8>>(json);
        agrees::<BTreeMap<u8, Value>>(json);
        agrees::<()>(json);
    }
    agrees::<BTreeMap<u8, u8>>("{\"1\":2,\"x\":3}");
    agrees::<BTreeMap<u8, u8>>("{\"1\":2,\"3\":4}");
    agrees::<f32>("0.1");
    agrees::<f32>("16777217");
    agrees::<i8>("128");
    agrees::<f64>("1e999");
}

proptest! {
    #[test]
    fn numbers_agree_with_serde_json(text in "-?[1-9][0-9]{0,45}", fraction in proptest::option::of("\\.[0-9]{1,3}(e-?[0-9]{1,2})?")) {
        let json = format!("{text}{}", fraction.unwrap_or_default());
        agrees::<i128>(&json);
        agrees::<u128>(&json);
        agrees::<f64>(&json);
        agrees::<i64>(&json);
    }
}
