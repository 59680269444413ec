//! The values that may stand in a call without a word about their type.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use taskq::{Call, task};

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    items: Vec<Item<String>>,
}

#[derive(Serialize, Deserialize)]
struct Item<T> {
    name: T,
}

#[task]
async fn numbers(_a: i64, _b: f64, _c: u8, _d: i128) {}

#[task]
async fn texts(_a: String, _b: Option<String>, _c: String, _d: Option<String>) {}

#[task]
async fn options(_a: Option<i64>, _b: Option<i64>, _c: Option<Vec<u8>>, _d: Option<Order>) {}

#[task]
async fn lists(_a: Vec<i64>, _b: Vec<String>, _c: [u8; 2], _d: (i64, String)) {}

#[task]
async fn maps(_a: HashMap<String, i64>, _b: serde_json::Value) {}

#[task]
async fn structs(_order: Order, _item: Item<i64>) {}

#[task]
async fn results(_parsed: Option<u16>, _time: std::time::Duration) {}

/// The positional arguments of a call, as JSON text.
fn arguments(call: &Call<()>) -> String {
    assert_eq!(call.parts().mistake, None);
    super::attempts::positional(call)
}

#[test]
fn literals_take_the_type_of_the_parameter() {
    assert_eq!(arguments(&numbers(2, 0.5, 255, -1)), "[2,0.5,255,-1]");
    assert_eq!(arguments(&numbers(-2, -1.0, b'a', 3)), "[-2,-1.0,97,3]");
}

#[test]
fn a_str_is_enough_where_a_string_is_wanted() {
    let owned = String::from("Grace");
    assert_eq!(arguments(&texts("Ada", "Lovelace", &*owned, None)), r#"["Ada","Lovelace","Grace",null]"#);
    assert_eq!(
        arguments(&texts(owned.clone(), Some(owned.clone()), format!("{owned}!"), owned)),
        r#"["Grace","Grace","Grace!","Grace"]"#
    );
}

#[test]
fn an_option_takes_a_value_or_none() {
    let order = Order { id: 7, items: vec![] };
    assert_eq!(arguments(&options(1, None, vec![1, 2], None)), "[1,null,[1,2],null]");
    assert_eq!(arguments(&options(Some(1), Some(2), None, order)), r#"[1,2,null,{"id":7,"items":[]}]"#);
}

#[test]
fn collections_are_found_from_the_inside() {
    assert_eq!(
        arguments(&lists(vec![], vec!["a".to_owned()], [1, 2], (3, "b".to_owned()))),
        r#"[[],["a"],[1,2],[3,"b"]]"#
    );
    assert_eq!(arguments(&lists(vec![1, 2], Vec::new(), *b"ab", (0, String::new()))), r#"[[1,2],[],[97,98],[0,""]]"#);
    assert_eq!(
        arguments(&maps(HashMap::from([("k".into(), 1)]), serde_json::json!({"x": null}))),
        r#"[{"k":1},{"x":null}]"#
    );
}

#[test]
fn structs_and_generic_types_with_concrete_arguments_pass() {
    let order = Order { id: 1, items: vec![Item { name: "pen".to_owned() }] };
    assert_eq!(arguments(&structs(order, Item { name: 3 })), r#"[{"id":1,"items":[{"name":"pen"}]},{"name":3}]"#);
}

#[test]
fn a_question_mark_needs_no_type() -> Result<(), std::num::ParseIntError> {
    let call = results(Some("3".parse()?), std::time::Duration::from_secs(1));
    assert_eq!(arguments(&call), r#"[3,{"secs":1,"nanos":0}]"#);
    Ok(())
}
