//! The conditions that a person should know of. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{Timestamp, written};
use crate::operator::reason::from_now;
use crate::operator::row::TokenRow;
use crate::operator::status::{AlertRow, Status};

/// The days before the end of a client secret or certificate on which there is an alert.
const DAYS: [u64; 4] = [30, 14, 7, 1];

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The minimum number of bounces in 24 hours for an alert, whatever their rate.
const BOUNCES: u64 = 10;

/// The table `[alerts]` of the configuration: when a condition is worth an alert.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AlertThresholds {
    /// The time for which a server may be held. Default: `"15m"`.
    #[serde(deserialize_with = "written::wait")]
    pub(crate) held_for: Duration,
    /// The age that the oldest message of the queue may have. Default: `"1h"`.
    #[serde(deserialize_with = "written::wait")]
    pub(crate) queue_age: Duration,
    /// The free space (octets) on the spool's disk below which there is an alert. Default: `268435456`.
    pub(crate) disk_free: u64,
    /// The bounced recipients of 24 hours, in percent of the deliveries, above which there is an alert. Default: `5`.
    pub(crate) bounce_rate: u64,
}

impl Default for AlertThresholds {
    /// A quarter of an hour lets temporary trouble pass. Microsoft blocks senders whose mail bounces often;
    /// 5 % is a usual bound.
    fn default() -> Self {
        Self {
            held_for: Duration::from_secs(900),
            queue_age: Duration::from_secs(3_600),
            disk_free: 256 * 1024 * 1024,
            bounce_rate: 5,
        }
    }
}

/// A problem that may be worth an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    /// The alert: its kind and subject are the cause, by which conditions are compared.
    pub(crate) alert: AlertRow,
    /// The time that the condition must last before it is worth an alert.
    pub(crate) after: Duration,
    /// Rises as the condition gets more urgent. A higher stage is a new alert.
    pub(crate) stage: u64,
}

impl Condition {
    /// Creates a condition that is worth an alert at once.
    fn new(kind: &str, subject: &str, since: Timestamp, what: String, remedy: String) -> Self {
        Self {
            alert: AlertRow {
                kind: kind.to_owned(),
                subject: subject.to_owned(),
                since,
                what,
                remedy,
            },
            after: Duration::ZERO,
            stage: 0,
        }
    }
}

/// Returns the present conditions. `clock` says what is wrong with this machine's clock.
pub(super) fn conditions(
    status: &Status,
    tokens: &[TokenRow],
    clock: Option<String>,
    thresholds: &AlertThresholds,
) -> Vec<Condition> {
    let now = status.now;
    let whole = |kind: &str, since, what: String, remedy: &str| {
        Condition::new(kind, "", since, what, remedy.to_owned())
    };
    let mut all: Vec<Condition> = tokens.iter().filter_map(|row| sign_in(row, now)).collect();
    all.extend(tokens.iter().filter_map(|row| renewal(row, now)));
    all.extend(held(status, tokens, thresholds.held_for));
    all.extend(credentials(tokens, now));
    if let Some(oldest) = status
        .oldest
        .filter(|oldest| now.since(*oldest) >= thresholds.queue_age)
    {
        let what = format!(
            "The oldest message has waited since {oldest}; {} messages wait.",
            status.queued
        );
        all.push(whole(
            "queue",
            oldest,
            what,
            "`mailferry queue list` says why each message waits.",
        ));
    }
    let free = status.disk_free.filter(|free| *free < thresholds.disk_free);
    let disk = match free {
        _ if !status.takes_messages => Some((
            1,
            "full: apps receive 452, and no mail is accepted".to_owned(),
        )),
        Some(free) => Some((0, format!("almost full: {} MB are free", free / 1_000_000))),
        None => None,
    };
    all.extend(disk.map(|(stage, state)| {
        let what = format!("The spool's disk is {state}.");
        let remedy = "Free some space on the disk of mailferry's data folder.";
        let disk = whole("disk", now, what, remedy);
        Condition { stage, ..disk }
    }));
    let day = &status.day;
    if day.bounced >= BOUNCES && day.bounced * 100 > thresholds.bounce_rate * day.delivered {
        let what = format!(
            "{} recipients bounced in the last 24 hours, of {} deliveries.",
            day.bounced, day.delivered
        );
        all.push(whole("bounces", now, what, "`mailferry trace --result bounced` lists them. Microsoft blocks senders whose mail bounces often."));
    }
    if let Some(words) = clock {
        let what = format!("The clock is wrong: {words}.");
        all.push(whole(
            "clock",
            now,
            what,
            "Certificates and tokens may be refused until the clock is right.",
        ));
    }
    all
}

