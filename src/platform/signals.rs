//! Signals that the system or a terminal sends to the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A request to the process, sent as a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessSignal {
    /// The process must end: SIGTERM, or Ctrl-C.
    End,
    /// The process must read its configuration again: SIGHUP.
    Reload,
}

/// Receives the signals of the process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches signals from now on.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> ProcessSignal {
        tokio::select! {
            _ = self.terminate.recv() => ProcessSignal::End,
            _ = self.interrupt.recv() => ProcessSignal::End,
            _ = self.hangup.recv() => ProcessSignal::Reload,
        }
    }
}

/// Receives only Ctrl-C.
pub(crate) struct Interrupt(Signal);

impl Interrupt {
    /// Catches Ctrl-C from now on.
    pub(crate) fn catch() -> io::Result<Self> {
        signal(SignalKind::interrupt()).map(Self)
    }

    /// Waits for Ctrl-C.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}
