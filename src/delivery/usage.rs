//! Counts how much of a mailbox's limits is used up, and decides how long the mailbox pauses after trouble.
//! Pure.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

/// The limits of one mailbox (`transport/smtp/exchange_online.md`, "Limits per mailbox").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxLimits {
    /// Simultaneous sessions.
    pub sessions: usize,
    /// Messages in any minute; `None` for no limit.
    pub per_minute: Option<usize>,
    /// Recipients in any 24 hours; `None` for no limit.
    pub per_day: Option<u64>,
    /// Recipients of one message.
    pub recipients: usize,
}

impl MailboxLimits {
    /// Combines the limits that two servers set for one mailbox: the stricter limit applies.
    pub fn stricter(self, other: Self) -> Self {
        fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }
        Self {
            sessions: self.sessions.min(other.sessions),
            per_minute: least(self.per_minute, other.per_minute),
            per_day: least(self.per_day, other.per_day),
            recipients: self.recipients.min(other.recipients),
        }
    }
}

/// How long a message counts towards the limit per minute: a minute, and a margin because one message may
/// take longer to reach the server than another.
const WINDOW: Duration = Duration::from_secs(61);

/// At startup, at most this many of the messages that an earlier run sent within the last minute are restored.
const RESTORED: usize = 1_000;

/// Recipients within this period are counted together.
const SLICE: Duration = Duration::from_secs(300);

/// How long a recipient counts towards the limit per day, from the beginning of its slice: a slice counts as long as a
/// recipient at its very end would.
pub(crate) const COUNTED: Duration = Duration::from_secs(24 * 3_600 + SLICE.as_secs());

/// How long a mailbox pauses after trouble with a server. The pause doubles each time, up to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for BackOff {
    /// From half a minute to a quarter of an hour.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(30),
            longest: Duration::from_secs(900),
        }
    }
}

impl BackOff {
    /// Returns the pause after this many troubles in a row. `random` in 0..1 makes the pause up to a quarter
    /// longer, so that mailboxes do not all resume at the same time.
    pub fn rest(&self, troubles: u32, random: f64) -> Duration {
        let doubled = 1u32.checked_shl(troubles.saturating_sub(1).min(16));
        let rest = self.first.saturating_mul(doubled.unwrap_or(u32::MAX));
        rest.min(self.longest.max(self.first))
            .mul_f64(1.0 + random / 4.0)
    }
}

/// The usage of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// The time at which each message of the last minute was sent.
    sent: VecDeque<Timestamp>,
    /// The recipients of the last day, in slices: the start of each slice and its number of recipients.
    day: VecDeque<(Timestamp, u64)>,
    /// How many times in a row there was trouble.
    troubles: u32,
}

/// The usage that counts towards the limits of one mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    /// The number of recipients in the last 24 hours.
    pub(crate) recipients_of_day: u64,
    /// The number of messages in the last minute; zero if they are not limited.
    pub(crate) messages_of_minute: usize,
    /// The time until which the limit per minute is used up, if it is.
    pub(crate) minute_until: Option<Timestamp>,
}

impl Usage {
    /// Counts a message to this many recipients. If that would exceed a limit, does not count it, and returns
    /// the time at which it may go.
    pub(crate) fn admit(
        &mut self,
        limits: &MailboxLimits,
        recipients: u64,
        now: Timestamp,
    ) -> Result<(), Timestamp> {
        if let Some(at) = self.wait_for_minute(limits, now) {
            return Err(at);
        }
        if let Some(at) = self.wait_for_day(limits, recipients, now) {
            return Err(at);
        }
        if limits.per_minute.is_some() {
            self.sent.push_back(now);
        }
        if limits.per_day.is_some() {
            self.count(recipients, now);
        }
        Ok(())
    }

    /// Stops counting this many recipients of a message that was admitted at `at`, because they cannot have
    /// got it. If `unsent` is true, the message reached no recipient, and does not count towards the limit
    /// per minute either.
    pub(crate) fn take_back(&mut self, recipients: u64, unsent: bool, at: Timestamp) {
        if unsent && let Some(place) = self.sent.iter().rposition(|sent| *sent == at) {
            self.sent.remove(place);
        }
        let mut slices = self.day.iter_mut().rev();
        if let Some((_, count)) = slices.find(|(began, _)| *began <= at) {
            *count = count.saturating_sub(recipients);
        }
    }

