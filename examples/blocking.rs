//! Work that computes or blocks: a plain function is a task too, and runs on a thread of the blocking pool.
//!
//! ```console
//! $ cargo run --example blocking
//! while four threads are busy, an async task answers: pong
//! 25000: 2762 primes
//! 50000: 5133 primes
//! 75000: 7393 primes
//! 100000: 9592 primes
//! ```

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};

use taskq::{Client, Context, task};
use taskq_worker::Worker;

/// A plain `fn` may compute for hours, read files or wait for a lock without delaying other tasks. An `async fn` that
/// did so would block all tasks that share its thread.
#[task]
fn count_primes(ctx: &Context, below: u64) -> Result<usize, String> {
    ctx.state::<Start>().wait()?;
    Ok((2..below).filter(|number| is_prime(*number)).count())
}

fn is_prime(number: u64) -> bool {
    (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

#[task]
async fn ping() -> String {
    "pong".to_owned()
}

/// A signal that keeps the counting threads blocked until it is given, so that this program prints the same every time.
struct Start(Mutex<Receiver<()>>);

impl Start {
    fn wait(&self) -> Result<(), String> {
        let signal = self.0.lock().map_err(|error| error.to_string())?;
        signal.recv().map_err(|error| error.to_string())
    }
}

async fn run(client: Client, start: Sender<()>) -> Result<(), Box<dyn std::error::Error>> {
    let limits = [25_000, 50_000, 75_000, 100_000];
    // All at once: no call waits until the broker has confirmed the one before it.
    let handles = client.send_all(limits.map(count_primes)).await.all()?;
    println!("while four threads are busy, an async task answers: {}", ping().get().await?);
    for _ in limits {
        start.send(())?;
    }
    for (below, handle) in limits.iter().zip(handles) {
        println!("{below}: {} primes", handle.get().await?);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().broker("memory:").build().await?.install();
    let (start, signal) = mpsc::channel();
    // Both kinds share one limit on tasks at the same time: four that block, and one that does not.
    let worker = Worker::builder(client.clone()).concurrency(5).state(Start(Mutex::new(signal)));
    worker.run_until(run(client, start)).await??;
    Ok(())
}
