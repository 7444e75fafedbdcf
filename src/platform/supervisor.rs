//! Messages to the service manager, by the protocol of systemd (sd_notify(3)). If there is no
//! service manager, or it wants no messages, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// The process has started, and serves clients.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The process stops.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Sends a line for people, which `systemctl status` shows, and says that the process is alive.
pub(crate) fn alive(status: &str) {
    tell(&[NotifyState::Status(status), NotifyState::Watchdog]);
}

/// Returns the time after which a silent process is restarted, if the service manager does that.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(state: &[NotifyState]) {
    // Without the message the service manager acts by its own timeouts; there is nobody else to tell.
    let _ = sd_notify::notify(state);
}
