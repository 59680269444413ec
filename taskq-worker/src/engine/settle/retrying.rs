//! Steps that must not be skipped.

use std::time::Duration;

/// Bounds of the delay between tries while a server is away.
pub(super) const RETRY_MIN: Duration = Duration::from_millis(50);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(2);

/// Tries a step until it works, with a growing delay. `what` names the step in the log.
pub(crate) async fn until_done<T, E, F>(what: &'static str, mut step: impl FnMut() -> F) -> T
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut delay = RETRY_MIN;
    loop {
        match step().await {
            Ok(done) => return done,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "{what} did not work; trying again");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_MAX);
            }
        }
    }
}
