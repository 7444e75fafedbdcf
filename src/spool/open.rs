//! Opens the spool that is configured.

use std::path::Path;
use std::sync::Arc;

use super::copy::{CopyMark, MARK};
use super::postgres::NodeIdentity;
use super::{
    Notes, Owner, PostgresSpool, SpoolError, SpoolSettings, SqliteSpool, Upkeep, WholeSpool, copy,
    lock,
};
use crate::base::Clock;
use crate::platform::files;

/// Opens the spool to accept and send messages, and sets `clock` to the [time of the spool](super::time).
pub async fn open(
    settings: &SpoolSettings,
    owner: Owner,
    clock: &Clock,
) -> Result<Arc<dyn WholeSpool>, SpoolError> {
    let Some(database) = &settings.postgresql else {
        let spool = opened(settings, owner, clock).await?;
        let notes = spool.notes(MARK).await?;
        if let Some((_, mark)) = notes.iter().find(|(name, _)| name == MARK) {
            return Err(SpoolError::Copied {
                place: settings.folder.display().to_string(),
                why: CopyMark::parse(mark).why(),
            });
        }
        return Ok(Arc::new(spool));
    };
    let folder = &settings.folder;
    let prepared =
        std::fs::create_dir_all(folder).and_then(|()| files::keep_folder_private(folder));
    prepared.map_err(|error| SpoolError::io(folder, error))?;
    let node = NodeIdentity {
        owner,
        lock: Some(lock::lock(folder)?),
        machine: machine(folder)?,
    };
    let (history, clock) = (settings.history, clock.clone());
    let spool = PostgresSpool::open(database, history, node, clock).await?;
    Ok(Arc::new(spool))
}

/// Opens the spool for an operator, while the program is not running here.
pub async fn visit(
    settings: &SpoolSettings,
    owner: Owner,
    clock: &Clock,
) -> Result<Arc<dyn WholeSpool>, SpoolError> {
    let Some(database) = &settings.postgresql else {
        return Ok(Arc::new(opened(settings, owner, clock).await?));
    };
    let (history, clock) = (settings.history, clock.clone());
    let spool = PostgresSpool::visit(database, history, owner, clock).await?;
    Ok(Arc::new(spool))
}

/// Opens the spool to copy it, and returns it with its name. While it is open, it must not be used otherwise.
pub async fn copyable(
    settings: &SpoolSettings,
    owner: Owner,
    clock: &Clock,
) -> Result<copy::Named, SpoolError> {
    let Some(database) = &settings.postgresql else {
        let folder = std::path::absolute(&settings.folder);
        let folder = folder.unwrap_or_else(|_| settings.folder.clone());
        let spool = opened(settings, owner, clock).await?;
        return Ok((Arc::new(spool), folder.display().to_string()));
    };
    let (history, clock) = (settings.history, clock.clone());
    let spool = PostgresSpool::visit(database, history, owner, clock).await?;
    Ok((Arc::new(spool), database.name()))
}

/// Opens the spool of one machine, and sets `clock` to its time.
async fn opened(
    settings: &SpoolSettings,
    owner: Owner,
    clock: &Clock,
) -> Result<SqliteSpool, SpoolError> {
    let spool = SqliteSpool::open(settings.clone(), owner)?;
    spool.resume_time(clock).await?;
    Ok(spool)
}

/// True if the program has run with these settings.
pub fn exists(settings: &SpoolSettings) -> bool {
    settings.postgresql.is_some() || SqliteSpool::is_in(&settings.folder)
}

/// True if another process of this machine has the spool open, and only one process can.
pub fn is_in_use(settings: &SpoolSettings) -> bool {
    settings.postgresql.is_none() && SqliteSpool::is_in_use(&settings.folder)
}

/// The file with the name by which other nodes know this folder.
const MACHINE: &str = "node";

/// Returns the name by which other nodes know this folder. It is chosen at the first start.
fn machine(folder: &Path) -> Result<String, SpoolError> {
    let file = folder.join(MACHINE);
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    if !known.is_empty() {
        return Ok(known);
    }
    let name = format!("{:032x}", rand::random::<u128>());
    let written = std::fs::write(&file, &name);
    written.map_err(|error| SpoolError::io(&file, error))?;
    Ok(name)
}
