//! A value that is never shown.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::HIDDEN;

/// The name under which serializers are told of it.
const NAME: &str = "Secret";

/// An argument, a field of one, or a result that taskq shows nowhere: `Debug` and `Display` print `***`, and no error
/// repeats it.
///
/// It travels and is stored like the value in it, so it can be read in the broker and in the result backend. Nor is it
/// erased from memory, since the message that it came in is not.
///
/// ```
/// use taskq::{Secret, task};
///
/// #[task]
/// pub async fn charge(card: Secret<String>, cents: u32) -> bool {
///     card.expose().starts_with('4') && cents > 0
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let call = charge("4111 1111 1111 1111", 1990); // or a `Secret`
/// # assert_eq!(call.parts().mistake, None);
/// assert!(charge::run(Secret::from("4111 1111 1111 1111".to_owned()), 1990).await);
/// assert_eq!(format!("{:?} {}", Secret::from(7), Secret::from("key")), "*** ***");
/// # }
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Returns the value.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// Returns the value by value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<T: Serialize> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(NAME, &self.0)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for as what it is, so that the error for a field that is absent does not come from the value's type.
        deserializer.deserialize_newtype_struct(NAME, Inside(PhantomData))
    }
}

/// Reads the value in a secret.
struct Inside<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Inside<T> {
    type Value = Secret<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Secret<T>, D::Error> {
        // The error of the value's type may quote the value.
        T::deserialize(deserializer).map(Secret).map_err(|_| D::Error::custom("a secret of another type"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_travels_as_the_value_and_is_shown_nowhere() {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        struct Card {
            number: Secret<String>,
            pin: Option<Secret<u16>>,
        }

        let card = Card { number: "4111".to_owned().into(), pin: Some(7357.into()) };
        let json = serde_json::to_string(&card).expect("it can be written");
        assert_eq!(json, r#"{"number":"4111","pin":7357}"#);
        assert_eq!(serde_json::from_str::<Card>(&json).expect("it is read as it was"), card);
        assert_eq!(format!("{card:?}"), "Card { number: ***, pin: Some(***) }");
        assert_eq!((card.number.to_string(), card.number.expose().as_str()), ("***".to_owned(), "4111"));
        assert_eq!(card.number.into_inner(), "4111");
        for json in [r#"{"number":7357,"pin":null}"#, r#"{"number":"","pin":"7357"}"#, r#"{"number":{"7357":1}}"#] {
            let error = serde_json::from_str::<Card>(json).expect_err("it does not fit").to_string();
            assert!(!error.contains("7357"), "{error}");
        }
    }

    #[test]
    fn what_may_be_absent_still_may() {
        #[derive(Deserialize)]
        struct Card {
            pin: Option<Secret<u16>>,
        }

        #[derive(Deserialize)]
        #[allow(dead_code, reason = "it is never there")]
        struct Pin {
            pin: Secret<u16>,
        }

        assert_eq!(serde_json::from_str::<Card>("{}").expect("it is absent").pin, None);
        let error = serde_json::from_str::<Pin>("{}").err().expect("it has to be there").to_string();
        assert!(error.contains("missing field `pin`"), "{error}");
    }
}
