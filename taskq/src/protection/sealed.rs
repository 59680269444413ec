//! Arguments that only those who have a key can read.
//!
//! The whole body is encrypted, with what follows the task in it, by XChaCha20-Poly1305
//! (<https://datatracker.ietf.org/doc/html/draft-irtf-cfrg-xchacha-03>). The id and the name of the task are
//! authenticated with it, so that arguments cannot be moved to another task. Retries and dead letters pass the body on
//! as it is.
//!
//! The sealed body is a byte for the version (1), the length of the key's id as a byte, the id, a nonce of 24 bytes,
//! and the ciphertext. What is encrypted is the content type, a line break, the content encoding, a line break, and the
//! body.

use crate::message::{Payload, TaskId};

use super::keys::SealingKeys;

/// The content type of a sealed body.
pub(crate) const SEALED: &str = "application/x-taskq-sealed";

#[cfg(feature = "crypto")]
const VERSION: u8 = 1;

/// The reason why arguments cannot be sealed, or sealed arguments not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealFault {
    #[error("the arguments of this task are sealed, and there is no key to seal them with; set `sealing_keys`")]
    NoKey,
    #[error("its arguments are not sealed, and the task takes sealed ones only")]
    NotSealed,
    #[error("its sealed arguments are not of a form that this version reads")]
    Form,
    #[error("its arguments are sealed with the key {id:?}, which is not among `sealing_keys`")]
    UnknownKey { id: String },
    #[error("its sealed arguments cannot be opened: they were altered, or are those of another task")]
    Altered,
}

/// The bytes that are authenticated with the arguments of a task.
#[cfg(feature = "crypto")]
fn associated(id: &TaskId, task: &str) -> Vec<u8> {
    format!("taskq-sealed-1:{}:{}{task}", id.as_str().len(), id.as_str()).into_bytes()
}

/// Seals the arguments of a task.
#[cfg(feature = "crypto")]
pub(crate) fn seal(payload: &Payload, id: &TaskId, task: &str, keys: &SealingKeys) -> Result<Payload, SealFault> {
    use chacha20poly1305::aead::{Aead, Payload as Message};
    use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

    let (key_id, key) = keys.first().ok_or(SealFault::NoKey)?;
    let head = format!("{}\n{}\n", payload.content_type, payload.content_encoding);
    let plain = [head.as_bytes(), &payload.body].concat();
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).expect("every supported system has random numbers");
    let cipher = XChaCha20Poly1305::new_from_slice(key).expect("the size was checked when the key was read");
    let message = Message { msg: &plain, aad: &associated(id, task) };
    let sealed = cipher.encrypt(&XNonce::from(nonce), message).expect("a body is far below the limit of the cipher");
    let id_size = u8::try_from(key_id.len()).expect("the size was checked when the key was read");
    Ok(Payload {
        content_type: SEALED.into(),
        content_encoding: "binary".into(),
        compression: None,
        body: [&[VERSION, id_size][..], key_id.as_bytes(), &nonce, &sealed].concat().into(),
    })
}

