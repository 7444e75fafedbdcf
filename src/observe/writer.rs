//! The buffer between the program and standard error. Lines gather for a moment, so that many are written
//! at once; a warning is written immediately, together with the lines before it. Code that logs never
//! waits: if standard error is not read, lines are dropped and counted.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::maillog;

/// How long lines gather before they are written. A kill -9 may lose the lines of this time, but the spool's
/// stories still have the facts.
const GATHER: Duration = Duration::from_millis(20);

/// Once this many octets have gathered, they are written without waiting for more.
const ENOUGH: usize = 64 * 1024;

/// Maximum number of octets that may wait to be written: several thousand lines.
const MOST: usize = 1024 * 1024;

/// The longest time that the program waits at its end for its last lines to be written.
const LAST: Duration = Duration::from_secs(1);

/// The destination of log lines. All clones share one buffer.
#[derive(Clone)]
pub(super) struct Buffered(Arc<LogQueue>);

#[derive(Default)]
struct LogQueue {
    state: Mutex<LogBuffer>,
    changed: Condvar,
}

#[derive(Default)]
struct LogBuffer {
    lines: Vec<u8>,
    is_urgent: bool,
    is_writing: bool,
    dropped: u64,
}

impl Buffered {
    /// Starts a thread that writes the lines to `out`.
    pub(super) fn new(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared: Arc<LogQueue> = Arc::default();
        let writing = shared.clone();
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || writing.write_to(out))?;
        Ok(Self(shared))
    }

    /// Waits until all lines are written, but no longer than [`LAST`].
    pub(super) fn flush(&self) {
        let end = Instant::now() + LAST;
        let mut state = self.0.state();
        state.is_urgent = true;
        self.0.changed.notify_all();
        while !state.lines.is_empty() || state.is_writing {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.wait(state, left);
        }
    }
}

impl LogQueue {
    fn state(&self) -> MutexGuard<'_, LogBuffer> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(
        &'s self,
        state: MutexGuard<'s, LogBuffer>,
        time: Duration,
    ) -> MutexGuard<'s, LogBuffer> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn write_to(&self, mut out: impl Write) {
        loop {
            let (lines, dropped) = self.gathered();
            // There is no place to report that the log cannot be written.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
            self.state().is_writing = false;
            self.changed.notify_all();
            if dropped > 0 {
                maillog::lines_dropped(dropped);
            }
        }
    }

    /// Waits for lines to gather. Returns them, and the number of lines that were dropped in the meantime.
    fn gathered(&self) -> (Vec<u8>, u64) {
        let mut state = self.state();
        while state.lines.is_empty() {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let end = Instant::now() + GATHER;
        while !state.is_urgent && state.lines.len() < ENOUGH {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.wait(state, left);
        }
        state.is_urgent = false;
        state.is_writing = true;
        let dropped = std::mem::take(&mut state.dropped);
        (std::mem::take(&mut state.lines), dropped)
    }

    fn push(&self, line: &[u8], is_urgent: bool) {
        let mut state = self.state();
        if state.lines.len() + line.len() > MOST {
            state.dropped += 1;
            return;
        }
        let begins = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        state.is_urgent |= is_urgent;
        let is_enough = state.lines.len() >= ENOUGH;
        drop(state);
        if begins || is_urgent || is_enough {
            self.changed.notify_all();
        }
    }
}

/// Receives one line; tracing writes each line in a single call.
pub(super) struct LogLine<'a> {
    shared: &'a LogQueue,
    is_urgent: bool,
}

impl<'a> MakeWriter<'a> for Buffered {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine {
            shared: &self.0,
            is_urgent: false,
        }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Self::Writer {
        LogLine {
            shared: &self.0,
            is_urgent: *of.level() <= Level::WARN,
        }
    }
}

impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.push(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Passes each write to the test, and returns only when the test allows it.
    struct Slow {
        written: mpsc::Sender<Vec<u8>>,
        go_on: mpsc::Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            self.written
                .send(lines.to_vec())
                .map_err(io::Error::other)?;
            self.go_on.recv().map_err(io::Error::other)?;
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_never_waits_for_whoever_reads() {
        let (written, writes) = mpsc::channel();
        let (go, go_on) = mpsc::channel();
        let log = Buffered::new(Slow { written, go_on }).unwrap();
        log.0.push(b"first\n", true);
        assert_eq!(writes.recv().unwrap(), b"first\n");
        // Nothing more is read: some lines wait, and the others are dropped and counted.
        let line = [b'x'; 1_000];
        for _ in 0..2_000 {
            log.0.push(&line, false);
        }
        let state = log.0.state();
        assert!(state.lines.len() <= MOST);
        assert_eq!(
            state.dropped as usize,
            2_000 - state.lines.len() / line.len()
        );
        drop(state);
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert_eq!(writes.recv().unwrap().len() % line.len(), 0);
        log.flush();
    }
}
