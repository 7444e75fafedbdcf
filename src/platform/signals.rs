//! What the system or a terminal tells the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessSignal {
    /// To end: SIGTERM, or Ctrl-C.
    End,
    /// To read its configuration again: SIGHUP.
    Reload,
}

/// Receives what the process is told.
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

    /// The next one.
    pub(crate) async fn next(&mut self) -> ProcessSignal {
        tokio::select! {
            _ = self.terminate.recv() => ProcessSignal::End,
            _ = self.interrupt.recv() => ProcessSignal::End,
            _ = self.hangup.recv() => ProcessSignal::Reload,
        }
    }
}

/// Receives Ctrl-C alone.
pub(crate) struct Interrupt(Signal);

impl Interrupt {
    /// Catches Ctrl-C from now on.
    pub(crate) fn catch() -> io::Result<Self> {
        signal(SignalKind::interrupt()).map(Self)
    }

    /// Waits for it.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}
