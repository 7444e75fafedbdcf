//! Checks the state of the program regularly, and sends alerts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::active::{Active, Mail, Notice};
use super::channel::AlertChannel;
use super::conditions::{AlertThresholds, conditions};
use super::message::{self, AlertMessage};
use super::send::send;
use crate::delivery::Delivery;
use crate::observe::maillog;
use crate::observe::metrics::totals;
use crate::operator::row::TokenRow;
use crate::operator::{Local, Operator, Request};
use crate::spool::{Upkeep, keep, kept};
use crate::token::clock_words;

/// The interval at which the conditions are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The pauses before the next attempts to send an alert.
const RETRIES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// The pause before each further attempt.
const LATER: Duration = Duration::from_secs(300);

/// The time after which an alert is not sent any more.
const GIVE_UP: Duration = Duration::from_secs(24 * 3_600);

/// The maximum number of alerts that wait to be sent. There are few causes, so more means that all channels fail.
const WAITING: usize = 100;

/// The note with the active alerts, so that a restart repeats none.
const NOTE: &str = "alerts";

/// The settings. A reload replaces them.
#[derive(Clone, Default)]
pub struct AlertSettings {
    /// When a condition is worth an alert.
    pub(crate) thresholds: AlertThresholds,
    /// The ways to tell people.
    pub(crate) channels: Vec<AlertChannel>,
    /// The name of this host.
    pub(crate) host: String,
}

/// The running watch.
pub(crate) struct Alerts {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    operator: Local,
    delivery: Arc<Delivery>,
    notes: Arc<dyn Upkeep>,
    settings: ArcSwap<AlertSettings>,
}

impl Alerts {
    /// Begins to watch.
    pub(crate) fn start(
        operator: Local,
        delivery: Arc<Delivery>,
        notes: Arc<dyn Upkeep>,
        settings: AlertSettings,
    ) -> Self {
        let shared = Arc::new(Shared {
            operator,
            delivery,
            notes,
            settings: ArcSwap::from_pointee(settings),
        });
        let (queue, waiting) = mpsc::channel(WAITING);
        let test = Arc::downgrade(&shared);
        shared.operator.has_alerts(move |name| {
            let shared = test.upgrade();
            Box::pin(async move {
                match shared {
                    Some(shared) => shared.test(&name).await,
                    None => Err("mailferry is stopping".to_owned()),
                }
            })
        });
        let tasks = vec![
            tokio::spawn(shared.clone().watch(queue)),
            tokio::spawn(shared.clone().send_all(waiting)),
        ];
        Self { shared, tasks }
    }

    /// Uses new settings from now on.
    pub(crate) fn reconfigure(&self, settings: AlertSettings) {
        self.shared.settings.store(Arc::new(settings));
    }

    /// Stops watching.
    pub(crate) fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    /// Looks at the conditions regularly. Never returns.
    async fn watch(self: Arc<Self>, queue: mpsc::Sender<AlertMessage>) {
        let active: Option<Active> = kept(self.notes.as_ref(), NOTE).await;
        let mut active = active.map(Active::resumed).unwrap_or_default();
        loop {
            if !self.notes.leads() {
                // Another node tells people. This one continues where that one stops.
                tokio::time::sleep(LOOK).await;
                let known: Option<Active> = kept(self.notes.as_ref(), NOTE).await;
                active = known.map(Active::resumed).unwrap_or_default();
                self.show(&active);
                continue;
            }
            let before = active.essence();
            for notice in self.look(&mut active).await {
                self.tell(&notice, &queue);
            }
            if active.essence() != before {
                keep(self.notes.as_ref(), NOTE, &active).await;
            }
            self.show(&active);
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self, active: &mut Active) -> Vec<Notice> {
        let Ok(status) = self.operator.status().await else {
            return Vec::new();
        };
        let asked: &dyn Operator = &self.operator;
        let tokens: Result<Vec<TokenRow>, _> = asked.ask(Request::Tokens).await;
        // Without the tokens, some conditions would seem to be over.
        let Ok(tokens) = tokens else {
            return Vec::new();
        };
        let settings = self.settings.load();
        let present = conditions(&status, &tokens, clock_words(), &settings.thresholds);
        let mail = Mail {
            delivered: totals().delivered,
            waiting: status.queued,
        };
        active.take(present, mail, status.now)
    }

    /// Logs a notice and gives it to the channels.
    fn tell(&self, notice: &Notice, queue: &mpsc::Sender<AlertMessage>) {
        match notice {
            Notice::Raised(it) => {
                maillog::alert(&it.kind, &it.subject, it.since, &it.what, &it.remedy)
            }
            Notice::Cleared {
                alert,
                delivered,
                waiting,
            } => maillog::alert_over(&alert.kind, &alert.subject, *delivered, *waiting),
        }
        let message = message::message(notice, &self.settings.load().host);
        if queue.try_send(message).is_err() {
            maillog::alert_failed("all", "too many alerts wait to be sent");
        }
    }

    /// Shows the active alerts on the page, in `mailferry status` and as metrics.
    fn show(&self, active: &Active) {
        self.operator.show_alerts(active.told().cloned().collect());
    }

    /// Gives each alert to the queue of each channel. A channel that fails does not delay the others.
    async fn send_all(self: Arc<Self>, mut waiting: mpsc::Receiver<AlertMessage>) {
        let mut queues: HashMap<String, mpsc::Sender<Arc<AlertMessage>>> = HashMap::new();
        // Dropping the set, when alerts stop, ends the channels' tasks.
        let mut tasks = JoinSet::new();
        while let Some(message) = waiting.recv().await {
            let message = Arc::new(message);
            for channel in &self.settings.load().channels {
                let name = &channel.name;
                let queue = queues.entry(name.clone()).or_insert_with(|| {
                    let (queue, alerts) = mpsc::channel(WAITING);
                    tasks.spawn(self.clone().send_in_order(name.clone(), alerts));
                    queue
                });
                if queue.try_send(message.clone()).is_err() {
                    maillog::alert_failed(name, "too many alerts wait to be sent");
                }
            }
        }
    }

    /// Sends the alerts of one channel one after another, so that an all-clear does not overtake its alert.
    async fn send_in_order(
        self: Arc<Self>,
        name: String,
        mut alerts: mpsc::Receiver<Arc<AlertMessage>>,
    ) {
        while let Some(message) = alerts.recv().await {
            let until = Instant::now() + GIVE_UP;
            let mut pauses = RETRIES.into_iter();
            while Instant::now() < until {
                let settings = self.settings.load_full();
                let channel = settings
                    .channels
                    .iter()
                    .find(|channel| channel.name == name);
                // A reload has removed the channel.
                let Some(channel) = channel else { break };
                match send(channel, &message, &self.delivery).await {
                    Ok(()) => {
                        maillog::alert_sent(&name, &message.title);
                        break;
                    }
                    Err(reason) => maillog::alert_failed(&name, &reason),
                }
                tokio::time::sleep(pauses.next().unwrap_or(LATER)).await;
            }
        }
    }

    /// Sends a test by one channel.
    async fn test(&self, name: &str) -> Result<(), String> {
        let settings = self.settings.load_full();
        let mut channels = settings.channels.iter();
        let channel = channels.clone().find(|channel| channel.name == name);
        let channel = channel.ok_or_else(|| {
            let names: Vec<&str> = channels.by_ref().map(|it| it.name.as_str()).collect();
            let names = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            format!("there is no [[alert]] named {name:?}; there are: {names}")
        })?;
        let message = message::test(&settings.host);
        send(channel, &message, &self.delivery).await
    }
}
