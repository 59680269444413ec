//! The stdout and stderr of a process that runs tasks, once nobody reads them any more.
//!
//! `println!` panics where its reader has gone away (`worker | head -1`), and a task that prints would fail. What is
//! written to such a stream is lost in any case, so the null device takes its place.

use std::io;

use crate::supervise::unix::{self, OutputStream};

/// The stack of the thread that watches, in bytes; it makes a system call and writes a line of the log.
const STACK_BYTES: usize = 128 << 10;

/// Replaces stdout and stderr when their readers go away, from now on. When this returns, it has been done for those
/// whose readers have gone already.
pub(super) fn replace_when_unread() -> io::Result<()> {
    let mut watched = vec![OutputStream::Stdout, OutputStream::Stderr];
    let unread = unix::unread_now(&watched)?;
    replace(&mut watched, unread);
    let thread = std::thread::Builder::new().name("taskq-streams".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(move || {
        while !watched.is_empty() {
            match unix::wait_until_unread(&watched) {
                Ok(unread) => replace(&mut watched, unread),
                Err(error) => {
                    tracing::debug!(%error, "whether stdout and stderr are read cannot be known");
                    return;
                }
            }
        }
    })?;
    Ok(())
}

fn replace(watched: &mut Vec<OutputStream>, unread: Vec<OutputStream>) {
    watched.retain(|stream| !unread.contains(stream));
    for stream in unread {
        match unix::discard(stream) {
            Ok(()) => tracing::warn!("nobody reads {stream} any more: what tasks write to it is discarded"),
            Err(error) => tracing::warn!(%error, "nobody reads {stream} any more, so tasks that write to it may fail"),
        }
    }
}
