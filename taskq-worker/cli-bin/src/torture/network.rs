//! The connections by which workers and the sender reach the servers: direct, or through proxies that faults control.

use super::catalog::{Fault, Need};
use super::proxy::{NetworkMode, Proxy};

/// The proxies of a run; `None` where the connection is direct.
#[derive(Debug)]
pub(super) struct Network {
    broker: Option<Proxy>,
    results: Option<Proxy>,
    producer: Option<Proxy>,
}

impl Network {
    /// Starts the proxies that these faults need.
    pub(super) async fn for_faults(faults: &[Fault], broker: &str, results: Option<&str>) -> std::io::Result<Self> {
        let broker_by_tcp = faults.iter().any(|fault| fault.need() == Need::BrokerByTcp);
        let results_by_tcp = faults.iter().any(|fault| fault.need() == Need::ResultsByTcp);
        let mut network = Self { broker: None, results: None, producer: None };
        if broker_by_tcp {
            network.broker = Some(Proxy::before(broker).await?);
            network.producer = Some(Proxy::before(broker).await?);
        }
        if let Some(results) = results.filter(|_| results_by_tcp) {
            network.results = Some(Proxy::before(results).await?);
        }
        Ok(network)
    }

    /// Returns the proxy between the workers and the broker.
    pub(super) fn broker(&self) -> Option<&Proxy> {
        self.broker.as_ref()
    }

    /// Returns the proxy between the workers and the result backend.
    pub(super) fn results(&self) -> Option<&Proxy> {
        self.results.as_ref()
    }

    /// Returns the proxy between the sender and the broker.
    pub(super) fn producer(&self) -> Option<&Proxy> {
        self.producer.as_ref()
    }

    /// Makes every connection good again.
    pub(super) fn heal(&self) {
        for proxy in [&self.broker, &self.results, &self.producer].into_iter().flatten() {
            proxy.set(NetworkMode::Good);
        }
    }
}
