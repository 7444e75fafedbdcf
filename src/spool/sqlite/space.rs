//! Checks if the disk has room for another message. The answer is requested often, so it is reused for a
//! moment.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::platform::files;

use crate::spool::SpoolSettings;

/// The time for which an answer is valid. An answer is requested before each message and each piece of a
/// large one. Data that arrives during this time fits into the reserve: at a gigabyte per second, it is a
/// megabyte.
const VALID_FOR: Duration = Duration::from_millis(1);

/// Compares the free space on the spool's disk with the reserve.
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

    /// True if more than the reserve is free, or if the system does not report free space.
    pub(super) fn has_room(&self) -> bool {
        let mut last = self
            .last
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((at, answer)) = *last
            && at.elapsed() < VALID_FOR
        {
            return answer;
        }
        let answer = self.look();
        *last = Some((Instant::now(), answer));
        answer
    }

    /// Checks the disk now, while `has_room` may reuse an answer.
    pub(super) fn look(&self) -> bool {
        files::free_space(&self.folder).map_or(true, |free| free > self.reserve)
    }
}
