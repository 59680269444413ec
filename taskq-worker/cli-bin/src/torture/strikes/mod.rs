//! The strikes: how each fault of the [`catalog`](super::catalog) is carried out. A new fault gets an entry there and a
//! function here.

mod context;
mod files;
mod health;
mod hostile;
mod messages;
mod network;
mod processes;
mod servers;

use taskq::BoxError;

use super::catalog::Fault;

pub(super) use context::StrikeContext;
pub(super) use hostile::other_queues;

/// Lets `fault` strike once. An error means that it could not strike, not that anything broke.
pub(super) async fn strike(fault: Fault, context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    match fault {
        Fault::Kill => processes::kill(context).await,
        Fault::KillGroup => processes::kill_group(context).await,
        Fault::KillParent => processes::kill_parent(context).await,
        Fault::Pause => processes::pause(context).await,
        Fault::Drain => processes::drain(context).await,
        Fault::Grace => processes::grace(context).await,
        Fault::ThreeSignals => processes::three_signals(context).await,
        Fault::Replace => processes::replace(context).await,
        Fault::Hup => processes::hup(context).await,
        Fault::CrashLoop => processes::crash_loop(context).await,
        Fault::Resets => network::resets(context).await,
        Fault::HalfOpen => network::half_open(context).await,
        Fault::CutBroker => network::cut_broker(context).await,
        Fault::CutResults => network::cut_results(context).await,
        Fault::Slow => network::slow(context).await,
        Fault::LostConfirms => network::lost_confirms(context).await,
        Fault::RestartBroker => servers::restart_broker(context).await,
        Fault::FailNode => servers::fail_node(context).await,
        Fault::RestartResults => servers::restart_results(context).await,
        Fault::DeleteQueue => servers::delete_queues(context).await,
        Fault::Unroutable => messages::unroutable(context).await,
        Fault::Malformed => messages::malformed(context).await,
        Fault::UnknownTask => messages::unknown_task(context).await,
        Fault::Arguments => messages::arguments(context).await,
        Fault::DeepHeaders | Fault::BrokenText | Fault::Unsendable => hostile::besiege(fault, context).await,
        Fault::Deputy => hostile::deputy(context).await,
        Fault::Bombs => hostile::bombs(context).await,
        Fault::SlowProbes => health::slow_probes(context).await,
        Fault::OtherUser => files::other_user(context).await,
        // These are done by tasks.
        Fault::Panic
        | Fault::Abort
        | Fault::Segfault
        | Fault::StackOverflow
        | Fault::Poison
        | Fault::OutOfMemory
        | Fault::Hog
        | Fault::Block
        | Fault::Spin => Ok(()),
    }
}
