//! How a command finds the running program.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::admin::{self, Client};
use crate::config::Config;
use crate::spool::SqliteSpool;

/// The longest that a program which has its files may take to listen for commands: it has just been
/// started, or ends.
const STARTING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// The program that runs with this configuration; none if it does not run.
pub(super) async fn running(config: &Config) -> Result<Option<Client>, String> {
    let folder = &config.spool.folder;
    let until = Instant::now() + STARTING;
    loop {
        let client = Client::connect(&admin::socket(folder)).await;
        let client = client.map_err(|error| error.to_string())?;
        if client.is_some() || !SqliteSpool::is_in_use(folder) || Instant::now() > until {
            return Ok(client);
        }
        sleep(LOOK).await;
    }
}
