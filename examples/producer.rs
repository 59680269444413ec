//! A program that only enqueues: of this workspace it needs `taskq` alone. The worker is another program, `cli`.
//!
//! ```console
//! $ cargo run --example producer
//! Ada's greeting is on its way as …
//! Grace's greeting is on its way as …
//! $ cargo run --example cli -- worker
//! ```
//!
//! The order does not matter: what was enqueued waits for its worker. `cargo run --example cli -- result ID` shows what
//! came of it.

use taskq::{Client, task};

/// A task without a body lives elsewhere: here are the name and the types that its worker knows it by.
#[task(name = "cli.greet", queue = "cli")]
async fn greet(name: String) -> String;

#[tokio::main]
async fn main() -> Result<(), taskq::Error> {
    let client = Client::from_env().await?.install();
    for name in ["Ada", "Grace"] {
        // `Ok` means that the message is safe in its queue. What the task gives is of no interest here.
        let handle = greet(name).expires("1day").await?;
        println!("{name}'s greeting is on its way as {}", handle.id());
    }
    client.close().await;
    Ok(())
}
