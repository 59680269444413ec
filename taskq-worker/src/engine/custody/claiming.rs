//! Claiming a run that is under way.

use super::super::claims::{Claimed, Claims};
use super::super::run::Run;
use super::in_flight::InFlight;

/// Takes a claim on a run that is marked as being claimed, and ends the marking. Tries once.
///
/// The claim tells a worker that is given the message that the run goes on. If another worker was faster, settling
/// decides whose run counts.
pub(crate) async fn claim_marked(in_flight: &InFlight, claims: &Claims, run: &Run) {
    let claim = match claims.take(&run.key, run.nonce).await {
        Ok(Claimed::Ours(claim)) => Some(claim),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "no claim yet");
            None
        }
    };
    in_flight.claim_made(run, claim);
}
