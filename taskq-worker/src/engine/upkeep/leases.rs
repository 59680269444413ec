//! Leases of claims: renewed while their runs go on, and made for runs that lost their delivery.

use std::sync::Arc;

use super::super::claims::Claims;
use super::super::custody::{InFlight, claim_marked};

/// Renews all leases, without waiting for the answers.
pub(super) fn renew(claims: &Claims, in_flight: &InFlight) {
    for claim in in_flight.claims() {
        let claims = claims.clone();
        tokio::spawn(async move {
            match claims.renew(&claim).await {
                Ok(true) => {}
                // Settling looks again, and decides then whose run counts.
                Ok(false) => tracing::debug!("a lease was lost or is finished"),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a lease could not be renewed");
                }
            }
        });
    }
}

/// Claims the runs that lost their delivery, without waiting for the answers. Such a message may be delivered to
/// another worker at any moment; the claim tells it that the run goes on. If the message comes back to this worker,
/// the run simply takes it over. One claim at a time is under way for each run.
pub(super) fn claim_lost(claims: &Claims, in_flight: &Arc<InFlight>) {
    for run in in_flight.begin_claims_of_lost() {
        let (claims, in_flight) = (claims.clone(), Arc::clone(in_flight));
        tokio::spawn(async move { claim_marked(&in_flight, &claims, &run).await });
    }
}
