//! The attribute's name beside modules of that name: `use taskq::task` imports a macro and nothing else.

/// A program with a module `task` of its own.
mod beside_a_module_of_that_name {
    use taskq::task;

    mod task {
        pub(super) const ANSWER: i64 = 42;
    }

    #[task(name = "modules.answer")]
    pub(super) async fn answer() -> i64 {
        task::ANSWER
    }
}

/// A program that also uses tokio's tasks by their module.
mod beside_tokio {
    use taskq::task;
    use tokio::task;

    #[task(name = "modules.spawning")]
    pub(super) async fn spawning(x: i64) -> i64 {
        task::spawn(async move { x + 1 }).await.expect("it does not panic")
    }
}

#[tokio::test]
async fn the_attribute_shares_its_name_with_modules() {
    assert_eq!(beside_a_module_of_that_name::answer::run().await, 42);
    assert_eq!(beside_tokio::spawning::run(1).await, 2);
    assert_eq!(beside_a_module_of_that_name::answer::NAME, "modules.answer");
    assert_eq!(beside_tokio::spawning::NAME, "modules.spawning");
}
