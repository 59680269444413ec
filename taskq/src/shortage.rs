//! A process that has run out of file descriptors. The errors of that come from everywhere, and look like missing
//! rights or absent servers; here they are told apart, with their remedy.

use std::error::Error;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// The remedy for a process without descriptors.
pub const REMEDY: &str = "raise the limit of open files (`ulimit -n`, LimitNOFILE= of systemd)";

/// The number of descriptors without which not even a small program gets anywhere: those of a runtime, and of a file
/// with its log.
const DESCRIPTORS_MIN: usize = 16;

/// The numbers of the errors "too many open files" of a process and of the system; equal on all Unixes.
const NO_DESCRIPTORS: [i32; 2] = [24, 23];

/// An error in the form in which libraries share it.
type SharedError = Arc<dyn Error + Send + Sync>;

/// Returns whether an error, or one of its causes, says that there are no more descriptors.
pub fn is_cause_of(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // Neither what an I/O error carries nor what is shared counts as its source.
        let is_here = match (error.downcast_ref::<io::Error>(), error.downcast_ref::<SharedError>()) {
            (Some(error), _) => is_shortage(error) || error.get_ref().is_some_and(|inner| is_cause_of(inner)),
            (None, Some(shared)) => is_cause_of(&**shared),
            (None, None) => false,
        };
        if is_here {
            return true;
        }
        next = error.source();
    }
    false
}

fn is_shortage(error: &io::Error) -> bool {
    cfg!(unix) && error.raw_os_error().is_some_and(|number| NO_DESCRIPTORS.contains(&number))
}

/// Fails, with the remedy, unless this process may open a few more files.
pub fn require_descriptors() -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let opened: io::Result<Vec<File>> = (0..DESCRIPTORS_MIN).map(|_| File::open("/dev/null")).collect();
    match opened {
        Err(error) if is_shortage(&error) => Err(io::Error::new(error.kind(), format!("{error}; {REMEDY}"))),
        // Whatever else is wrong with that file is no shortage.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it failed")]
    struct Outer(#[source] io::Error);

    #[test]
    #[cfg(unix)]
    fn a_shortage_is_found_among_the_causes() {
        let of_process = || io::Error::from_raw_os_error(24);
        assert!(is_cause_of(&of_process()));
        assert!(is_cause_of(&io::Error::from_raw_os_error(23)));
        assert!(is_cause_of(&Outer(of_process())));
        assert!(is_cause_of(&io::Error::other(of_process())));
        assert!(is_cause_of(&io::Error::other(Outer(of_process()))));
        let shared: SharedError = Arc::new(of_process());
        assert!(is_cause_of(&shared));
        assert!(!is_cause_of(&Outer(io::ErrorKind::PermissionDenied.into())));
        assert!(!is_cause_of(&io::Error::from_raw_os_error(13)));
        require_descriptors().expect("this process may open files");
    }
}
