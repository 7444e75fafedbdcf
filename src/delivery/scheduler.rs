//! Takes what is due from the spool to the lanes, and what has ended back to the spool.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use super::attempt;
use super::context::{Context, FINISHES, Scribe};
use super::lane::{Lane, Server};
use super::mailbox::{Hold, Mailboxes};
use super::patrol::Patrol;
use super::probe::{self, Step};
use super::retry::Schedule;
use super::settle::Uncertain;
use super::step::Noted;
use super::usage::{BackOff, Limits};
use crate::base::{Clock, Timestamp};
use crate::message::{Address, Shown};
use crate::observe::maillog;
use crate::routing::Policy;
use crate::session::Reply;
use crate::spool::{Claim, Claimed, Content, Place, Record, Spool, SpoolError, Which, time};
use crate::upstream::Dial;

/// How long a message is claimed; renewed at half.
pub(super) const CLAIM: Duration = Duration::from_secs(900);

/// The longest time between two looks at the lanes, for what no event announces: holds that end,
/// idle sessions, claims to renew.
const TICK: Duration = Duration::from_secs(5);

/// Messages claimed at once.
const AT_ONCE: usize = 64;

/// How often an ending program looks whether all is quiet.
const RECHECK: Duration = Duration::from_millis(100);

/// The pause after the spool failed.
pub(super) const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// What delivery goes by.
pub struct Settings {
    /// Routing.
    pub policy: Policy,
    /// The servers, in order.
    pub servers: Vec<Server>,
    /// When to try again.
    pub schedule: Schedule,
    /// How long a server in trouble is left alone.
    pub back_off: BackOff,
    /// What becomes of a message that may have arrived.
    pub uncertain: Uncertain,
    /// When a sender is told that a message is late, if at all.
    pub warn_after: Option<Duration>,
    /// Reports to one sender in an hour; more are told of together.
    pub reports_per_hour: usize,
    /// What this host calls itself.
    pub host: String,
    /// How much of a client its message's `Received` field shows.
    pub received: Shown,
}

/// The lanes of one configuration.
struct Lanes {
    by_name: HashMap<String, Arc<Lane>>,
    context: Arc<Context>,
}

/// A server as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// Its name.
    pub name: String,
    /// Who signs in to it; empty where nobody does.
    pub mailbox: String,
    /// What that mailbox may do.
    pub limits: Limits,
    /// Recipients of the last 24 hours.
    pub recipients_of_day: u64,
    /// Until when its messages of a minute are used up, if they are.
    pub minute_until: Option<Timestamp>,
    /// Why it is not used for now, if it is not.
    pub hold: Option<Hold>,
    /// Whether a person has to sign in; whoever knows the tokens sets it.
    #[serde(default)]
    pub needs_sign_in: bool,
}

/// Delivery at work. Dropping it does not stop it; [`Delivery::stop`] does.
pub struct Delivery {
    lanes: Arc<ArcSwap<Lanes>>,
    stopping: Arc<Notify>,
}

impl Delivery {
    /// Begins to deliver what is in `spool`, over sessions that `dial` opens. Fails where the spool cannot
    /// say when it was last at work, what mailboxes have used of their day, and which of them an operator
    /// holds.
    pub async fn start(
        spool: Arc<dyn Spool>,
        settings: Settings,
        dial: Arc<dyn Dial>,
        clock: Clock,
    ) -> Result<Self, SpoolError> {
        time::resume(spool.as_ref(), &clock).await?;
        time::note(spool.as_ref(), &clock).await?;
        let mailboxes = Mailboxes::known(spool.as_ref(), clock.now()).await?;
        let (finishes, receiver) = mpsc::channel(FINISHES);
        let claims = Arc::new(Mutex::default());
        let wake = Arc::new(Notify::new());
        let noted = Arc::new(Mutex::new(Noted::begin(&clock)));
        let stuck = Arc::new(AtomicBool::new(false));
        let scribe = Scribe {
            spool: spool.clone(),
            claims: claims.clone(),
            wake: wake.clone(),
            stuck: stuck.clone(),
            clock: clock.clone(),
        };
        tokio::spawn(scribe.write(receiver));
        let settings = Arc::new(settings);
        let context = Context {
            spool,
            dial,
            settings,
            clock,
            noted,
            mailboxes: Arc::new(mailboxes),
            notices: Arc::default(),
            pauses: Arc::default(),
            wake,
            claims,
            finishes,
            stuck,
        };
        let lanes = Arc::new(ArcSwap::from_pointee(Lanes::new(context)));
        let stopping = Arc::new(Notify::new());
        tokio::spawn(schedule(lanes.clone(), stopping.clone()));
        Ok(Self { lanes, stopping })
    }

