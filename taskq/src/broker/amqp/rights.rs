//! Parts that a user may not declare: if they exist, they are used all the same.

use std::future::Future;

use futures_util::future::try_join_all;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};

use super::session::{RequestFault, Session};
use super::topology::DeclareFault;
use crate::broker::BrokerError;

/// An exchange or a queue, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Exchange(String),
    Queue(String),
}

/// The way in which parts came to be known to exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// By declaring them.
    Declared,
    /// By asking, since the user may not declare them; their arguments and bindings are not known.
    Found,
}

/// Declares parts, or finds them where the user may not declare. Everyone may ask whether a part exists.
pub(super) async fn declare_or_find<F>(
    session: &Session,
    declare: impl FnOnce(Channel) -> F,
    parts: &[Part],
) -> Result<Known, DeclareFault>
where
    F: Future<Output = lapin::Result<()>>,
{
    let refusal = match session.on_scratch(declare).await {
        Ok(()) => return Ok(Known::Declared),
        Err(fault) if fault.is_access_refusal() => fault,
        Err(fault) => return Err(fault.into()),
    };
    match find(session, parts).await {
        Ok(()) => {
            tracing::debug!(%refusal, "the user may not declare what exists already");
            Ok(Known::Found)
        }
        Err(fault) if fault.code() == Some(404) => {
            let missing = fault.text().unwrap_or_default();
            Err(DeclareFault::Broker(BrokerError::Undeclared { missing, source: Box::new(refusal) }))
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Makes sure that all parts exist.
async fn find(session: &Session, parts: &[Part]) -> Result<(), RequestFault> {
    session
        .on_scratch(|channel| async move {
            let channel = &channel;
            try_join_all(parts.iter().map(|part| async move {
                let nothing = FieldTable::default();
                match part {
                    Part::Exchange(name) => {
                        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                        // A passive declaration compares nothing.
                        channel.exchange_declare(name.as_str().into(), ExchangeKind::Topic, options, nothing).await
                    }
                    Part::Queue(name) => {
                        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                        channel.queue_declare(name.as_str().into(), options, nothing).await.map(drop)
                    }
                }
            }))
            .await
            .map(drop)
        })
        .await
}
