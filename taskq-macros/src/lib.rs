//! The `#[task]` attribute of taskq. Use it as `taskq::task`.

mod attribute;
mod attrs;
mod duration;
mod entry;
mod errors;
mod expand;
mod options;
mod schedule;
mod signature;
mod types;

use proc_macro::TokenStream;
use quote::quote;
use syn::ext::IdentExt;

use attribute::Attribute;
use errors::Mistakes;
use expand::Task;
use signature::{Function, Returns, Shape};

/// Makes a task of a function: calling it gives a call that can be sent to a worker.
///
/// ```
/// use taskq::{Context, task};
///
/// #[task]
/// pub async fn add(x: i64, y: i64) -> i64 {
///     x + y
/// }
///
/// #[task(queue = "mail", retries = 5, backoff = "1s..5m", soft_time_limit = "20s", time_limit = "30s")]
/// pub async fn welcome(ctx: &Context, user_id: u64) -> Result<(), std::io::Error> {
///     ctx.progress(1, 3, "rendering");
///     println!("welcome, {user_id}");
///     Ok(())
/// }
///
/// #[task] // a plain function runs on the blocking pool
/// pub fn thumbnail(path: String, width: u32) -> Result<String, std::io::Error> {
///     std::fs::copy(&path, format!("{path}.{width}"))?;
///     Ok(format!("{path}.{width}"))
/// }
///
/// let call = add(2, 3).queue("low"); // nothing happens before it is awaited
/// assert_eq!(call.parts().task, add::NAME);
/// assert_eq!(thumbnail::run("no such file".into(), 64).is_ok(), false); // the function itself, no queue
/// # let _ = welcome(7);
/// ```
///
/// # What comes of it
///
/// A task `add` is
///
/// * a function `add`, with the visibility and the documentation of the original, that takes the arguments and gives a
///   `Call` of the result's type;
/// * `add::NAME`, its name in messages;
/// * `add::run`, the function itself. A plain function stays plain; one with a context takes it as written;
/// * an entry in the registry, which a worker finds if the crate is linked into its program.
///
/// `use tasks::add` brings all of them. `NAME` and `run` hang on an empty type `add`, so a module with a task has no
/// other type of the task's name, and a task called like a crate or a type of std hides it there. In documentation it
/// is `` [`add()`] `` that is unambiguous.
///
/// # Parameters
///
/// They are owned, and `Serialize + DeserializeOwned`. There are no generics, lifetimes, `impl Trait`, patterns or
/// `self`, because a message names one task with concrete types, and its arguments by position or by the parameter's
/// name. Calls take what is easy to write: a `&str` for a `String`, a value for an `Option` of it, literals, `None`,
/// `vec![]`. What says nothing about its own type (`x.into()`, `s.parse().unwrap()`, `.collect()`) wants a `let` with a
/// type before it. A parameter of type `Option` may be left out of a message.
///
/// A first parameter whose type ends in `Context` (`&Context` or `Context`) is handed in by the worker and is no
/// argument.
///
/// # Results
///
/// A task returns nothing, a `T`, or a `Result<T, E>`; `T` is `Serialize + DeserializeOwned`, and `E` is anything that
/// converts into `Box<dyn Error + Send + Sync>`: errors of std, `thiserror` and `anyhow`, `String`, `&'static str`,
/// `taskq::TaskError`. Callers get the `T`. Aliases of `Result` work if their names end in `Result`, as those of
/// `io::Result` and `anyhow::Result` do.
///
/// An error costs an attempt and is retried; `TaskError::permanent`, `retry_in`, `snooze` and `cancel` say otherwise,
/// also from behind other errors whose `source()` they are.
///
/// # Options
///
/// Times are written as people write them: `"250ms"`, `"30s"`, `"5m"`, `"1h 30m"`, `"2 days"`.
///
/// | option | default | meaning |
/// |---|---|---|
/// | `name = "shop.add"` | `<package>.<function>` | The name in messages. By default the package's name, with `_` for `-`, and the function's: the same in the package's binaries, tests and examples, and in whatever module the function is. |
/// | `queue = "mail"` | the client's default queue | Where calls go. |
/// | `priority = 7` | none | 0 to 255, larger first, on queues that know priorities. |
/// | `retries = 5` | 3 | Attempts after the first; 0 for none. |
/// | `backoff = "1s..5m"` | `"1s..10m"` | Bounds of the delay between attempts: it doubles from the first to the second, with jitter. `"2s"` is `"2s..10m"`. |
/// | `retry_if = is_transient` | every error | The path of a `fn(&E) -> bool`. Where it says false, the error is permanent. Not asked about a `TaskError` that says itself what should follow. |
/// | `soft_time_limit = "20s"` | none | After this an attempt is asked to stop: `ctx.cancelled()`. Shorter than `time_limit`. |
/// | `time_limit = "30s"` | none | After this an attempt is stopped. |
/// | `expires = "1h"` | never | A call that has not begun after this is revoked. |
/// | `ignore_result` | `false` | Results are not stored. Also `ignore_result = true`. |
/// | `ack = "early"` | `"late"` | `"late"` acknowledges a message after the attempt: at least once. `"early"` before it: at most once. |
/// | `cron = "0 9 * * MON-FRI"` | none | Beat sends the task at these times: minute, hour, day, month, weekday, with seconds before them if there are six fields. |
/// | `tz = "Europe/Berlin"` | `"UTC"` | The time zone of `cron`. |
/// | `every = "30s"` | none | Beat sends the task each time this has passed, a second or more. Not with `cron`. |
/// | `crate = "tq"` | `::taskq` | What `Cargo.toml` calls taskq, if not by its name. |
///
/// `rate_limit` is refused: rate limits are not enforced yet. Until they are, a queue of its own and a worker with a
/// small `--concurrency` limit how many attempts of a task run at once.
///
/// Beat sends a task with `cron` or `every` without arguments, so its parameters should be of type `Option`.
///
/// Other attributes of the function stay with its body (`run`); lint levels and `cfg` hold for everything.
///
/// # Tasks that live elsewhere
///
/// Without a body, a function declares a task of another program, in Rust or in Python. It needs a name, has no `run`,
/// and is not registered; what its own worker decides (`retries`, `backoff`, `retry_if`, `ack`, schedules) is not said
/// here.
///
/// ```
/// #[taskq::task(name = "proj.add", queue = "python")]
/// pub async fn add(x: i64, y: i64) -> i64;
///
/// let call = add(2, 3);
/// assert_eq!(call.parts().task, "proj.add");
/// ```
///
/// # Mistakes
///
/// They are reported all together, each at the place where it was made and with what to write instead:
///
/// ```compile_fail
/// #[taskq::task(queu = "mail", time_limit = "30")] // `queue`; "30s"
/// async fn greet(name: &str) {} // `name: String`
/// ```
///
/// A function in an `impl` without `self` cannot be told from a free one; there the compiler says that a struct is not
/// supported in an `impl`. Move it out.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function = match syn::parse::<Function>(item) {
        Ok(function) => function,
        Err(error) => return error.to_compile_error().into(),
    };
    expand(attribute.into(), function).into()
}

