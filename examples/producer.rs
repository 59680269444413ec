//! A program that only enqueues, and so depends on the crate `taskq` alone. The worker is another program, `cli`.
//!
//! ```console
//! $ cargo run --example producer
//! Ada's greeting is on its way as …
//! Grace's greeting is on its way as …
//! $ cargo run --example cli -- worker
//! ```
//!
//! The order does not matter: an enqueued task waits for its worker. `cargo run --example cli -- result ID` shows the
//! result.

use taskq::{Client, task};

/// A task without a body is implemented elsewhere, under the same name and with the same types.
#[task(name = "cli.greet", queue = "cli")]
async fn greet(name: String) -> String;

#[tokio::main]
async fn main() -> Result<(), taskq::Error> {
    let client = Client::from_settings().await?.install();
    for name in ["Ada", "Grace"] {
        // `Ok` means that the message is safe in its queue. This program does not wait for the result.
        let handle = greet(name).expires("1day").await?;
        println!("{name}'s greeting is on its way as {}", handle.id());
    }
    client.close().await;
    Ok(())
}
