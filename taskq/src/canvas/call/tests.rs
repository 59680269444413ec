//! Tests of calls.

use serde_json::{Value, json};

use super::*;

static OPTIONS: TaskOptions = TaskOptions::DEFAULT;

fn call() -> Call<()> {
    Call::new("t", &OPTIONS)
}

fn written(call: &Call<()>) -> String {
    let mut body = Vec::new();
    call.parts().arguments.write_json(&mut body);
    String::from_utf8(body).expect("JSON is UTF-8")
}

#[test]
fn an_argument_that_json_has_no_form_for_is_a_mistake() {
    for call in [
        call().with_arg("rate", &Arg(f64::NAN)),
        call().with_arg("count", &Arg(1)).with_arg("rate", &Arg(vec![Some(f32::INFINITY)])),
    ] {
        let mistake = call.parts().mistake.as_deref().expect("it cannot be sent");
        assert!(mistake.contains("`rate`"), "{mistake}");
    }
    let fine = call().with_arg("rate", &Arg(0.1)).with_arg("none", &Arg(None::<f64>));
    assert_eq!((fine.parts().mistake.as_deref(), written(&fine).as_str()), (None, "[0.1,null],{}"));
}

#[test]
fn raw_arguments_are_sent_as_they_are_written() {
    let raw = |text: &str| serde_json::from_str::<Json>(text).expect("it is JSON");
    let named = BTreeMap::from([("n".to_owned(), raw("1267650600228229401496703205376"))]);
    let list = ArgumentList::from_raw(&[raw("0.10"), raw("[1e2]")], &named);
    assert_eq!(written(&Call::named("t", list)), "[0.10,[1e2]],{\"n\":1267650600228229401496703205376}");
    assert_eq!(written(&Call::named("t", ArgumentList::from_raw(&[], &BTreeMap::new()))), "[],{}");
}

#[test]
fn an_integer_that_amqp_has_no_room_for_is_a_mistake() {
    let largest = json!([i64::MAX, i64::MIN, -0.5, { "a": u32::MAX }]);
    assert_eq!(call().header("h", largest).parts().mistake, None);
    for value in [Value::from(u64::MAX), json!([1, { "a": i64::MAX as u64 + 1 }])] {
        let call = call().header("h", value);
        let mistake = call.parts().mistake.as_deref().expect("it would become a float");
        assert!(mistake.contains("\"h\"") && mistake.contains("9223372036854775807"), "{mistake}");
    }
}