/// Opens the sealed arguments of a task.
#[cfg(feature = "crypto")]
pub(crate) fn open(payload: &Payload, id: &TaskId, task: &str, keys: &SealingKeys) -> Result<Payload, SealFault> {
    use chacha20poly1305::aead::{Aead, Payload as Message};
    use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

    let Some((&[VERSION, id_size], rest)) = payload.body.split_first_chunk() else { return Err(SealFault::Form) };
    let (key_id, rest) = rest.split_at_checked(usize::from(id_size)).ok_or(SealFault::Form)?;
    let key_id = str::from_utf8(key_id).map_err(|_| SealFault::Form)?;
    let (nonce, sealed) = rest.split_first_chunk::<24>().ok_or(SealFault::Form)?;
    let key = keys.get(key_id).ok_or_else(|| SealFault::UnknownKey { id: key_id.chars().take(40).collect() })?;
    let cipher = XChaCha20Poly1305::new_from_slice(key).expect("the size was checked when the key was read");
    let message = Message { msg: sealed, aad: &associated(id, task) };
    let mut plain = cipher.decrypt(&XNonce::from(*nonce), message).map_err(|_| SealFault::Altered)?;
    let mut line = || {
        let end = plain.iter().position(|byte| *byte == b'\n').ok_or(SealFault::Form)?;
        let line = String::from_utf8(plain[..end].to_vec()).map_err(|_| SealFault::Form)?;
        plain.drain(..=end);
        Ok::<_, SealFault>(line)
    };
    let (content_type, content_encoding) = (line()?, line()?);
    if content_type == SEALED {
        return Err(SealFault::Form);
    }
    Ok(Payload {
        content_type: content_type.into(),
        content_encoding: content_encoding.into(),
        compression: None,
        body: plain.into(),
    })
}

/// Without the feature there are no keys.
#[cfg(not(feature = "crypto"))]
pub(crate) fn seal(_: &Payload, _: &TaskId, _: &str, _: &SealingKeys) -> Result<Payload, SealFault> {
    Err(SealFault::NoKey)
}

/// Without the feature there are no keys.
#[cfg(not(feature = "crypto"))]
pub(crate) fn open(_: &Payload, _: &TaskId, _: &str, _: &SealingKeys) -> Result<Payload, SealFault> {
    Err(SealFault::Form)
}

#[cfg(all(test, feature = "crypto"))]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn keys(text: &str) -> SealingKeys {
        SealingKeys::parse(text).expect("they are keys")
    }

    fn id(text: &str) -> TaskId {
        TaskId::parse(text).expect("it is one")
    }

    fn payload() -> Payload {
        Payload {
            content_type: "application/json".into(),
            content_encoding: "utf-8".into(),
            compression: None,
            body: b"[[\"4111 1111\"],\n{},null]".as_slice().into(),
        }
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_key_alone() {
        let (one, two) = (keys(&format!("one:{KEY}")), keys(&format!("two:{KEY},one:{KEY}")));
        let sealed = seal(&payload(), &id("a"), "pay", &one).expect("there is a key");
        assert!(!sealed.body.windows(4).any(|bytes| bytes == b"4111"));
        assert_ne!(sealed, seal(&payload(), &id("a"), "pay", &one).expect("there is a key"), "each has its nonce");
        for keys in [&one, &two] {
            assert_eq!(open(&sealed, &id("a"), "pay", keys), Ok(payload()));
        }
        let other = keys(&format!("one:{}", KEY.replace("AAEC", "BBBB")));
        assert_eq!(open(&sealed, &id("a"), "pay", &other), Err(SealFault::Altered));
        assert_eq!(open(&sealed, &id("b"), "pay", &one), Err(SealFault::Altered));
        assert_eq!(open(&sealed, &id("a"), "refund", &one), Err(SealFault::Altered));
        assert_eq!(
            open(&sealed, &id("a"), "pay", &SealingKeys::default()),
            Err(SealFault::UnknownKey { id: "one".into() })
        );
        assert_eq!(seal(&payload(), &id("a"), "pay", &SealingKeys::default()), Err(SealFault::NoKey));
    }

    #[test]
    fn each_byte_counts() {
        let one = keys(&format!("one:{KEY}"));
        let sealed = seal(&payload(), &id("a"), "pay", &one).expect("there is a key");
        for at in 0..sealed.body.len() {
            let mut bytes = sealed.body.to_vec();
            bytes[at] ^= 1;
            let altered = Payload { body: bytes.into(), ..sealed.clone() };
            assert!(open(&altered, &id("a"), "pay", &one).is_err(), "byte {at}");
            let cut = Payload { body: sealed.body.slice(..at), ..sealed.clone() };
            assert!(open(&cut, &id("a"), "pay", &one).is_err(), "{at} bytes");
        }
    }
}