    /// Goes by other settings from now on; what is being sent ends by the old ones.
    pub async fn reconfigure(&self, settings: Settings) {
        let old = self.lanes.load_full();
        let names: Vec<String> = settings
            .servers
            .iter()
            .map(|server| server.name.clone())
            .collect();
        let changed: Vec<String> = settings
            .servers
            .iter()
            .filter(|server| {
                let former = old.by_name.get(&server.name);
                former.is_some_and(|former| !former.server.is_same(server))
            })
            .map(|server| server.name.clone())
            .collect();
        let held: Vec<(String, String)> = old
            .by_name
            .values()
            .filter(|lane| !names.contains(&lane.server.name))
            .filter_map(|lane| Some((lane.server.name.clone(), lane.reason_of_orphans()?)))
            .collect();
        let context = Context {
            spool: old.context.spool.clone(),
            dial: old.context.dial.clone(),
            settings: Arc::new(settings),
            clock: old.context.clock.clone(),
            mailboxes: old.context.mailboxes.clone(),
            notices: old.context.notices.clone(),
            noted: old.context.noted.clone(),
            pauses: old.context.pauses.clone(),
            wake: old.context.wake.clone(),
            claims: old.context.claims.clone(),
            finishes: old.context.finishes.clone(),
            stuck: old.context.stuck.clone(),
        };
        let mailboxes = context.mailboxes.clone();
        self.lanes.store(Arc::new(Lanes::new(context)));
        mailboxes.sweep();
        // What held them may be what was mended.
        changed.iter().for_each(|server| self.mended(server));
        old.by_name.values().for_each(|lane| lane.close());
        let mailboxes = old.context.mailboxes.all();
        mailboxes
            .iter()
            .for_each(|mailbox| mailbox.close_sessions());
        if let Err(error) = old.context.spool.reroute(names, held).await {
            maillog::claim_failed("", &error);
        }
        old.context.wake.notify_one();
    }

    /// Sends one message at once, for a server in `direct` mode, and gives its own answer.
    pub async fn direct(&self, record: &Record, content: &Content) -> Reply {
        let lane = self.lanes.load().by_name.get(&record.lane).cloned();
        match lane {
            Some(lane) => attempt::direct(&lane, record, content).await,
            None => Reply::try_again(),
        }
    }

    /// Gives back what only waits for its turn, so that an operator reaches it, and takes nothing while
    /// the pause lives.
    pub fn pause(&self) -> Pause {
        let lanes = self.lanes.load_full();
        lanes.context.pauses.fetch_add(1, Ordering::AcqRel);
        lanes.by_name.values().for_each(|lane| lane.give_back());
        Pause(lanes)
    }

    /// Somebody has mended something about a server: its token is asked for again at the next need, and
    /// its mailbox is used again at once, unless an operator holds it.
    pub fn mended(&self, server: &str) {
        let lanes = self.lanes.load();
        let Some(lane) = lanes.by_name.get(server) else {
            return;
        };
        if let Some(token) = &lane.server.token {
            token.forgive();
        }
        if lane.mailbox.release(false) {
            lane.released();
        }
        lanes.context.wake.notify_one();
    }