fn expand(attribute: proc_macro2::TokenStream, mut function: Function) -> proc_macro2::TokenStream {
    let mut mistakes = Mistakes::default();
    let attribute = Attribute::read(attribute, &mut mistakes);
    attrs::remove_second(&mut function.attrs, &mut mistakes);
    if function.body.is_none() {
        attribute.check_declaration(&function.sig.ident, &mut mistakes);
    }
    let shape = function.shape(&mut mistakes);
    if let Some(shape) = &shape {
        check_retry_if(&attribute, shape, &mut mistakes);
    }
    let package = std::env::var("CARGO_PKG_NAME").ok();
    let name = name(&attribute, &function, package.as_deref(), &mut mistakes);
    let items = match &shape {
        // Mistakes in the options leave a task that callers can be checked against.
        Some(shape) => {
            let package = package.unwrap_or_else(|| "unknown".to_owned());
            Task { attribute: &attribute, function: &function, shape, name, package }.expand()
        }
        // The body's own mistakes are worth knowing, where the compiler can make sense of the function.
        None if function.body.is_some() && !function.has_receiver() && function.sig.variadic.is_none() => {
            quote!(#function)
        }
        None => proc_macro2::TokenStream::new(),
    };
    let errors = mistakes.into_compile_errors();
    quote!(#items #errors)
}

fn check_retry_if(attribute: &Attribute, shape: &Shape, mistakes: &mut Mistakes) {
    if let (Some(span), Returns::Value(_)) = (attribute.span_of("retry_if"), &shape.returns) {
        mistakes.at_span(
            span,
            "`retry_if` looks at the task's errors, and this task has none: return `Result<T, E>`, or leave it out",
        );
    }
}

/// The name in messages: the given one, or `<package>.<function>`. The package's and not the crate's name, so that
/// a task has the same name in its package's binaries, tests and examples.
fn name(attribute: &Attribute, function: &Function, package: Option<&str>, mistakes: &mut Mistakes) -> String {
    let ident = &function.sig.ident;
    match (&attribute.name, package) {
        (Some(name), _) => name.clone(),
        (None, Some(package)) => format!("{}.{}", package.replace('-', "_"), ident.unraw()),
        (None, None) => {
            mistakes.at(
                ident,
                "no package name is known in this build (`CARGO_PKG_NAME` is not set): write `name = \"…\"`",
            );
            ident.unraw().to_string()
        }
    }
}
