//! The running delivery, as the rest of the program uses it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::direct::{self, DirectOutcome};
use super::hold::Hold;
use super::plan::{Plan, ServerEntry};
use super::returned::{self, Returned};
use super::settings::DeliverySettings;
use super::usage::{MailboxLimits, Spent, Usage};
use super::world::World;
use super::{scheduler, test};
use crate::base::{Clock, Timestamp};
use crate::message::{Address, DeliveryReport};
use crate::observe::maillog;
use crate::spool::{Content, Record, Spool, SpoolError, Used};
use crate::transport::{Steps, Transport};

/// How often [`Delivery::stop`] checks whether everything is quiet.
const RECHECK: Duration = Duration::from_millis(100);

/// A server's state as an operator sees it, in wall-clock time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// The server's name.
    pub name: String,
    /// The user name that signs in; empty if the server needs no sign-in.
    pub mailbox: String,
    /// The mailbox's limits.
    pub limits: MailboxLimits,
    /// The number of recipients in the last 24 hours.
    pub recipients_of_day: u64,
    /// The number of messages in the last minute; zero if they are not limited.
    #[serde(default)]
    pub messages_of_minute: usize,
    /// The time until which the limit per minute is used up, if it is.
    pub minute_until: Option<Timestamp>,
    /// The hold, if the server is held.
    pub hold: Option<Hold>,
    /// The server through which its mail goes while it is held, if a fallback is used at present.
    #[serde(default)]
    pub fallback: Option<String>,
    /// True if a person has to sign in. The part of the program that manages the tokens sets this.
    #[serde(default)]
    pub needs_sign_in: bool,
}

/// The running delivery. Dropping it does not stop it; [`Delivery::stop`] does.
pub struct Delivery {
    world: Arc<World>,
    stopping: Arc<Notify>,
}

/// While this value lives, desks take no messages; see [`Delivery::pause`].
pub struct Pause(Arc<World>);

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.resume();
    }
}

impl Delivery {
    /// Begins to deliver the messages in `spool` over `transport`. The caller must already have rerouted the
    /// mail of servers that are no longer configured. Fails if the spool cannot provide the time of its last
    /// use, the mailboxes' usage of the last day, or operators' holds.
    pub async fn start(
        spool: Arc<dyn Spool>,
        settings: DeliverySettings,
        transport: Arc<dyn Transport>,
        clock: Clock,
    ) -> Result<Self, SpoolError> {
        let world = World::begin(spool, settings, transport, clock).await?;
        let stopping = Arc::new(Notify::new());
        tokio::spawn(scheduler::run(world.clone(), stopping.clone()));
        Ok(Self { world, stopping })
    }

    /// Uses these settings from now on. A message that is being sent is completed under the old settings.
    pub async fn reconfigure(&self, settings: DeliverySettings) {
        let world = &self.world;
        let old = world.replan(settings);
        let new = world.plan();
        let names = new.settings.servers.iter();
        let names = names.map(|server| server.name().to_owned()).collect();
        let removed = old.entries().into_iter();
        let removed = removed.filter(|entry| world.entry(&new, entry.name()).is_none());
        let held = removed.filter_map(|entry| {
            let reason = reason_of_orphans(&entry)?;
            Some((entry.name().to_owned(), reason))
        });
        let held = held.collect();
        // The change may have fixed the fault for which a server is held.
        changed(&old, &new).for_each(|entry| world.mended(&entry));
        drop(old);
        for desk in world.desks.all() {
            world.give_back(&desk);
            desk.sessions.close();
        }
        world.desks.sweep();
        match world.spool.reroute(names, held).await {
            Ok(()) => new.rerouted(),
            Err(error) => maillog::claim_failed("", &error),
        }
        world.wake();
    }

    /// Sends one message at once, for a server in `direct` mode.
    pub async fn direct(&self, record: &Record, content: &Content) -> DirectOutcome {
        direct::send(&self.world, record, content).await
    }