    /// Somebody has signed in for a server: it is mended, and so are those that share its account.
    pub fn signed_in(&self, server: &str) {
        let lanes = self.lanes.load_full();
        for lane in lanes.sharing(server) {
            self.mended(&lane.server.name);
        }
    }

    /// Closes the sessions with a server, and with others that share its account: their token
    /// is to be used no more.
    pub fn forget_sessions(&self, server: &str) {
        let lanes = self.lanes.load();
        let sharing = lanes.sharing(server);
        sharing.for_each(|lane| lane.mailbox.close_sessions());
    }

    /// Tests the way to a server, giving each step as it is done; see [`probe::probe_named`]. A message
    /// counts to the mailbox's limits. If no step fails the server is used again. Whether there is such a
    /// server.
    pub async fn probe(
        self: Arc<Self>,
        server: String,
        to: Option<Address>,
        steps: probe::Steps,
    ) -> bool {
        let lanes = self.lanes.load_full();
        let (Some(lane), now) = (lanes.by_name.get(&server), lanes.context.clock.now()) else {
            return false;
        };
        let waits = match &to {
            Some(_) => lane.mailbox.admit(1, now).err(),
            None => None,
        };
        let counts = to.is_some() && waits.is_none();
        let to = to.filter(|_| counts);
        let settings = &lanes.context.settings;
        let (sender, mut receiver) = mpsc::channel(1);
        let probing = async {
            let probed = probe::probe_named(settings, &server, to, &sender).await;
            drop(sender);
            probed
        };
        let passing_on = async {
            let (mut is_well, mut has_sent) = (true, false);
            while let Some(step) = receiver.recv().await {
                is_well &= step.well;
                has_sent |= step.well && step.name == "message";
                let _ = steps.send(step).await;
            }
            (is_well, has_sent)
        };
        let (_, (is_well, has_sent)) = tokio::join!(probing, passing_on);
        if counts && !has_sent {
            lane.mailbox.settle(1, 0, now);
        }
        if let Some(until) = waits {
            let step = Step {
                name: "message".into(),
                well: false,
                text: format!(
                    "not sent: the mailbox has reached its limit until {}",
                    lanes.context.clock.shown(until)
                ),
                remedy: None,
            };
            let _ = steps.send(step).await;
        } else if is_well {
            self.mended(&server);
        }
        true
    }

    /// Whether there is such a server.
    pub fn has(&self, server: &str) -> bool {
        self.lanes.load().by_name.contains_key(server)
    }

    /// Holds a server's mailbox until it is released, also over a restart; whether there is such a
    /// server.
    pub async fn hold(&self, server: &str, reason: String) -> Result<bool, SpoolError> {
        let lanes = self.lanes.load_full();
        let Some(lane) = lanes.by_name.get(server) else {
            return Ok(false);
        };
        lane.hold_by_hand(reason);
        lane.mailbox.note(lanes.context.spool.as_ref()).await?;
        Ok(true)
    }

    /// Uses a server again, whatever it is held for; whether it was held, none where there is no such
    /// server.
    pub async fn release(&self, server: &str) -> Result<Option<bool>, SpoolError> {
        let lanes = self.lanes.load_full();
        let Some(lane) = lanes.by_name.get(server) else {
            return Ok(None);
        };
        let was_held = lane.mailbox.release(true);
        if was_held {
            lane.mailbox.note(lanes.context.spool.as_ref()).await?;
            lane.released();
            lanes.context.wake.notify_one();
        }
        Ok(Some(was_held))
    }

    /// Each server, in the order of the configuration.
    pub fn servers(&self) -> Vec<ServerState> {
        let lanes = self.lanes.load();
        let now = lanes.context.clock.now();
        let servers = lanes.context.settings.servers.iter();
        let lanes = servers.filter_map(|server| lanes.by_name.get(&server.name));
        lanes.map(|lane| lane.look(now)).collect()
    }

