//! The reason why a message waits, in words. Pure functions.

use crate::base::Timestamp;
use crate::delivery::ServerState;
use crate::spool::{Entry, State};

/// The state of the servers; `None` if mailferry is not running.
pub(crate) type Servers = Option<Vec<ServerState>>;

/// Returns the reason why a message waits; `None` while it is being sent.
pub(crate) fn reason(entry: &Entry, servers: &Servers, now: Timestamp) -> Option<String> {
    let record = &entry.record;
    if entry.lease.is_some() {
        return None;
    }
    let last = record.last.clone();
    if record.state == State::Held {
        return Some(last.unwrap_or_else(|| "held".to_owned()));
    }
    let Some(servers) = servers else {
        return Some("mailferry is not running".to_owned());
    };
    let server = servers.iter().find(|server| server.name == record.lane);
    if let Some(hold) = server.and_then(|server| Some((server, server.hold.as_ref()?))) {
        let (ServerState { name, .. }, hold) = hold;
        let until = match hold.until {
            Some(until) => format!("next try {until} ({})", from_now(until, now)),
            None => format!("until `mailferry release {name}`"),
        };
        return Some(format!(
            "server {name} is held since {}, {until}: {}",
            hold.since, hold.reason
        ));
    }
    if record.due > now {
        return Some(last.unwrap_or_else(|| "waits for its next attempt".to_owned()));
    }
    let paced = server.and_then(|server| Some((server, server.minute_until?)));
    if let Some((server, until)) = paced {
        let most = server.limits.per_minute.unwrap_or_default();
        let mailbox = &server.mailbox;
        return Some(format!(
            "mailbox {mailbox} may send {most} message{} a minute; the next one can be sent {}",
            if most == 1 { "" } else { "s" },
            from_now(until, now)
        ));
    }
    Some(last.unwrap_or_else(|| "waits for its turn".to_owned()))
}

/// Describes how long a message waits at the mailbox's sending rate if `before` messages of its server are
/// ahead of it.
pub(crate) fn pace(entry: &Entry, servers: &Servers, before: usize) -> Option<String> {
    let mut servers = servers.iter().flatten();
    let server = servers.find(|server| server.name == entry.record.lane)?;
    let (_, most) = (server.minute_until?, server.limits.per_minute?);
    let minutes = before.div_ceil(most.max(1));
    (before > 0)
        .then(|| format!("about {minutes} min at this pace: {before} messages are ahead of it"))
}

/// Returns a time relative to now, such as `in 3 min` or `2 h ago`.
pub(crate) fn from_now(at: Timestamp, now: Timestamp) -> String {
    let words = |seconds: u64| match seconds {
        0..=89 => format!("{seconds} s"),
        90..=5_399 => format!("{} min", seconds.div_ceil(60)),
        5_400..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    };
    if at >= now {
        format!("in {}", words(at.since(now).as_secs()))
    } else {
        format!("{} ago", words(now.since(at).as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let now = Timestamp(1_000_000_000);
        let at = |seconds: i64| from_now(Timestamp(now.0 + seconds * 1_000), now);
        assert_eq!(at(5), "in 5 s");
        assert_eq!(at(180), "in 3 min");
        assert_eq!(at(-7_200), "2 h ago");
        assert_eq!(at(259_200), "in 3 days");
    }
}
