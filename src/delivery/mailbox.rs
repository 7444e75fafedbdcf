//! Applies findings about a mailbox to its desk, and logs them.

use std::sync::Arc;

use super::desk::Probe;
use super::hold::{Hold, HoldCause};
use super::plan::{Plan, ServerEntry};
use super::usage::BackOff;
use super::world::World;
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::transport::{Finding, Patience, Until};

/// With [`Patience::Hours`], the longest pause is this many times as long as usual.
const HOURS: u32 = 8;

impl World {
    /// Updates a server's mailbox after an attempt. Without a finding, only `was_accepted` matters.
    pub(super) fn note(
        &self,
        plan: &Plan,
        entry: &ServerEntry,
        finding: Option<Finding>,
        was_accepted: bool,
    ) {
        let (desk, name, now) = (&entry.desk, entry.name(), self.clock.now());
        let is_in = finding.as_ref().map_or(was_accepted, Finding::is_signed_in);
        if is_in && desk.is_well() {
            self.tell_of_pause(desk);
            maillog::server_released(name);
            self.wake();
        }
        let Some(finding) = finding else { return };
        // If the mailbox is already held, another session has run into the same trouble, and no further hold
        // is needed.
        let is_free = !desk.is_held();
        match finding {
            Finding::Crowded(reason) => maillog::server_crowded(name, &reason),
            Finding::TooFast(reason) => {
                maillog::server_crowded(name, &reason);
                if let Some(most) = desk.limits().per_minute {
                    self.spool.exhaust(desk.name(), most, now);
                }
                if !desk.exhaust(now) {
                    self.slow(plan, entry, Patience::Minutes, (HoldCause::Limit, reason));
                }
            }
            Finding::Slowed(patience, reason) if is_free => {
                let cause = match patience {
                    Patience::Minutes => HoldCause::Fault,
                    Patience::Hours => HoldCause::Limit,
                };
                self.slow(plan, entry, patience, (cause, reason));
            }
            Finding::Held(until, reason) if is_free => {
                let cause = match until {
                    Until::Probe => HoldCause::Fault,
                    Until::For(_) => HoldCause::Limit,
                };
                self.hold(entry, now.after(until.lasts()), (cause, reason));
            }
            Finding::TokenRefused(reason) if is_free => {
                let until = now.after(Until::Probe.lasts());
                self.hold(entry, until, (HoldCause::Fault, reason));
            }
            Finding::Slowed(..) | Finding::Held(..) | Finding::TokenRefused(_) => {}
            Finding::SenderRefused {
                sender,
                answer,
                remedy,
            } => desk.refuse(sender, (answer, remedy), now),
            Finding::ExternalHeld(time, reason) => {
                self.hold_external(entry, now.after(time), reason);
            }
        }
    }

    /// Holds a mailbox until the given time. Messages that wait for the mailbox return to the spool.
    fn hold(&self, entry: &ServerEntry, until: Timestamp, (cause, reason): (HoldCause, String)) {
        maillog::server_held(entry.name(), self.clock.shown(until), &reason);
        entry.desk.hold(Hold {
            since: self.clock.now(),
            until: Some(until),
            cause,
            reason,
        });
        self.tell_of_pause(&entry.desk);
        self.give_back(&entry.desk);
    }

    /// Holds a mailbox for a while, longer each time.
    fn slow(
        &self,
        plan: &Plan,
        entry: &ServerEntry,
        patience: Patience,
        (cause, reason): (HoldCause, String),
    ) {
        let usual = plan.settings.options.back_off;
        let back_off = match patience {
            Patience::Minutes => usual,
            Patience::Hours => BackOff {
                longest: usual.longest.saturating_mul(HOURS),
                ..usual
            },
        };
        let (now, desk) = (self.clock.now(), &entry.desk);
        let until = desk.slow(&back_off, (cause, reason.clone()), now, rand::random());
        maillog::server_slowed(entry.name(), self.clock.shown(until), &reason);
        self.tell_of_pause(desk);
        self.give_back(desk);
    }

    /// Holds a mailbox until its limit per day allows more. The wait can take hours, so operators see it as a
    /// hold.
    pub(super) fn hold_for_day(&self, entry: &ServerEntry, until: Timestamp) {
        let most = entry.desk.limits().per_day.unwrap_or_default();
        let reason = format!(
            "the daily limit of {most} recipients is reached; sending continues at {}. Spread the mail over more \
             mailboxes, or raise `recipients_per_day` if Exchange allows more",
            self.clock.shown(until)
        );
        self.hold(entry, until, (HoldCause::Limit, reason));
    }

    /// Holds a mailbox until an operator releases it.
    pub(super) fn hold_by_hand(&self, entry: &ServerEntry, reason: String) {
        maillog::server_held_by_hand(entry.name(), &reason);
        entry.desk.hold(Hold {
            since: self.clock.now(),
            until: None,
            cause: HoldCause::Operator,
            reason,
        });
        self.give_back(&entry.desk);
    }

    fn hold_external(&self, entry: &ServerEntry, until: Timestamp, reason: String) {
        let tenant = entry.tenant();
        maillog::external_held(tenant, self.clock.shown(until), &reason);
        self.desks.hold_external(tenant, until, reason);
    }

    /// Ends the holds that are over. Returns the time at which the next one ends.
    pub(super) fn end_holds(&self, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
        let held = plan
            .entries()
            .into_iter()
            .filter(|entry| entry.desk.is_held());
        let ends = held.filter_map(|entry| {
            if entry.desk.end_hold(self.holds_over(now)) {
                maillog::server_probing(entry.name());
            }
            // A hold that is over for the node that leads is looked at again in the next round.
            entry.desk.held()?.until.filter(|until| *until > now)
        });
        ends.min()
    }

    /// Ends a mailbox's hold early, but an operator's hold only if `also_by_hand` is true. Returns true if a
    /// hold has ended. The messages that caused the hold become due soon, behind other messages.
    pub(super) fn release_hold(self: &Arc<Self>, entry: &ServerEntry, also_by_hand: bool) -> bool {
        let was_held = entry.desk.release(also_by_hand);
        if was_held {
            self.tell_of_pause(&entry.desk);
            maillog::server_probing(entry.name());
            let (world, suspects) = (self.clone(), entry.desk.take_suspects());
            tokio::spawn(async move { world.try_at_once(suspects).await });
        }
        self.wake();
        was_held
    }

    /// Handles a repair: a person has fixed something about a server. The server's token is requested again
    /// when it is next needed. The server's mailbox is used again at once, unless an operator holds the
    /// mailbox.
    pub(super) fn mended(self: &Arc<Self>, entry: &ServerEntry) {
        if let Some(token) = &entry.server.upstream.token {
            token.clear_failure();
        }
        self.release_hold(entry, false);
    }

    /// Ends a probe, if there is one, and wakes the scheduler, because other messages may go now.
    pub(super) fn end_probe(&self, probe: Option<Probe>) {
        if probe.is_some() {
            drop(probe);
            self.wake();
        }
    }
}
