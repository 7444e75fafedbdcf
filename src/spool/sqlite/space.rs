//! Whether the disk has room for another message: asked often, looked at now and then.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::platform::files;

use super::settings::SpoolSettings;

/// How long an answer holds. It is asked for before each message, and each piece of a large one; what comes
/// in meanwhile, a megabyte at a gigabyte a second, is what the reserve has room for.
const HOLDS: Duration = Duration::from_millis(1);

/// The free space on the spool's disk against its reserve.
#[derive(Debug)]
pub(super) struct Space {
    folder: PathBuf,
    reserve: u64,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Space {
    pub(super) fn new(settings: &SpoolSettings) -> Self {
        Self {
            folder: settings.folder.clone(),
            reserve: settings.reserve,
            last: Mutex::default(),
        }
    }

    /// Whether more than the reserve is free; yes where the system does not say.
    pub(super) fn has_room(&self) -> bool {
        let mut last = self
            .last
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((at, answer)) = *last
            && at.elapsed() < HOLDS
        {
            return answer;
        }
        let answer = self.look();
        *last = Some((Instant::now(), answer));
        answer
    }

    /// The same, looked at now.
    pub(super) fn look(&self) -> bool {
        files::free_space(&self.folder).map_or(true, |free| free > self.reserve)
    }
}