    /// The servers that are not used for now, and why.
    pub fn holds(&self) -> Vec<(String, Hold)> {
        let lanes = self.lanes.load();
        let held = lanes
            .by_name
            .iter()
            .filter_map(|(name, lane)| Some((name.clone(), lane.held()?)));
        held.collect()
    }

    /// Whether nothing is being sent, nor anything that was sent still to be kept.
    pub fn is_quiet(&self) -> bool {
        self.lanes.load().is_quiet()
    }

    /// Takes nothing more from the spool, and waits up to `grace` for what is being sent.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.notify_one();
        let lanes = self.lanes.load_full();
        lanes.by_name.values().for_each(|lane| lane.close());
        let quiet = async {
            while !lanes.is_quiet() {
                // The scheduler may have taken the last notice for itself on its way out.
                let _ = tokio::time::timeout(RECHECK, lanes.context.wake.notified()).await;
            }
        };
        // What is not done by then is delivered after the next start.
        let _ = tokio::time::timeout(grace, quiet).await;
        let mailboxes = lanes.context.mailboxes.all();
        mailboxes
            .iter()
            .for_each(|mailbox| mailbox.close_sessions());
    }
}

/// While it lives no lane takes messages; see [`Delivery::pause`].
pub struct Pause(Arc<Lanes>);

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.context.pauses.fetch_sub(1, Ordering::AcqRel);
        self.0.context.wake.notify_one();
    }
}

impl Lanes {
    fn new(context: Context) -> Self {
        let context = Arc::new(context);
        let lane = |server: &Server| {
            (
                server.name.clone(),
                Lane::new(server.clone(), context.clone()),
            )
        };
        let by_name = context.settings.servers.iter().map(lane).collect();
        Self { by_name, context }
    }

    /// The lane of a server with an account, and those that share the account.
    fn sharing(&self, server: &str) -> impl Iterator<Item = &Arc<Lane>> {
        let account = |lane: &Lane| Some(lane.server.token.as_ref()?.settings().account.clone());
        let ours = self.by_name.get(server).and_then(|lane| account(lane));
        let lanes = self.by_name.values();
        lanes.filter(move |lane| ours.is_some() && account(lane) == ours)
    }

    fn forgive(&self) {
        let lanes = self.by_name.values();
        let tokens = lanes.filter_map(|lane| lane.server.token.as_ref());
        tokens.for_each(|token| token.forgive());
    }

    fn is_quiet(&self) -> bool {
        self.by_name.values().all(|lane| lane.is_quiet()) && self.context.claims().is_empty()
    }

    /// Gives a message to its lane; what there is no room for goes back, and what has no lane (any
    /// more) is routed anew.
    fn push(&self, message: Claimed) {
        self.context.claims().insert(message.claim, message.until);
        let refused = match self.by_name.get(&message.record.lane) {
            Some(lane) => lane.push(message),
            None => self.context.unassign(message),
        };
        self.context.release(refused);
    }

    /// One look at everything; gives when the next is due at the latest.
    async fn round(&self) -> Result<Timestamp, SpoolError> {
        let context = &self.context;
        let now = context.clock.now();
        loop {
            let fresh = context
                .spool
                .claim(Which::Fresh, AT_ONCE, now, now.after(CLAIM));
            let fresh = fresh.await?;
            if fresh.is_empty() {
                break;
            }
            fresh.into_iter().for_each(|message| self.push(message));
        }
        let mut next = now.after(TICK);
        let held = self.by_name.values().filter(|lane| lane.mailbox.is_held());
        for lane in held {
            if lane.mailbox.end_hold(now) {
                lane.probes();
            }
            let ends = lane.held().and_then(|hold| hold.until);
            next = ends.map_or(next, |ends| next.min(ends));
        }
        for (place, due) in context.spool.waiting().await? {
            if due <= now {
                self.take(place, now).await?;
            }
        }
        let waiting = context.spool.waiting().await?.into_iter();
        let for_the_clock = waiting.filter(|(place, due)| *due > now && self.room(place) > 0);
        let first = for_the_clock.map(|(_, due)| due).min();
        Ok(first.map_or(next, |first| next.min(first)))
    }

