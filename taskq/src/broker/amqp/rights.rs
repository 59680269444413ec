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
    /// By asking, since the user may not declare them; their arguments and bindings are not known. Or not even that: a
    /// broker may not tell. Whether a queue exists is then seen by what is sent to it.
    Found,
}

/// Declares parts, or finds them where the user may not declare. Everyone may ask whether a part exists, but from
/// RabbitMQ 4.3 on only those who have some right to it: the others have no use for it, and go on.
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
    match find_or_guess(session, parts).await {
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

/// Makes sure that all parts exist, of those that this user may ask about.
async fn find_or_guess(session: &Session, parts: &[Part]) -> Result<(), RequestFault> {
    match find(session, parts).await {
        Err(fault) if fault.is_access_refusal() => {}
        found => return found,
    }
    for part in parts {
        match find(session, std::slice::from_ref(part)).await {
            Err(fault) if fault.is_access_refusal() => {
                tracing::debug!(?part, %fault, "the broker does not tell this user whether it exists");
            }
            found => found?,
        }
    }
    Ok(())
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
