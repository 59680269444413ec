//! The memory that bodies take while their arguments are decoded.
//!
//! A message is as large as its sender likes, and its decoded form is larger; so large ones are decoded a few at a
//! time, however many tasks the worker runs at once.

use taskq::internal::codec::MessageBody;
use taskq::message::Payload;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The size up to which a body takes part in no count.
const SMALL: usize = 1 << 20;

/// The unit in which memory is counted.
const UNIT: usize = 1 << 10;

/// The number of bodies of the largest size that may be decoded at once.
const LARGEST_AT_ONCE: usize = 2;

/// The limits on the bodies that a worker decodes.
pub(crate) struct Decoding {
    /// The largest body, in bytes.
    pub(super) bytes_max: usize,
    room: Semaphore,
}

impl Decoding {
    /// Limits bodies to `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, room: Semaphore::new(bytes_max.max(SMALL).div_ceil(UNIT) * LARGEST_AT_ONCE) }
    }

    /// Waits until there is room to decode this body, and takes it. Small bodies need none.
    pub(crate) async fn room_for(&self, payload: &Payload) -> Option<SemaphorePermit<'_>> {
        let bytes = MessageBody::bytes_max(payload, self.bytes_max);
        if bytes <= SMALL {
            return None;
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).expect("the setting is at most 4 GiB");
        Some(self.room.acquire_many(units).await.expect("the semaphore is never closed"))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn large_bodies_wait_for_each_other_and_small_ones_for_nobody() {
        let body = |size: usize, compression: Option<&str>| Payload {
            body: vec![0; size].into(),
            compression: compression.map(str::to_owned),
            ..Payload::default()
        };
        let decoding = Decoding::new(8 << 20);
        let take = |size, compression| decoding.room_for(&body(size, compression)).now_or_never();
        let (first, second) = (take(8 << 20, None), take(9_000, Some("application/x-gzip")));
        assert!(first.as_ref().is_some_and(Option::is_some) && second.as_ref().is_some_and(Option::is_some));
        assert!(take(2 << 20, None).is_none(), "there is no room");
        assert!(take(1 << 20, None).is_some_and(|room| room.is_none()), "it is small");
        assert!(take(900, Some("application/x-gzip")).is_some_and(|room| room.is_none()), "it cannot grow large");
        drop(first);
        // What is larger than the limit is refused when it is read, and takes the place of the largest until then.
        assert!(take(100 << 20, None).is_some_and(|room| room.is_some()));
    }
}
