//! The state of the whole program for people and monitoring to see. Pure, except for [`ProgramInfo`], which the
//! program fills in as it starts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::process::DrainRow;
use super::row::{Light, TokenRow};
use crate::base::Timestamp;
use crate::delivery::ServerState;
use crate::observe::metrics::Totals;
use crate::routing::lane;
use crate::spool::{Count, NodeRow, SpoolMeasures};

/// The text for a disk whose free space has fallen to the reserve.
const LOW_SPACE: &str = "too little free disk space for new messages";

/// Facts about the running program that change only on a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramInfo {
    /// The version of the running program.
    pub version: String,
    /// The name of this host, as `host` in the configuration.
    pub host: String,
    /// The time at which the program started.
    pub since: Timestamp,
    /// The path of the configuration file.
    pub configuration: String,
    /// The time at which the configuration was read.
    pub configured: Timestamp,
    /// The listeners.
    pub listeners: Vec<ListenerRow>,
    /// The age (seconds) at which the oldest message of the queue is a warning: `[alerts] queue_age`.
    pub queue_age: u64,
}

/// The current [`ProgramInfo`].
pub(crate) type SharedInfo = Arc<ArcSwap<ProgramInfo>>;

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerRow {
    /// The listener's name.
    pub name: String,
    /// The address.
    pub address: String,
    /// The protocol: `smtp`, `imap` or `pop3`.
    pub protocol: String,
}

/// An active alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlertRow {
    /// The kind, such as `held`.
    pub kind: String,
    /// The server or app registration; empty if the alert concerns the whole program.
    pub subject: String,
    /// The time at which the condition began.
    pub since: Timestamp,
    /// The problem.
    pub what: String,
    /// The remedy.
    pub remedy: String,
}

/// The active alerts.
pub(crate) type SharedAlerts = Arc<ArcSwap<Vec<AlertRow>>>;

/// A server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerRow {
    /// The server's name.
    pub name: String,
    /// The state at a glance: `green`, `amber` or `red`.
    pub light: Light,
    /// The state of its tokens in words.
    pub token: String,
    /// The reason why it is held, or why no token can be obtained, with the remedy.
    pub reason: Option<String>,
    /// Delivery's view of it; `None` if it is for reading only.
    pub delivery: Option<ServerState>,
    /// The messages that wait for it.
    pub queued: usize,
    /// The messages that are held until a person acts.
    pub held: usize,
    /// The time at which the oldest of its messages was accepted. It may be half a minute out of date.
    pub oldest: Option<Timestamp>,
}

/// The state of the program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Facts about the running program.
    pub about: ProgramInfo,
    /// The time at which the status was taken.
    pub now: Timestamp,
    /// The servers, in the order of the configuration.
    pub servers: Vec<ServerRow>,
    /// The messages that wait.
    pub queued: usize,
    /// The messages that are held until a person acts.
    pub held: usize,
    /// The time at which the oldest message of the queue was accepted.
    pub oldest: Option<Timestamp>,
    /// The mail since the start.
    pub since_start: Totals,
    /// The mail of the last hour.
    pub hour: Totals,
    /// The mail of the last 24 hours.
    pub day: Totals,
    /// The mail of the last 30 days.
    pub month: Totals,
    /// The sessions with apps.
    pub sessions: usize,
    /// The octets that the spool takes on the disk.
    pub spool_used: u64,
    /// The octets that are free on the spool's disk, if the system reports them.
    pub disk_free: Option<u64>,
    /// True if the spool has room for another message.
    pub takes_messages: bool,
    /// The alerts that are active.
    pub alerts: Vec<AlertRow>,
    /// The nodes that share the spool, eldest first; none without `[spool] postgresql`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeRow>,
    /// How far this node is; `None` unless it is being taken out of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainRow>,
}

/// Puts together what is known of each server.
pub(crate) fn servers(
    rows: Vec<TokenRow>,
    mut states: Vec<ServerState>,
    counts: &[Count],
    now: Timestamp,
) -> Vec<ServerRow> {
    let names: HashSet<String> = rows.iter().map(|row| row.server.clone()).collect();
    // The mail of a mailbox without a row counts for the server, which signs in as each sender.
    let row_of = |count: &Count| match names.contains(&count.server) {
        true => count.server.clone(),
        false => lane::server(&count.server).to_owned(),
    };
    let mut sums: HashMap<String, (usize, usize)> = HashMap::new();
    for count in counts {
        let (queued, held) = sums.entry(row_of(count)).or_default();
        *queued += count.queued;
        *held += count.held;
    }
    let servers = rows.into_iter().map(|row| {
        let (light, token) = row.glance(now);
        let place = states.iter().position(|state| state.name == row.server);
        let (queued, held) = sums.remove(&row.server).unwrap_or_default();
        ServerRow {
            light,
            token,
            reason: row.reason().map(str::to_owned),
            delivery: place.map(|place| states.swap_remove(place)),
            queued,
            held,
            oldest: None,
            name: row.server,
        }
    });
    servers.collect()
}