    /// Adds usage from an earlier run: all its recipients are counted at `at`, and all its messages at
    /// `last`.
    pub(crate) fn restore(
        &mut self,
        messages: u64,
        recipients: u64,
        at: Timestamp,
        last: Timestamp,
    ) {
        let messages = usize::try_from(messages)
            .unwrap_or(usize::MAX)
            .min(RESTORED);
        self.sent.extend(std::iter::repeat_n(last, messages));
        // A change of the clock may have put the times out of order.
        self.sent.make_contiguous().sort_unstable();
        self.count(recipients, at);
    }

    /// Uses up the limit per minute, because the server says that the mailbox was too fast: nothing is sent
    /// until a minute has passed.
    pub(crate) fn exhaust(&mut self, limits: &MailboxLimits, now: Timestamp) {
        if let Some(most) = limits.per_minute {
            self.sent.clear();
            self.sent.extend(std::iter::repeat_n(now, most));
        }
    }

    /// Notes trouble with the server. Returns how long to pause.
    pub(crate) fn trouble(&mut self, back_off: &BackOff, random: f64) -> Duration {
        self.troubles = self.troubles.saturating_add(1);
        back_off.rest(self.troubles, random)
    }

    /// Notes success with the server: the next trouble counts as the first again.
    pub(crate) fn well(&mut self) {
        self.troubles = 0;
    }

    /// Returns the usage that counts towards the limits at present.
    pub(crate) fn spent(&self, limits: &MailboxLimits, now: Timestamp) -> Spent {
        Spent {
            recipients_of_day: self.of_day(now),
            messages_of_minute: limits.per_minute.map_or(0, |_| self.of_minute(now)),
            minute_until: self.minute_until(limits, now),
        }
    }

    /// The number of recipients in the last 24 hours.
    pub(crate) fn of_day(&self, now: Timestamp) -> u64 {
        let counts = self.day.iter().filter(|(began, _)| is_of_day(*began, now));
        counts.map(|(_, count)| count).sum()
    }

    /// The number of messages in the last minute.
    pub(crate) fn of_minute(&self, now: Timestamp) -> usize {
        let counts = self.sent.iter().filter(|at| now < at.after(WINDOW));
        counts.count()
    }

    /// The time until which the limit per minute is used up, if it is.
    fn minute_until(&self, limits: &MailboxLimits, now: Timestamp) -> Option<Timestamp> {
        let most = limits.per_minute?.max(1);
        let counts = self.sent.iter().filter(|at| now < at.after(WINDOW));
        let counts: Vec<&Timestamp> = counts.collect();
        let blocks = counts.len().checked_sub(most)?;
        Some(counts[blocks].after(WINDOW))
    }

    fn wait_for_minute(&mut self, limits: &MailboxLimits, now: Timestamp) -> Option<Timestamp> {
        let most = limits.per_minute?;
        while self.sent.front().is_some_and(|at| now >= at.after(WINDOW)) {
            self.sent.pop_front();
        }
        let over = (self.sent.len() + 1).checked_sub(most.max(1))?;
        let blocks = over.checked_sub(1)?;
        self.sent.get(blocks).map(|at| at.after(WINDOW))
    }

    fn wait_for_day(
        &mut self,
        limits: &MailboxLimits,
        recipients: u64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let most = limits.per_day?;
        while self
            .day
            .front()
            .is_some_and(|(began, _)| !is_of_day(*began, now))
        {
            self.day.pop_front();
        }
        // A message to more recipients than the limit is admitted once nothing else counts; the server judges
        // it.
        let mut over = (self.of_day(now) + recipients).checked_sub(most.max(recipients))?;
        if over == 0 {
            return None;
        }
        for (began, count) in &self.day {
            over = over.saturating_sub(*count);
            if over == 0 {
                return Some(began.after(COUNTED));
            }
        }
        None
    }

    fn count(&mut self, recipients: u64, at: Timestamp) {
        match self.day.back_mut() {
            Some((began, count)) if at < began.after(SLICE) => *count += recipients,
            _ => self.day.push_back((at, recipients)),
        }
    }
}

