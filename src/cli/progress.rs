//! Shows at a terminal that long work goes on.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, interval_at};

/// The time after which work counts as long, and the interval between updates.
const INTERVAL: Duration = Duration::from_secs(1);

/// A line at the terminal that is written again and again.
pub(super) struct Progress {
    what: &'static str,
    begun: Instant,
    next: Instant,
    is_shown: bool,
}

impl Progress {
    /// Begins work of this name, such as `exporting`. Nothing is shown yet.
    pub(super) fn new(what: &'static str) -> Self {
        let begun = Instant::now();
        Self {
            what,
            begun,
            next: begun + INTERVAL,
            is_shown: false,
        }
    }

    /// Shows the amount that is done, if it is time to.
    pub(super) fn show(&mut self, done: &str) {
        if Instant::now() < self.next || !std::io::stderr().is_terminal() {
            return;
        }
        let seconds = self.begun.elapsed().as_secs();
        // A terminal that cannot be written to shows nothing.
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[K{}: {done} ({seconds} s)",
            self.what
        );
        self.next = Instant::now() + INTERVAL;
        self.is_shown = true;
    }

    /// Shows that time passes until the work is done.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut ticks = interval_at(self.next, INTERVAL);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => self.show("working"),
            }
        }
    }
}

impl Drop for Progress {
    /// Removes the line.
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
