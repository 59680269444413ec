//! Conversion of AMQP table values to JSON. Every AMQP type has a sensible counterpart, whichever client wrote it.

use lapin::types::AMQPValue;
use serde_json::{Map, Value};

/// Converts a value of a header table to JSON.
pub(super) fn from_value(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Void => Value::Null,
        AMQPValue::Boolean(flag) => Value::Bool(*flag),
        AMQPValue::ShortShortInt(int) => Value::from(*int),
        AMQPValue::ShortShortUInt(int) => Value::from(*int),
        AMQPValue::ShortInt(int) => Value::from(*int),
        AMQPValue::ShortUInt(int) => Value::from(*int),
        AMQPValue::LongInt(int) => Value::from(*int),
        AMQPValue::LongUInt(int) => Value::from(*int),
        AMQPValue::LongLongInt(int) => Value::from(*int),
        AMQPValue::Timestamp(seconds) => Value::from(*seconds),
        // JSON has no NaN and no infinity; they become null.
        AMQPValue::Float(float) => Value::from(f64::from(*float)),
        AMQPValue::Double(float) => Value::from(*float),
        AMQPValue::DecimalValue(decimal) => {
            Value::from(f64::from(decimal.value) / 10f64.powi(i32::from(decimal.scale)))
        }
        AMQPValue::ShortString(text) => Value::from(text.as_str()),
        AMQPValue::LongString(text) => Value::from(String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::ByteArray(bytes) => Value::from(String::from_utf8_lossy(bytes.as_slice())),
        AMQPValue::FieldArray(items) => Value::Array(items.as_slice().iter().map(from_value).collect()),
        AMQPValue::FieldTable(table) => {
            let map: Map<String, Value> =
                table.into_iter().map(|(key, value)| (key.to_string(), from_value(value))).collect();
            Value::Object(map)
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::DecimalValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_type_means_something() {
        for (value, expected) in [
            (AMQPValue::ShortShortInt(-1), json!(-1)),
            (AMQPValue::ShortShortUInt(255), json!(255)),
            (AMQPValue::ShortInt(-300), json!(-300)),
            (AMQPValue::ShortUInt(60_000), json!(60_000)),
            (AMQPValue::LongUInt(u32::MAX), json!(u32::MAX)),
            (AMQPValue::LongLongInt(i64::MIN), json!(i64::MIN)),
            (AMQPValue::Timestamp(1_795_226_686), json!(1_795_226_686)),
            (AMQPValue::Float(0.5), json!(0.5)),
            (AMQPValue::Double(f64::NAN), json!(null)),
            (AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 150 }), json!(1.5)),
            (AMQPValue::ShortString("s".into()), json!("s")),
            (AMQPValue::LongString(vec![0xff_u8, b'a'].into()), json!("\u{fffd}a")),
            (AMQPValue::ByteArray(b"bytes".to_vec().into()), json!("bytes")),
        ] {
            assert_eq!(from_value(&value), expected, "{value:?}");
        }
    }
}
