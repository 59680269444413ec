//! The names of tasks, and the places in which a task may stand.

use taskq::{Call, task};

#[task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name = "proj.mul")]
pub(crate) fn multiply(x: i64, y: i64) -> i64 {
    x * y
}

#[task]
async fn r#type(r#fn: i64) -> i64 {
    r#fn
}

/// A task that lives elsewhere.
#[task(name = "proj.elsewhere", queue = "py")]
async fn elsewhere(x: i64, label: Option<String>) -> f64;

mod inner {
    pub(super) mod deeper {
        #[taskq::task]
        pub(in crate::macros::pass::names) async fn nested(x: super::super::Wrapped) -> super::super::Wrapped {
            x
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Wrapped(i64);

/// Names that the macro's own code uses, too.
#[task]
async fn collisions(ctx: i64, arguments: i64, context: i64, call: i64, options: i64) -> i64 {
    ctx + arguments + context + call + options
}

macro_rules! tasks {
    ($($name:ident in $queue:expr => $ty:ty),*) => {
        $(#[task(queue = $queue)] async fn $name(value: $ty) -> $ty { value })*
    };
}

tasks!(echo_text in "texts" => String, echo_number in "numbers" => i64);

#[test]
fn the_name_is_that_of_the_package_and_the_function() {
    let package = env!("CARGO_PKG_NAME").replace('-', "_");
    assert_eq!(add::NAME, format!("{package}.add"));
    assert_eq!(multiply::NAME, "proj.mul");
    assert_eq!(r#type::NAME, format!("{package}.type"));
    assert_eq!(inner::deeper::nested::NAME, format!("{package}.nested"));
    assert_eq!(elsewhere::NAME, "proj.elsewhere");
}

#[tokio::test]
async fn run_is_the_function_itself() {
    assert_eq!(add::run(2, 3).await, 5);
    assert_eq!(multiply::run(2, 3), 6);
    assert_eq!(r#type::run(1).await, 1);
    assert_eq!(inner::deeper::nested::run(Wrapped(4)).await.0, 4);
    assert_eq!(collisions::run(1, 2, 3, 4, 5).await, 15);
    assert_eq!(echo_text::run("a".to_owned()).await, "a");
}

#[test]
fn calls_know_their_task_and_their_result() {
    let call: Call<i64> = add(2, 3);
    assert_eq!(call.parts().task, add::NAME);
    let call: Call<f64> = elsewhere(1, None);
    assert_eq!(call.parts().task, "proj.elsewhere");
    assert_eq!(call.parts().task_options.queue, Some("py"));
    assert_eq!(collisions(1, 2, 3, 4, 5).parts().task, collisions::NAME);
    assert_eq!(echo_number(3).parts().task_options.queue, Some("numbers"));
}

#[tokio::test]
async fn a_task_may_stand_in_a_function_beside_its_types() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Point {
        x: i64,
    }

    #[task]
    async fn shift(point: Point, by: i64) -> Point {
        Point { x: point.x + by }
    }

    assert_eq!(shift::NAME.rsplit('.').next(), Some("shift"));
    assert_eq!(shift::run(Point { x: 1 }, 2).await, Point { x: 3 });
    assert_eq!(super::attempts::positional(&shift(Point { x: 1 }, 2)), r#"[{"x":1},2]"#);
    let answer = super::attempts::run(shift::NAME, r#"[{"x": 1}, 2]"#, "{}").await.expect("the arguments fit");
    assert_eq!(answer.expect("it cannot fail").get(), r#"{"x":3}"#);
}

#[test]
fn what_lives_elsewhere_is_not_registered_here() {
    let registry = taskq::definition::Registry::collect().expect("all names differ");
    assert!(registry.get("proj.elsewhere").is_none());
    let definition = registry.get("proj.mul").expect("it has a body");
    assert!(definition.location.file.ends_with("names.rs"), "{}", definition.location);
    let line = include_str!("names.rs").lines().nth(definition.location.line as usize - 1);
    assert_eq!(line, Some("pub(crate) fn multiply(x: i64, y: i64) -> i64 {"));
    assert_eq!(definition.location.package, env!("CARGO_PKG_NAME"));
}