    /// How many messages of a place can be taken now.
    fn room(&self, place: &Place) -> usize {
        let lane = self.by_name.get(&place.lane);
        let room = lane.map_or(0, |lane| lane.room(&place.flow));
        let is_unrouted = place.lane.is_empty();
        if is_unrouted {
            AT_ONCE
        } else {
            room.min(AT_ONCE)
        }
    }

    /// Takes what is due in a place while there is room: to its lane, or to be routed if it has none.
    async fn take(&self, place: Place, now: Timestamp) -> Result<(), SpoolError> {
        let (room, is_unrouted) = (self.room(&place), place.lane.is_empty());
        if room == 0 {
            return Ok(());
        }
        let (which, until) = (Which::DueIn(place), now.after(CLAIM));
        let claimed = self.context.spool.claim(which, room, now, until).await?;
        if is_unrouted {
            self.assign(claimed).await;
        } else {
            claimed.into_iter().for_each(|message| self.push(message));
        }
        Ok(())
    }

    /// Routes messages that have no lane.
    async fn assign(&self, claimed: Vec<Claimed>) {
        let spool = &self.context.spool;
        let (mut assigned, mut places) = (Vec::new(), Vec::new());
        for message in claimed {
            let place = (message.claim, message.record.place());
            match attempt::assign(&self.context, message).await {
                Some(finish) => {
                    assigned.push(finish);
                    places.push(place);
                }
                None => spool.release(vec![place]),
            }
        }
        if let Err(error) = spool.finish(assigned.into()).await {
            maillog::finish_failed(places.len(), &error);
            spool.release(places);
        }
    }

    fn renew_claims(&self) {
        let now = self.context.clock.now();
        let until = now.after(CLAIM);
        let mut claims = self.context.claims();
        let old = claims
            .iter_mut()
            .filter(|(_, ends)| **ends < now.after(CLAIM / 2));
        let renewed = old.map(|(claim, ends)| {
            *ends = until;
            *claim
        });
        let renewed: Vec<Claim> = renewed.collect();
        drop(claims);
        if renewed.is_empty() {
            return;
        }
        let context = self.context.clone();
        tokio::spawn(async move {
            let lost = context
                .spool
                .renew(renewed, until)
                .await
                .unwrap_or_default();
            lost.into_iter().for_each(|claim| context.forget(claim));
        });
    }
}

async fn schedule(lanes: Arc<ArcSwap<Lanes>>, stopping: Arc<Notify>) {
    let clock = lanes.load().context.clock.clone();
    let (mut last_tick, mut patrol) = (clock.now(), Patrol::default());
    loop {
        let current = lanes.load_full();
        let round = async {
            if current.context.follow_wall_clock().await? {
                current.forgive();
            }
            current.round().await
        };
        let next = match round.await {
            Ok(next) => next,
            Err(error) => {
                maillog::claim_failed("", &error);
                clock.now().after(SPOOL_PAUSE)
            }
        };
        let now = clock.now();
        if now.since(last_tick) >= TICK {
            last_tick = now;
            let mailboxes = current.context.mailboxes.all();
            mailboxes.iter().for_each(|mailbox| mailbox.close_idle(now));
            current.renew_claims();
            patrol.look(&current.context).await;
        }
        let pause = next.since(clock.now());
        tokio::select! {
            () = current.context.spool.changed() => {}
            () = current.context.wake.notified() => {}
            () = clock.sleep(pause) => {}
            () = stopping.notified() => return,
        }
    }
}