fn sign_in(row: &TokenRow, now: Timestamp) -> Option<Condition> {
    let server = &row.server;
    let what = format!("Somebody has to sign in for server {server}.");
    let remedy = format!("Run `mailferry connect {server}`, or press Connect on the page.");
    row.needs_sign_in(now)
        .then(|| Condition::new("sign-in", server, now, what, remedy))
}

/// A token that cannot be renewed until a person fixes something, while the present one is still valid.
fn renewal(row: &TokenRow, now: Timestamp) -> Option<Condition> {
    let trouble = row.trouble.as_ref().filter(|_| row.needs_person)?;
    let what = format!("The token of server {} cannot be renewed.", row.server);
    let is_other = row.held.is_some() || row.needs_sign_in(now);
    (!is_other).then(|| Condition::new("token", &row.server, now, what, trouble.clone()))
}

/// Servers that are held. If somebody has to sign in, that is the alert.
fn held<'a>(
    status: &'a Status,
    tokens: &'a [TokenRow],
    after: Duration,
) -> impl Iterator<Item = Condition> + 'a {
    status.servers.iter().filter_map(move |server| {
        let hold = server.delivery.as_ref()?.hold.as_ref()?;
        let row = tokens.iter().find(|row| row.server == server.name);
        if row.is_some_and(|row| row.needs_sign_in(status.now)) {
            return None;
        }
        let what = format!(
            "Server {} is held and sends nothing. Waiting messages: {}.",
            server.name, server.queued
        );
        let held = Condition::new("held", &server.name, hold.since, what, hold.reason.clone());
        Some(Condition { after, ..held })
    })
}

fn credentials(tokens: &[TokenRow], now: Timestamp) -> Vec<Condition> {
    let mut all: Vec<Condition> = Vec::new();
    for row in tokens {
        let (Some(oauth), Some(end)) = (&row.oauth, row.credential_expires) else {
            continue;
        };
        let left = end.since(now);
        let passed = DAYS.iter().filter(|days| left <= DAY * **days as u32);
        let stage = passed.count() as u64 + u64::from(end <= now);
        if stage == 0 || all.iter().any(|known| known.alert.subject == *oauth) {
            continue;
        }
        let what = if end <= now {
            format!("The client secret or certificate of [oauth.{oauth}] expired on {end}.")
        } else {
            let left = from_now(end, now);
            format!("The client secret or certificate of [oauth.{oauth}] expires on {end}, {left}.")
        };
        let remedy = "Make a new one in the Entra admin center and configure it. mailferry accepts an old and a new one at the same time.";
        let ending = Condition::new("credential", oauth, now, what, remedy.to_owned());
        all.push(Condition { stage, ..ending });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_701_600_000);

    fn status() -> Status {
        Status {
            now: NOW,
            queued: 2,
            disk_free: Some(u64::MAX),
            takes_messages: true,
            ..Status::default()
        }
    }

    fn kinds(status: &Status, tokens: &[TokenRow], clock: Option<&str>) -> Vec<(String, u64)> {
        let clock = clock.map(str::to_owned);
        let found = conditions(status, tokens, clock, &AlertThresholds::default());
        found
            .into_iter()
            .map(|it| (it.alert.kind, it.stage))
            .collect()
    }

    #[tokio::test]
    async fn each_condition_has_its_threshold() {
        assert_eq!(kinds(&status(), &[], None), []);
        let mut it = status();
        it.oldest = Some(NOW.before(Duration::from_secs(3_600)));
        it.disk_free = Some(1_000_000);
        it.day.bounced = 10;
        it.day.delivered = 199;
        let all = ["queue", "disk", "bounces", "clock"].map(|kind| (kind.to_owned(), 0));
        assert_eq!(kinds(&it, &[], Some("it is 10m ahead")), all);
        it.oldest = Some(NOW.before(Duration::from_secs(3_599)));
        it.takes_messages = false;
        it.day.delivered = 200;
        assert_eq!(kinds(&it, &[], None), [("disk".to_owned(), 1)]);
        let mut row = TokenRow::of("a", None).await;
        row.oauth = Some("contoso".into());
        let stage = |row: &mut TokenRow, days: u64| {
            row.credential_expires = Some(NOW.after(DAY * days as u32));
            kinds(&status(), std::slice::from_ref(row), None)
        };
        let of = |stage| vec![("credential".to_owned(), stage)];
        assert_eq!(stage(&mut row, 31), []);
        assert_eq!(stage(&mut row, 30), of(1));
        assert_eq!(stage(&mut row, 7), of(3));
        assert_eq!(stage(&mut row, 1), of(4));
        assert_eq!(stage(&mut row, 0), of(5));
        let twice = [row.clone(), row];
        assert_eq!(
            kinds(&status(), &twice, None).len(),
            1,
            "one app registration"
        );
    }
}
