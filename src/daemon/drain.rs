//! Takes this node out of service, so that it can be stopped without a client noticing: other nodes get its work.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::serving::Serving;
use crate::base::Timestamp;
use crate::delivery::{Delivery, Pause};
use crate::door::{Door, Socket};
use crate::observe::maillog;
use crate::operator::{DrainRow, SharedDrain};
use crate::spool::NodeRow;

/// How long proxies have to see that this node is being taken out of service, before its listeners close. HAProxy checks
/// every 2 seconds, and three failed checks count (`inter` and `fall`).
const NOTICE: Duration = Duration::from_secs(10);

/// The interval at which the node looks whether its work has ended.
const LOOK: Duration = Duration::from_millis(100);

/// The reason why a node is not taken out of service.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// The spool is on this machine.
    #[error(
        "this mailferry shares its queue with no other one (`[spool] postgresql`), so nothing can take over its work: stop it \
         instead, and what waits is sent after the next start"
    )]
    NotShared,
    /// Nobody would take over.
    #[error(
        "no other node is in service, so nothing can take over: start another one first, or stop this one, and what waits is \
         sent after the next start"
    )]
    Last,
    /// The spool did not say which nodes there are.
    #[error("the nodes cannot be listed: {0}")]
    Spool(String),
}

/// Decides whether other nodes can take over from this one. Pure.
pub(super) fn may_drain(nodes: &[NodeRow]) -> Result<(), DrainError> {
    let others = nodes.iter().filter(|node| !node.is_this);
    match others.filter(|node| node.takes_work()).count() {
        0 if nodes.is_empty() => Err(DrainError::NotShared),
        0 => Err(DrainError::Last),
        _ => Ok(()),
    }
}

/// A node that is being taken out of service.
pub(super) struct Drain {
    /// The listeners that other machines reach; they close.
    pub(super) closing: Arc<Vec<Serving>>,
    task: tokio::task::JoinHandle<()>,
    _pause: Pause,
}

/// The parts that are involved.
pub(super) struct Parts {
    pub(super) door: Arc<Door>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) shown: SharedDrain,
    /// How long sessions may go on, and how long a message that is arriving may then take.
    pub(super) wait: Duration,
    pub(super) grace: Duration,
}

impl Drain {
    /// Begins. Sessions and messages under way are not disturbed.
    pub(super) fn begin(parts: Parts, closing: Vec<Serving>) -> Self {
        let closing = Arc::new(closing);
        parts.door.drain(true);
        let begun = DrainRow {
            since: Timestamp::now(),
            sessions: sessions(&parts.door, &closing),
            is_quiet: false,
            is_done: false,
        };
        parts.shown.store(Some(Arc::new(begun.clone())));
        Self {
            _pause: parts.delivery.pause(),
            task: tokio::spawn(run(parts, closing.clone(), begun)),
            closing,
        }
    }

    /// Leaves the rest to the end of the program.
    pub(super) fn abort(&self) {
        self.task.abort();
    }

    /// Ends, so that the listeners can be bound again.
    pub(super) async fn undo(self) {
        self.abort();
        for serving in self.closing.iter() {
            serving.listener.close();
            serving.listener.closed().await;
        }
    }
}

async fn run(parts: Parts, closing: Arc<Vec<Serving>>, mut row: DrainRow) {
    let begun = Instant::now();
    if closing.iter().any(|it| it.listener.has_proxies()) {
        sleep(NOTICE).await;
    }
    closing.iter().for_each(|it| it.listener.close());
    let mut has_waited = false;
    loop {
        row.sessions = sessions(&parts.door, &closing);
        row.is_quiet = parts.delivery.is_quiet();
        row.is_done = row.sessions == 0 && row.is_quiet;
        parts.shown.store(Some(Arc::new(row.clone())));
        if row.is_done {
            return maillog::drained();
        }
        if row.sessions > 0 && !has_waited && begun.elapsed() >= parts.wait {
            has_waited = true;
            parts.door.end_sessions(parts.grace).await;
        }
        sleep(LOOK).await;
    }
}

fn sessions(door: &Door, closing: &[Serving]) -> usize {
    let names = closing.iter().map(|it| it.listener.name());
    names.map(|name| door.sessions_at(&name)).sum()
}

/// True if only apps on this machine reach a listener. Such a listener stays open, because its apps have no other node.
pub(super) fn is_of_this_machine(serving: &Serving) -> bool {
    let reaches = match serving.listener.asked() {
        Socket::Path { .. } => true,
        Socket::Address { address, .. } => address.ip().is_loopback(),
        Socket::Systemd(_) => {
            let address = serving.listener.address();
            address.is_none_or(|address| address.ip().is_loopback())
        }
    };
    reaches && !serving.listener.has_proxies()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(is_this: bool, silent: u64, is_draining: bool) -> NodeRow {
        NodeRow {
            name: "node".into(),
            version: "1".into(),
            since: Timestamp(0),
            silent,
            claimed: 0,
            is_this,
            is_draining,
            leads: false,
        }
    }

    #[test]
    fn a_node_is_drained_only_if_another_one_takes_its_work() {
        let decided = |others: &[NodeRow]| {
            let mut nodes = vec![node(true, 0, false)];
            nodes.extend_from_slice(others);
            may_drain(&nodes)
        };
        assert_eq!(may_drain(&[]), Err(DrainError::NotShared));
        assert_eq!(decided(&[]), Err(DrainError::Last));
        assert_eq!(decided(&[node(false, 60, false)]), Err(DrainError::Last));
        assert_eq!(decided(&[node(false, 0, true)]), Err(DrainError::Last));
        assert_eq!(
            decided(&[node(false, 0, true), node(false, 1, false)]),
            Ok(())
        );
    }
}
