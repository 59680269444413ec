//! The places at which a broker may be reached: every address of every host that its URLs name, and the order in which
//! they are tried.
//!
//! Names are resolved before each round, since they may lead elsewhere by then. A round begins anywhere, so that the
//! clients of a cluster spread over its nodes, and comes last to places that were left because they were of no use: a
//! node that is cut off from its cluster takes connections like any other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use lapin::{Connection, Error};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use super::address::{Address, Addresses};
use super::session::{OpeningLimits, Session, connect};
use crate::broker::BrokerError;
use crate::io;

/// The maximum time for resolving a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which a place that was left is tried last.
const AVOIDED_FOR: Duration = Duration::from_secs(120);

/// The round that gives each place as much time as any later one, for who makes one round only.
pub(super) const PATIENT_ROUND: u32 = 8;

/// A socket address, and the URL whose host has it.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) address: Arc<Address>,
    pub(super) socket: SocketAddr,
}

/// The places of a broker, shared by the links of a client.
pub(super) struct Places {
    addresses: Addresses,
    /// The places that were left because they were of no use, and when.
    left: Mutex<Vec<(SocketAddr, Instant)>>,
    /// The number of places that the last round knew.
    count: AtomicUsize,
}

impl Places {
    pub(super) fn new(addresses: Addresses) -> Arc<Self> {
        let count = addresses.list.len().into();
        Arc::new(Self { addresses, left: Mutex::default(), count })
    }

    /// The URLs as they may be shown.
    pub(super) fn shown(&self) -> &str {
        &self.addresses.shown
    }

    /// Whether there is more than one place, as far as is known.
    pub(super) fn are_several(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 1
    }

    /// Tries each place once. Returns the first session that can be opened, or the error of the round. Early rounds,
    /// counted from 0, give each place less time.
    pub(super) async fn connect(&self, round: u32, wide: bool, name: &str) -> Result<Arc<Session>, BrokerError> {
        self.round(round, |place, limits| async move { Session::open(&place, wide, name, limits).await }).await
    }

    /// Tries each place once, for a connection that is left to lapin. For benchmarks.
    pub(super) async fn connect_bare(&self, name: &str) -> Result<Connection, BrokerError> {
        let open = |place, limits| async move { connect(&place, false, name, limits).await };
        self.round(PATIENT_ROUND, open).await.map(|(connection, _)| connection)
    }

    async fn round<T, F>(&self, round: u32, open: impl Fn(Endpoint, OpeningLimits) -> F) -> Result<T, BrokerError>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let (places, mut faults) = self.resolve().await;
        self.count.store(places.len(), Ordering::Relaxed);
        let limits = if places.len() > 1 { OpeningLimits::among_others(round) } else { OpeningLimits::alone() };
        for place in in_turn(places, io::jitter(), &self.avoided()) {
            let socket = place.socket;
            match open(place, limits).await {
                Ok(opened) => return Ok(opened),
                Err(error) => {
                    tracing::debug!(place = %socket, %error, "a place of the broker cannot be used");
                    faults.push(error);
                }
            }
        }
        Err(self.addresses.refusal(faults))
    }

    /// Notes that a place is of no use, though it can be connected to.
    pub(super) fn leave(&self, place: SocketAddr) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|(other, _)| *other != place);
        left.push((place, Instant::now()));
    }

    /// The places to try last.
    fn avoided(&self) -> Vec<SocketAddr> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|(_, at)| at.elapsed() < AVOIDED_FOR);
        left.iter().map(|(place, _)| *place).collect()
    }

    /// Resolves all names, and returns the places and the errors of the names that have none.
    async fn resolve(&self) -> (Vec<Endpoint>, Vec<BrokerError>) {
        let found = join_all(self.addresses.list.iter().map(|address| async move {
            match timeout(RESOLVE_TIMEOUT, lookup_host(address.host())).await {
                Ok(Ok(sockets)) => {
                    Ok(sockets.map(|socket| Endpoint { address: Arc::clone(address), socket }).collect::<Vec<_>>())
                }
                Ok(Err(error)) => Err(address.refusal(Some(&Error::from(error)))),
                Err(_) => {
                    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "its name is not resolved in time");
                    Err(address.refusal(Some(&Error::from(error))))
                }
            }
        }))
        .await;
        let (mut places, mut faults) = (Vec::<Endpoint>::new(), Vec::new());
        for of_address in found {
            match of_address {
                Ok(of_address) => {
                    for place in of_address {
                        // Two names may lead to one node.
                        if places.iter().all(|known| known.socket != place.socket) {
                            places.push(place);
                        }
                    }
                }
                Err(fault) => faults.push(fault),
            }
        }
        if places.is_empty() && faults.is_empty() {
            let error = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
            faults.push(self.addresses.list[0].refusal(Some(&Error::from(error))));
        }
        (places, faults)
    }
}

/// Puts places into the order of a round: from the one that `start`, between 0 and 1, points to, and `avoided` ones
/// last, the one that was left last at the end.
fn in_turn(mut places: Vec<Endpoint>, start: f64, avoided: &[SocketAddr]) -> Vec<Endpoint> {
    if !places.is_empty() {
        let first = (start * places.len() as f64) as usize % places.len();
        places.rotate_left(first);
    }
    places.sort_by_key(|place| avoided.iter().position(|left| *left == place.socket).map_or(0, |at| at + 1));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begins_anywhere_and_comes_last_to_what_was_left() {
        let addresses = Addresses::parse("amqp://localhost", &crate::tls::TlsOptions::default()).expect("it is a URL");
        let socket = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
        let places: Vec<_> =
            (1..=3).map(|port| Endpoint { address: Arc::clone(&addresses.list[0]), socket: socket(port) }).collect();
        for (start, avoided, expected) in [
            (0.0, vec![], [1, 2, 3]),
            (0.34, vec![], [2, 3, 1]),
            (0.999, vec![], [3, 1, 2]),
            (1.0, vec![], [1, 2, 3]),
            (0.0, vec![1], [2, 3, 1]),
            (0.34, vec![3, 2], [1, 3, 2]),
            (0.34, vec![1, 2, 3], [1, 2, 3]),
            (0.0, vec![9], [1, 2, 3]),
        ] {
            let avoided: Vec<_> = avoided.into_iter().map(socket).collect();
            let order: Vec<_> =
                in_turn(places.clone(), start, &avoided).iter().map(|place| place.socket.port()).collect();
            assert_eq!(order, expected, "{start} {avoided:?}");
        }
        assert!(in_turn(Vec::new(), 0.5, &[]).is_empty());
    }
}