    /// Records a delivery report about a message that was sent earlier in the story of that message.
    /// What was begun is done, even if the caller goes away.
    /// `is_last_search` is true if the stories of all messages that were sent before the report are written.
    pub async fn returned(
        &self,
        report: DeliveryReport,
        is_last_search: bool,
    ) -> Result<Returned, SpoolError> {
        let world = self.world.clone();
        let recorded =
            tokio::spawn(async move { returned::record(&world, &report, is_last_search).await });
        recorded.await.unwrap_or(Err(SpoolError::Closed))
    }

    /// Gives back to the spool all messages that wait at desks, so that an operator can act on them. Desks
    /// take no messages until the returned value is dropped.
    pub fn pause(&self) -> Pause {
        self.world.pause();
        Pause(self.world.clone())
    }

    /// Handles a repair: a person has fixed something about a server. The server's token is requested again
    /// when it is next needed. The server's mailbox is used again at once, unless an operator holds the
    /// mailbox.
    pub fn mended(&self, server: &str) {
        if let Some(entry) = self.world.plan().known(server) {
            self.world.mended(&entry);
        }
    }

    /// Handles a sign-in: a person has signed in for a server. This counts as a repair of that server and of
    /// all servers that share its account.
    pub fn signed_in(&self, server: &str) {
        let plan = self.world.plan();
        let sharing = plan.sharing(server);
        sharing.for_each(|entry| self.world.mended(&entry));
    }

    /// Closes the sessions with a server and with all servers that share its account. This is needed when the
    /// account's token must no longer be used.
    pub fn forget_sessions(&self, server: &str) {
        let plan = self.world.plan();
        let sharing = plan.sharing(server);
        sharing.for_each(|entry| entry.desk.sessions.close());
    }

    /// Tests the connection to a server, and sends each step to `steps` as it is done. If `to` is given, the
    /// last step sends a test message, which counts towards the mailbox's limits. If all steps succeed, the
    /// test counts as a repair. Returns false if there is no such server.
    pub async fn test(self: Arc<Self>, server: String, to: Option<Address>, steps: Steps) -> bool {
        test::test(&self.world, &server, to, steps).await
    }

    /// Sends a message of ours at once through this server, even if it is held. It counts towards the mailbox's
    /// limits. The error says why it was not sent.
    pub async fn send_notice(
        &self,
        server: &str,
        to: &Address,
        subject: &str,
        text: &str,
    ) -> Result<(), String> {
        let own = test::OwnMessage {
            to: to.clone(),
            subject: subject.to_owned(),
            text: text.to_owned(),
        };
        test::send_own(&self.world, server, own).await
    }

    /// True if a server signs in as each sender, and the name does not say which mailbox is meant.
    pub fn lacks_mailbox(&self, server: &str) -> bool {
        self.world.plan().lacks_mailbox(server)
    }

    /// True if a server with this name is configured.
    pub fn has(&self, server: &str) -> bool {
        self.world.entry(&self.world.plan(), server).is_some()
    }

    /// Holds a server's mailbox until an operator releases it. The hold survives a restart. Returns false if
    /// there is no such server.
    pub async fn hold(&self, server: &str, reason: String) -> Result<bool, SpoolError> {
        let plan = self.world.plan();
        let Some(entry) = self.world.entry(&plan, server) else {
            return Ok(false);
        };
        self.world.hold_by_hand(&entry, reason);
        self.world.note_hold(&entry.desk).await?;
        Ok(true)
    }

    /// Ends the hold of a server's mailbox, whatever its reason. Returns true if there was a hold, and `None`
    /// if there is no such server.
    pub async fn release(&self, server: &str) -> Result<Option<bool>, SpoolError> {
        let plan = self.world.plan();
        let Some(entry) = self.world.entry(&plan, server) else {
            return Ok(None);
        };
        let was_held = self.world.release_hold(&entry, true);
        if was_held {
            self.world.note_hold(&entry.desk).await?;
        }
        let was_held_elsewhere = self.world.end_shared_hold(&entry.desk).await?;
        Ok(Some(was_held || was_held_elsewhere))
    }

