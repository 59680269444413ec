//! What signals ask of a worker: first drain, then cancel, then end.

use std::io;
use std::sync::Arc;

use taskq::internal::io as connections;
use tokio::sync::watch;

use super::exit::Exit;

/// How often the worker has been asked to stop.
#[derive(Debug, Clone)]
pub(super) struct Stops {
    count: Arc<watch::Sender<u32>>,
    asked: watch::Receiver<u32>,
}

/// The request after which nothing is waited for any more.
const LAST: u32 = 3;

impl Stops {
    /// Listens from now on. It does so on the thread of the connections, which code in tasks cannot block: whatever
    /// tasks do, the third signal ends the process.
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
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
            }
        });
        Ok(stops)
    }

    /// The same as being asked so often by signals, of which those that came count.
    pub(super) fn ask(&self, times: u32) {
        self.count.send_if_modified(|count| {
            let is_news = times > *count;
            *count = times.max(*count);
            is_news
        });
    }

    /// Whether the worker has been asked at all.
    pub(super) fn have_been_asked(&self) -> bool {
        *self.asked.borrow() > 0
    }

    /// Waits until the worker has been asked `times` times.
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

        /// Waits for the next; true if it means: at once.
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

        /// Waits for the next; it never means: at once.
        pub(super) async fn next(&mut self) -> bool {
            if let Err(error) = tokio::signal::ctrl_c().await {
                tracing::error!(%error, "Ctrl-C cannot be heard; stop this worker by ending its process");
                std::future::pending::<()>().await;
            }
            false
        }
    }
}