/// Adds to each server the time at which its oldest message was accepted.
pub(crate) fn with_oldest(mut servers: Vec<ServerRow>, measures: &SpoolMeasures) -> Vec<ServerRow> {
    for server in &mut servers {
        let oldest = measures.oldest.iter();
        let oldest =
            oldest.filter(|(name, ..)| *name == server.name || lane::server(name) == server.name);
        let oldest = oldest.map(|(_, _, at)| *at).min();
        server.oldest = oldest.filter(|_| server.queued + server.held > 0);
    }
    servers
}

impl Status {
    /// The state at a glance: red if a server cannot be used or no mail can be accepted, amber if something needs attention.
    pub(crate) fn light(&self) -> Light {
        let lights = self.servers.iter().map(|server| server.light);
        let worst = lights.max().unwrap_or(Light::Green);
        let is_amber = !self.warnings().is_empty();
        let rest = match (self.takes_messages, is_amber) {
            (false, _) => Light::Red,
            (true, true) => Light::Amber,
            (true, false) => Light::Green,
        };
        worst.max(rest)
    }

    /// Returns the state in one sentence.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.light() {
            Light::Green => "All is well.",
            Light::Amber => "Mail flows, but something needs attention.",
            Light::Red if !self.takes_messages => "No mail can be accepted.",
            Light::Red => "At least one server cannot be used.",
        }
    }

    /// Returns one line for people.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{} waiting, {} held", self.queued, self.held);
        let red = self
            .servers
            .iter()
            .filter(|server| server.light == Light::Red);
        for server in red {
            line.push_str(&format!("; server {} cannot be used", server.name));
        }
        line
    }

    /// Returns the reasons why the program should get no more mail for now, for a load balancer.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.drain.is_some() {
            reasons.push("this node is being taken out of service".to_owned());
        }
        if !self.takes_messages {
            reasons.push(LOW_SPACE.to_owned());
        }
        let sending = self.servers.iter();
        let mut sending = sending
            .filter_map(|server| server.delivery.as_ref())
            .peekable();
        let is_unusable = |state: &ServerState| state.hold.is_some() || state.needs_sign_in;
        if sending.peek().is_some() && sending.all(is_unusable) {
            reasons.push("all sending servers are held or need a sign-in".to_owned());
        }
        if let Some(oldest) = self.too_old() {
            reasons.push(format!("the oldest message has waited since {oldest}"));
        }
        reasons
    }

    /// Returns the time at which the oldest message was accepted, if that is too long ago.
    fn too_old(&self) -> Option<Timestamp> {
        let most = Duration::from_secs(self.about.queue_age);
        self.oldest.filter(|oldest| self.now.since(*oldest) >= most)
    }

    /// Returns warnings that do not concern a single server.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.takes_messages {
            warnings.push(format!(
                "{LOW_SPACE}: apps receive 452; free some space on the spool's disk"
            ));
        }
        match &self.drain {
            None => {}
            Some(drain) if drain.is_done => warnings.push(
                "this node is drained: other nodes do its work; stop it, or put it back with `mailferry drain --undo`"
                    .to_owned(),
            ),
            Some(drain) => warnings.push(format!(
                "this node is being taken out of service since {}: {}",
                drain.since,
                drain.left()
            )),
        }
        if self.held > 0 {
            let them = if self.held == 1 {
                "message is"
            } else {
                "messages are"
            };
            warnings.push(format!(
                "{} {them} held until somebody acts: see `mailferry queue list --state held`",
                self.held
            ));
        }
        if let Some(oldest) = self.too_old() {
            warnings.push(format!(
                "the oldest message has waited since {oldest}: `mailferry queue list` says why"
            ));
        }
        // The others are among the servers and the warnings above.
        let others = ["credential", "bounces", "clock"];
        let others = self
            .alerts
            .iter()
            .filter(|alert| others.contains(&alert.kind.as_str()));
        warnings.extend(others.map(|alert| format!("{} {}", alert.what, alert.remedy)));
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(held: usize, oldest: Option<i64>) -> Status {
        let now = Timestamp(10_000_000);
        Status {
            about: ProgramInfo {
                queue_age: 3_600,
                ..ProgramInfo::default()
            },
            now,
            queued: 1,
            held,
            oldest: oldest.map(|ago| Timestamp(now.0 - ago * 1_000)),
            takes_messages: true,
            ..Status::default()
        }
    }

    #[test]
    fn a_warning_turns_the_light_amber() {
        assert_eq!(status(0, Some(3_599)).light(), Light::Green);
        assert_eq!(status(0, Some(3_600)).light(), Light::Amber);
        let held = status(2, None);
        assert_eq!((held.light(), held.warnings().len()), (Light::Amber, 1));
        assert!(held.warnings()[0].starts_with("2 messages are held"));
        assert_eq!(held.not_ready(), [""; 0]);
        let full = Status {
            takes_messages: false,
            ..status(0, Some(7_200))
        };
        assert_eq!((full.light(), full.not_ready().len()), (Light::Red, 2));
    }
}