/// True if a slice still counts.
fn is_of_day(began: Timestamp, now: Timestamp) -> bool {
    now < began.after(COUNTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: MailboxLimits = MailboxLimits {
        sessions: 3,
        per_minute: Some(30),
        per_day: Some(100),
        recipients: 500,
    };

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000)
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_when_it_may() {
        let limits = MailboxLimits {
            per_day: None,
            ..LIMITS
        };
        let mut usage = Usage::default();
        for _ in 0..30 {
            assert_eq!(usage.admit(&limits, 1, seconds(0)), Ok(()));
        }
        assert_eq!(usage.admit(&limits, 1, seconds(10)), Err(seconds(61)));
        assert_eq!(usage.minute_until(&limits, seconds(10)), Some(seconds(61)));
        assert_eq!(usage.minute_until(&limits, seconds(61)), None);
        assert_eq!(usage.admit(&limits, 1, seconds(61)), Ok(()));
        usage.exhaust(&limits, seconds(70));
        assert_eq!(usage.admit(&limits, 1, seconds(71)), Err(seconds(131)));
    }

    #[test]
    fn the_recipients_of_a_day_are_counted() {
        let mut usage = Usage::default();
        usage.admit(&LIMITS, 60, seconds(0)).unwrap();
        assert_eq!(usage.admit(&LIMITS, 30, seconds(3_600)), Ok(()));
        let again = Timestamp(0).after(COUNTED);
        assert_eq!(usage.admit(&LIMITS, 20, seconds(7_200)), Err(again));
        assert_eq!(usage.of_day(seconds(7_200)), 90);
        assert_eq!(usage.admit(&LIMITS, 20, again), Ok(()));
        let mut restored = Usage::default();
        restored.restore(40, 60, seconds(0), seconds(200));
        assert_eq!(restored.admit(&LIMITS, 1, seconds(210)), Err(seconds(261)));
        assert_eq!(restored.admit(&LIMITS, 50, seconds(7_200)), Err(again));
        let huge = usage.admit(&LIMITS, 500, again.after(COUNTED + COUNTED));
        assert_eq!(huge, Ok(()), "more than a day's at once");
    }

    #[test]
    fn what_reached_nobody_does_not_count() {
        let mut usage = Usage::default();
        for _ in 0..200 {
            assert_eq!(usage.admit(&LIMITS, 100, seconds(0)), Ok(()));
            usage.take_back(100, true, seconds(0));
        }
        assert_eq!(usage.of_day(seconds(1)), 0);
        assert_eq!(usage.minute_until(&LIMITS, seconds(1)), None);
        usage.admit(&LIMITS, 10, seconds(2)).unwrap();
        usage.take_back(4, false, seconds(2));
        assert_eq!(usage.of_day(seconds(3)), 6);
        assert_eq!(usage.sent.len(), 1);
    }

    #[test]
    fn a_server_in_trouble_is_asked_less_and_less() {
        let back_off = BackOff::default();
        let rests = [1, 2, 3, 4, 8, 99].map(|troubles| back_off.rest(troubles, 0.0).as_secs());
        assert_eq!(rests, [30, 60, 120, 240, 900, 900]);
        assert_eq!(back_off.rest(1, 1.0).as_millis(), 37_500);
        let mut usage = Usage::default();
        usage.trouble(&back_off, 0.0);
        assert_eq!(usage.trouble(&back_off, 0.0).as_secs(), 60);
        usage.well();
        assert_eq!(usage.trouble(&back_off, 0.0).as_secs(), 30);
    }

    proptest! {
        /// A client that always retries at the given time never exceeds the limit in any minute, and loses
        /// no time.
        #[test]
        fn no_minute_has_too_many(
            most in 1usize..40,
            before in prop::collection::vec(-200_000i64..=0, 0..80),
            pauses in prop::collection::vec(0i64..5_000, 1..200),
        ) {
            let limits = MailboxLimits { per_minute: Some(most), per_day: None, ..LIMITS };
            let (mut usage, mut now, mut sent) = (Usage::default(), Timestamp(0), Vec::new());
            for at in before {
                usage.restore(1, 1, Timestamp(at), Timestamp(at));
            }
            for pause in pauses {
                now = Timestamp(now.0 + pause);
                if let Err(at) = usage.admit(&limits, 1, now) {
                    prop_assert!(at > now);
                    now = at;
                    prop_assert_eq!(usage.admit(&limits, 1, now), Ok(()));
                }
                sent.push(now);
            }
            for window in sent.windows(most + 1) {
                prop_assert!(window[most].0 - window[0].0 >= WINDOW.as_millis() as i64);
            }
        }
    }
}
