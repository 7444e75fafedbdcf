//! Holds that several nodes share. A node that holds a mailbox writes a note; the others read the notes now and then, and
//! hold the mailbox too. When a hold's time is over, the node that leads probes the mailbox for all, and removes the
//! note when the server accepts a message again.

use std::sync::Arc;
use std::time::Duration;

use super::desk::Desk;
use super::desks::NOTE;
use super::hold::Hold;
use super::hold_notes::{note, read};
use super::world::World;
use crate::base::Timestamp;
use crate::observe::maillog;
use crate::spool::SpoolError;

/// The prefix of the names of holds that end by themselves. Operators' holds have another one.
const PAUSE: &str = "hold-until/";

/// How long a node that does not lead waits for the leader's probe, before it probes itself.
const PROBED: Duration = Duration::from_secs(60);

impl World {
    /// Follows the holds that other nodes have begun or ended since the notes were last read.
    pub(super) async fn follow_holds(self: &Arc<Self>) -> Result<(), SpoolError> {
        if !self.spool.is_shared() {
            return Ok(());
        }
        let mut known = self.known_holds.lock().await;
        let notes = read(self.spool.as_ref()).await?;
        let former = std::mem::replace(&mut *known, notes);
        for (name, value) in known.iter() {
            if former.get(name) != Some(value) {
                self.follow(name, value);
            }
        }
        for name in former.keys().filter(|name| !known.contains_key(*name)) {
            let by_hand = name.starts_with(NOTE);
            if let Some(desk) = self.desk_of(name)
                && desk.release(by_hand)
            {
                maillog::server_released(desk.name());
                self.wake();
            }
        }
        Ok(())
    }

    /// Holds a mailbox because another node does.
    fn follow(self: &Arc<Self>, name: &str, value: &str) {
        let (Some(desk), Ok(hold)) = (self.desk_of(name), serde_json::from_str::<Hold>(value))
        else {
            return;
        };
        let is_over = hold.until.is_some_and(|until| until <= self.clock.now());
        if is_over || desk.held().as_ref() == Some(&hold) {
            return;
        }
        let until = hold.until.unwrap_or(hold.since);
        maillog::server_held(desk.name(), self.clock.shown(until), &hold.reason);
        desk.hold(hold);
        self.give_back(&desk);
    }

    fn desk_of(&self, note: &str) -> Option<Arc<Desk>> {
        let mailbox = note.strip_prefix(NOTE).or(note.strip_prefix(PAUSE))?;
        self.desks.all().into_iter().find(|it| it.name() == mailbox)
    }

    /// Tells the other nodes that a mailbox is held for a time, or not any more.
    pub(super) fn tell_of_pause(&self, desk: &Desk) {
        if !self.spool.is_shared() {
            return;
        }
        let (spool, known) = (self.spool.clone(), self.known_holds.clone());
        let name = format!("{PAUSE}{}", desk.name());
        let hold = desk.held().filter(|hold| hold.until.is_some());
        let value = hold.and_then(|hold| serde_json::to_string(&hold).ok());
        tokio::spawn(async move {
            if let Err(error) = note(spool.as_ref(), &known, name, value).await {
                maillog::claim_failed("", &error);
            }
        });
    }

    /// Stores an operator's hold of a mailbox for the next run, and for the other nodes. If no operator holds the mailbox,
    /// removes the stored hold.
    pub(super) async fn note_hold(&self, desk: &Desk) -> Result<(), SpoolError> {
        let by_hand = desk.held().filter(|hold| hold.until.is_none());
        let value = by_hand.and_then(|hold| serde_json::to_string(&hold).ok());
        let former = format!("{NOTE}{}", desk.former_name());
        self.spool.note(&former, None).await?;
        let name = format!("{NOTE}{}", desk.name());
        note(self.spool.as_ref(), &self.known_holds, name, value).await
    }

    /// Ends the hold of a mailbox for all nodes, even if this node has not heard of it yet. Returns true if it was held.
    pub(super) async fn end_shared_hold(&self, desk: &Desk) -> Result<bool, SpoolError> {
        if !self.spool.is_shared() {
            return Ok(false);
        }
        let mut was_held = false;
        for prefix in [NOTE, PAUSE] {
            let name = format!("{prefix}{}", desk.name());
            let notes = self.spool.notes(&name).await?;
            if notes.iter().any(|(its, _)| *its == name) {
                was_held = true;
                note(self.spool.as_ref(), &self.known_holds, name, None).await?;
            }
        }
        Ok(was_held)
    }

    /// Returns the time up to which holds are over for this node: a node that does not lead waits for the leader.
    pub(super) fn holds_over(&self, now: Timestamp) -> Timestamp {
        if self.spool.is_shared() && !self.spool.leads() {
            now.before(PROBED)
        } else {
            now
        }
    }
}
