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
/// #[task] // a plain function runs on a thread where it may block
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
/// # Generated items
///
/// A task `add` becomes
///
/// * a function `add`, with the visibility and the documentation of the original, that takes the arguments and returns
///   a `Call` of the result's type;
/// * `add::NAME`, its name in messages;
/// * `add::run`, the original function. A synchronous function stays synchronous; a context is taken as it was written;
/// * an entry in the registry, which a worker finds if the crate is linked into its program.
///
/// `use tasks::add` imports all of them. `NAME` and `run` are associated items of an empty type `add`, so a module with
/// a task has no other type of the task's name, and a task with the name of a crate or of a type of std shadows it
/// there. In documentation, the link `` [`add()`] `` is unambiguous.
///
/// # Parameters
///
/// Parameters are owned, and `Serialize + DeserializeOwned`. There are no generics, lifetimes, `impl Trait`, patterns
/// or `self`, because a message names one task with concrete types, and its arguments by position or by the parameter's
/// name. Calls accept convenient types: a `&str` for a `String`, a value for an `Option` of it, literals, `None`,
/// `vec![]`. An expression that does not determine its own type (`x.into()`, `s.parse().unwrap()`, `.collect()`) needs
/// a `let` with a type before it. A parameter of type `Option` may be left out of a message.
///
/// A first parameter whose type ends in `Context` (`&Context` or `Context`) is supplied by the worker and is no
/// argument.
///
/// # Results
///
/// A task returns nothing, a `T`, or a `Result<T, E>`; `T` is `Serialize + DeserializeOwned`, and `E` is anything that
/// converts into `Box<dyn Error + Send + Sync>`: errors of std, `thiserror` and `anyhow`, `String`, `&'static str`,
/// `taskq::TaskError`. Callers get the `T`. Aliases of `Result` work if their names end in `Result`, as `io::Result`
/// and `anyhow::Result` do.
///
/// An error costs an attempt, and the task is retried, unless the error is a `TaskError` made by `permanent`,
/// `retry_in`, `snooze` or `cancel`, or has one among its `source()`s.
///
/// # Options
///
/// Durations are written as text: `"250ms"`, `"30s"`, `"5m"`, `"1h 30m"`, `"2 days"`.
///
/// * `name = "shop.add"` (default: `<package>.<function>`): the name in messages. The default is the package's name,
///   with `_` for `-`, and the function's: it is the same in the package's binaries, tests and examples, and
///   independent of the module.
/// * `queue = "mail"` (default: the client's default queue): the queue that calls go to.
/// * `priority = 7` (default: 0): 0 to 255, larger first, on queues that know priorities.
/// * `retries = 5` (default: 3): attempts after the first; 0 for none.
/// * `backoff = "1s..5m"` (default: `"1s..10m"`): bounds of the delay between attempts: it doubles from the first to
///   the second, with jitter. `"2s"` is `"2s..10m"`.
/// * `retry_if = is_transient` (default: every error): the path of a `fn(&E) -> bool`. If it returns false, the error
///   is permanent. Not called for a `TaskError` that decides itself what follows.
/// * `soft_time_limit = "20s"` (default: none): the time after which an attempt is asked to stop: `ctx.cancelled()`.
///   Shorter than `time_limit`.
/// * `time_limit = "30s"` (default: none): the time after which an attempt is stopped.
/// * `expires = "1h"` (default: never): the time after which a call that has not begun is revoked.
/// * `sealed` (default: `false`): the arguments are encrypted with `sealing_keys`, from the caller to the task. Also
///   `sealed = true`.
/// * `ignore_result` (default: `false`): results are not stored. Also `ignore_result = true`.
/// * `ack = "early"` (default: `"late"`): `"late"` acknowledges a message after the attempt: at least once. `"early"`
///   before it: at most once.
/// * `cron = "0 9 * * MON-FRI"` (default: none): Beat sends the task at these times: minute, hour, day, month, weekday,
///   with seconds before them if there are six fields.
/// * `tz = "Europe/Berlin"` (default: `"UTC"`): the time zone of `cron`.
/// * `every = "30s"` (default: none): the interval at which beat sends the task, at least a second. Not with `cron`.
/// * `crate = "tq"` (default: `::taskq`): the name of taskq in `Cargo.toml`, if it is renamed.
///
/// `rate_limit` is refused: rate limits are not enforced yet. Until they are, a queue of its own and a worker with a
/// small `--concurrency` limit how many attempts of a task run at once.
///
/// Beat sends a task with `cron` or `every` without arguments, so its parameters should be of type `Option`.
///
/// Other attributes of the function stay with its body (`run`); lint levels and `cfg` apply to all generated items.
///
/// # Tasks of other programs
///
/// A function without a body declares a task of another program, in Rust or in Python. It needs a name, has no `run`,
/// and is not registered; options that the task's own worker decides (`retries`, `backoff`, `retry_if`, `ack`,
/// schedules) are not allowed.
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
/// Mistakes are reported all together, each at the place where it was made and with the text to write instead:
///
/// ```compile_fail
/// #[taskq::task(queu = "mail", time_limit = "30")] // `queue`; "30s"
/// async fn greet(name: &str) {} // `name: String`
/// ```
///
/// An associated function without `self` cannot be told from a free one; the compiler reports that a struct is not
/// supported in an `impl`. Move the function out of the `impl`.
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
        // With mistakes in its options alone, a task is still written, so that its callers can be checked.
        Some(shape) => {
            let package = package.unwrap_or_else(|| "unknown".to_owned());
            Task { attribute: &attribute, function: &function, shape, name, package }.expand()
        }
        // Without a task, the plain function is written where the compiler can parse it, to report mistakes in its body
        // too.
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

/// Returns the name in messages: the given one, or `<package>.<function>`. The package's name and not the crate's, so
/// that a task has the same name in its package's binaries, tests and examples.
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
