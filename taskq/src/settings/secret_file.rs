//! Secrets in files of their own, as containers mount them: a variable such as `TASKQ_BROKER_URL_FILE` names the file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::{ConfigError, Origin};

/// The largest file that is read. Lists of keys take some hundred bytes.
const BYTES_MAX: u64 = 64 << 10;

/// Reads the value of `key` from the file at `path`, which `variable` names. Many editors and `echo` end a file with
/// a line break, so one of those is no part of it.
pub(super) fn read(key: &str, variable: &str, path: &Path) -> Result<String, ConfigError> {
    let wrong = |why: String| {
        let direct = variable.strip_suffix("_FILE").unwrap_or(variable);
        let remedy = format!("name a file with the value of `{key}` that this user may read, or set {direct}");
        let origin = Origin::FileOfVariable { variable: variable.to_owned(), path: path.to_owned() };
        Err(ConfigError::new(origin, format!("{why}; {remedy}")))
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    match read.map(|_| value(bytes)) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(why)) => wrong(why.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => wrong("this is a folder".to_owned()),
        Err(error) => wrong(format!("cannot be read: {error}")),
    }
}

/// The value in a file with this content, or its fault. The content is not repeated.
fn value(bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.len() as u64 > BYTES_MAX {
        return Err("the file is too large for it");
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is no text (UTF-8)")?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    // Nothing would stand for the default, which is another broker.
    if text.is_empty() { Err("the file is empty") } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_is_no_part_of_it() {
        for (content, expected) in [
            ("amqp://h", Ok("amqp://h")),
            ("amqp://h\n", Ok("amqp://h")),
            ("amqp://h\r\n", Ok("amqp://h")),
            ("amqp://h\n\n", Ok("amqp://h\n")),
            (" amqp://h ", Ok(" amqp://h ")),
            ("", Err("the file is empty")),
            ("\n", Err("the file is empty")),
        ] {
            assert_eq!(value(content.into()), expected.map(str::to_owned), "{content:?}");
        }
        assert_eq!(value(vec![0xa3]), Err("the file is no text (UTF-8)"));
        assert_eq!(value(vec![b'x'; 64 << 10]).map(|text| text.len()), Ok(64 << 10));
        assert_eq!(value(vec![b'x'; (64 << 10) + 1]), Err("the file is too large for it"));
    }
}
