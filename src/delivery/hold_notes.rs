//! The notes in the spool by which nodes tell each other about holds.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use crate::spool::{Spool, SpoolError};

/// The beginning of all names of holds.
const HOLDS: &str = "hold";

/// The notes about holds, by their names, as this node last read or wrote them.
pub(super) type KnownHolds = BTreeMap<String, String>;

/// Reads the notes about holds.
pub(super) async fn read(spool: &dyn Spool) -> Result<KnownHolds, SpoolError> {
    Ok(spool.notes(HOLDS).await?.into_iter().collect())
}

/// Writes a note about a hold, or removes it. From now on, this node notices if another one changes it.
pub(super) async fn note(
    spool: &dyn Spool,
    known: &Mutex<KnownHolds>,
    name: String,
    value: Option<String>,
) -> Result<(), SpoolError> {
    let mut known = known.lock().await;
    spool.note(&name, value.clone()).await?;
    match value {
        Some(value) => known.insert(name, value),
        None => known.remove(&name),
    };
    Ok(())
}
