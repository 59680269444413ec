//! State that all tasks of a worker share, such as a pool, a cache or a configuration: set once, requested by its type.
//!
//! ```console
//! $ cargo run --example state
//! bought 3 pencils for 60 cents
//! bought 2 pencils for 40 cents
//! only 1 pencils left
//! the till holds 100 cents
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use taskq::{Client, Context, Error, TaskError, task};
use taskq_worker::Worker;

/// A stand-in for a connection pool: made once for the worker, and used by many tasks at the same time.
struct Shelves(Mutex<HashMap<String, u64>>);

impl Shelves {
    /// Takes so many, or returns how many are left.
    fn take(&self, item: &str, count: u64) -> Result<(), u64> {
        let mut shelves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = shelves.entry(item.to_owned()).or_default();
        *left = left.checked_sub(count).ok_or(*left)?;
        Ok(())
    }
}

/// A type of its own, since state is found by type: a second `AtomicU64` would replace the first.
#[derive(Default)]
struct Till(AtomicU64);

/// Takes the shared state from its context. State is no argument: it is not in the message, and callers do not see it.
#[task]
async fn buy(ctx: &Context, item: String, count: u64) -> Result<u64, TaskError> {
    let (shelves, till) = (ctx.state::<Shelves>(), ctx.state::<Till>());
    shelves.take(&item, count).map_err(|left| TaskError::permanent(format!("only {left} {item} left")))?;
    let cents = 20 * count;
    till.0.fetch_add(cents, Ordering::Relaxed);
    Ok(cents)
}

#[task]
async fn count_the_till(ctx: &Context) -> u64 {
    ctx.state::<Till>().0.load(Ordering::Relaxed)
}

async fn customers() -> Result<(), Error> {
    for count in [3, 2, 2] {
        match buy("pencils", count).get().await {
            Ok(cents) => println!("bought {count} pencils for {cents} cents"),
            Err(Error::Failed { failure, .. }) => println!("{}", failure.message()),
            Err(other) => return Err(other),
        }
    }
    println!("the till holds {} cents", count_the_till().get().await?);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().broker("memory:").build().await?.install();
    let shelves = Shelves(Mutex::new(HashMap::from([("pencils".to_owned(), 6)])));
    Worker::builder(client).state(shelves).state(Till::default()).run_until(customers()).await??;
    Ok(())
}
