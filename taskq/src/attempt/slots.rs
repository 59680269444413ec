//! The free slots of a worker, as its tasks can see them.

/// Whether the worker has a slot for another attempt. Part of the state of its tasks.
pub struct FreeSlots(Box<dyn Fn() -> bool + Send + Sync>);

impl FreeSlots {
    /// Makes it of a function that tells whether there are any.
    pub fn new(exist: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Box::new(exist))
    }

    /// Returns whether there are any.
    pub fn exist(&self) -> bool {
        (self.0)()
    }
}
