//! A digest of the program's state, by which an open page learns whether it is out of date.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::parts::PageParts;
use crate::observe::metrics::totals;

/// Returns a digest of everything that the pages show, apart from the passing of time.
pub(super) async fn fingerprint(parts: &PageParts) -> String {
    let mut hasher = DefaultHasher::new();
    let totals = totals();
    [
        totals.accepted,
        totals.delivered,
        totals.deferred,
        totals.failed,
        totals.bounced,
    ]
    .hash(&mut hasher);
    if let Ok(spool) = parts.operator.spool()
        && let Ok(counts) = spool.counts().await
    {
        for count in counts {
            (count.server, count.queued, count.held).hash(&mut hasher);
        }
    }
    if let Ok(spool) = parts.operator.spool()
        && let Ok(nodes) = spool.nodes().await
    {
        for node in nodes {
            (node.takes_work(), node.leads, node.is_draining).hash(&mut hasher);
            node.name.hash(&mut hasher);
        }
    }
    if let Ok(servers) = parts.operator.servers().await {
        for server in servers {
            let hold = server
                .hold
                .map(|hold| (hold.since, hold.until, hold.reason));
            (server.name, hold, server.needs_sign_in).hash(&mut hasher);
        }
    }
    parts.operator.alerts().len().hash(&mut hasher);
    format!("{:x}", hasher.finish())
}
