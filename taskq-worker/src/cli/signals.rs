//! The signals of a worker as requests to stop: drain, then cancel, then end.

#[cfg(unix)]
mod inherited;

use std::io;
use std::sync::Arc;

use taskq::internal::io as connections;
use tokio::sync::watch;

use super::exit::Exit;
use crate::telemetry;

#[cfg(unix)]
pub(super) use inherited::restore as restore_inherited;

/// Does nothing: elsewhere signals are not inherited.
#[cfg(not(unix))]
pub(super) fn restore_inherited() -> io::Result<()> {
    Ok(())
}

/// The number of requests to stop.
#[derive(Debug, Clone)]
pub(super) struct Stops {
    count: Arc<watch::Sender<u32>>,
    asked: watch::Receiver<u32>,
}

/// The request that ends the process at once.
const LAST: u32 = 3;

impl Stops {
    /// Starts to listen, on the thread of the connections, which code in tasks cannot block: whatever tasks do, the
    /// third signal ends the process.
    pub(super) fn listen() -> io::Result<Self> {
        let _on_that_thread = connections::handle().enter();
        let mut sources = sources::Sources::new()?;
        let (count, asked) = watch::channel(0);
        let count = Arc::new(count);
        let stops = Self { count: Arc::clone(&count), asked };
        connections::spawn(async move {
            loop {
                let at_once = sources.next().await;
                count.send_modify(|count| *count += 1);
                if at_once || *count.borrow() >= LAST {
                    tracing::warn!("ending now; what was running comes back to its queue and runs again");
                    telemetry::sum_up_all();
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
            }
        });
        Ok(stops)
    }

    /// Raises the number of requests to `times`, as signals would.
    pub(super) fn ask(&self, times: u32) {
        self.count.send_if_modified(|count| {
            let is_more = times > *count;
            *count = times.max(*count);
            is_more
        });
    }

    /// Returns whether there was any request.
    pub(super) fn have_been_asked(&self) -> bool {
        *self.asked.borrow() > 0
    }

    /// Waits for this number of requests.
    pub(super) async fn asked(&mut self, times: u32) {
        if self.asked.wait_for(|asked| *asked >= times).await.is_err() {
            // Only the end of the process ends the listener.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
mod sources {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// The signals that stop a worker.
    pub(super) struct Sources {
        interrupt: Signal,
        terminate: Signal,
        quit: Signal,
    }

    impl Sources {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                quit: signal(SignalKind::quit())?,
            })
        }

        /// Waits for the next signal; returns `true` if it means an end at once.
        pub(super) async fn next(&mut self) -> bool {
            tokio::select! {
                _ = self.interrupt.recv() => false,
                _ = self.terminate.recv() => false,
                _ = self.quit.recv() => true,
            }
        }
    }
}

#[cfg(not(unix))]
mod sources {
    use std::io;

    /// Ctrl-C.
    pub(super) struct Sources;

    impl Sources {
        #[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Waits for the next Ctrl-C; returns `false`, since it never means an end at once.
        pub(super) async fn next(&mut self) -> bool {
            if let Err(error) = tokio::signal::ctrl_c().await {
                tracing::error!(%error, "Ctrl-C cannot be received; stop this worker by ending its process");
                std::future::pending::<()>().await;
            }
            false
        }
    }
}