    /// The state of each server, in the order of the configuration. It shows what all nodes have used of the limits; while
    /// their database is away, what this one has used.
    pub async fn servers(&self) -> Vec<ServerState> {
        let (plan, clock) = (self.world.plan(), &self.world.clock);
        let used = self.world.spool.used_by_all(clock.now()).await;
        let used = used.ok().flatten();
        let usages = used.as_deref().map(usages);
        let state = |entry: &Arc<ServerEntry>| {
            let desk = &entry.desk;
            let spent = match &usages {
                Some(usages) => usages
                    .get(desk.name())
                    .unwrap_or(&Usage::default())
                    .spent(&desk.limits(), clock.now()),
                None => desk.spent(clock.now()),
            };
            state_of(&plan, entry, spent, clock)
        };
        plan.entries().iter().map(state).collect()
    }

    /// The servers that are held, with their holds.
    pub fn holds(&self) -> Vec<(String, Hold)> {
        let plan = self.world.plan();
        let entries = plan.entries().into_iter();
        let held = entries.filter_map(|entry| Some((entry.name().to_owned(), entry.desk.held()?)));
        held.collect()
    }

    /// True if nothing is being sent and all fates are written.
    pub fn is_quiet(&self) -> bool {
        let desks = self.world.desks.all();
        desks.iter().all(|desk| desk.is_quiet()) && self.world.fates.is_quiet()
    }

    /// Takes nothing more from the spool, and waits up to `grace` for messages that are being sent. Those
    /// that are not done by then are delivered after the next start.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.notify_one();
        let desks = self.world.desks.all();
        for desk in &desks {
            desk.close();
            self.world.give_back(desk);
        }
        let quiet = async {
            while !self.is_quiet() {
                // The scheduler may have consumed the last notification as it ended.
                let notified = self.world.fates.wake.notified();
                let _ = tokio::time::timeout(RECHECK, notified).await;
            }
        };
        let _ = tokio::time::timeout(grace, quiet).await;
        desks.iter().for_each(|desk| desk.sessions.close());
    }
}

/// Returns the servers that are in both configurations, but with different settings.
fn changed(old: &Plan, new: &Plan) -> impl Iterator<Item = Arc<ServerEntry>> {
    new.entries().into_iter().filter(|entry| {
        let former = old.known(entry.name());
        former.is_some_and(|former| !former.server.is_same(&entry.server))
    })
}

/// Returns the reason for holding the messages of a server that is no longer configured. `None` if no
/// operator held the server.
fn reason_of_orphans(entry: &ServerEntry) -> Option<String> {
    let hold = entry.desk.held().filter(|hold| hold.until.is_none())?;
    let name = entry.name();
    Some(format!(
        "server {name} is no longer configured, and an operator had held it ({}); `queue release` sends the message \
         through another server, `queue delete` removes it",
        hold.reason
    ))
}

/// Sorts usage by mailbox.
fn usages(used: &[Used]) -> HashMap<&str, Usage> {
    let mut usages: HashMap<&str, Usage> = HashMap::new();
    for its in used {
        let usage = usages.entry(&its.mailbox).or_default();
        usage.restore(its.messages, its.recipients, its.at, its.last);
    }
    usages
}

fn state_of(plan: &Plan, entry: &ServerEntry, spent: Spent, clock: &Clock) -> ServerState {
    let (desk, now) = (&entry.desk, clock.now());
    let mailbox = entry.server.upstream.smtp.auth.username();
    ServerState {
        name: entry.name().to_owned(),
        mailbox: mailbox.unwrap_or_default().to_owned(),
        limits: desk.limits(),
        recipients_of_day: spent.recipients_of_day,
        messages_of_minute: spent.messages_of_minute,
        minute_until: spent.minute_until.map(|at| clock.shown(at)),
        hold: desk.held().map(|hold| Hold {
            since: clock.shown(hold.since),
            until: hold.until.map(|until| clock.shown(until)),
            ..hold
        }),
        fallback: plan
            .fallback(entry.name(), now)
            .map(|fallback| fallback.server.clone()),
        needs_sign_in: false,
    }
}
