//! Errors of any kind, and their texts.

use std::error::Error;

/// An error of any type that can be sent between threads.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Returns the text of an error followed by those of its sources, joined by `: `.
///
/// A source whose text is already part of the message is left out, since many errors print their source themselves.
pub fn full_message(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        next = source.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn sources_are_told_once() {
        let inner = Layer { text: "refused", source: None };
        let middle = Layer { text: "no connection: refused", source: Some(Box::new(inner)) };
        let outer = Layer { text: "cannot publish", source: Some(Box::new(middle)) };
        assert_eq!(full_message(&outer), "cannot publish: no connection: refused");
    }
}
