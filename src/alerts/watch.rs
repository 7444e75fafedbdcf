//! Watches the program, and tells people.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::active::{Active, Mail, Notice};
use super::channel::AlertChannel;
use super::conditions::{AlertThresholds, conditions};
use super::message::{self, AlertMessage};
use super::send::send;
use crate::delivery::Delivery;
use crate::observe::maillog;
use crate::observe::metrics::totals;
use crate::operator::row::TokenRow;
use crate::operator::status::AlertRow;
use crate::operator::{Local, Operator, Request};
use crate::spool::Notes;
use crate::token::clock_words;

/// The interval at which the conditions are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The pauses before further attempts to send an alert.
const RETRIES: [Duration; 3] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

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
    notes: Arc<dyn Notes>,
    settings: ArcSwap<AlertSettings>,
    http: reqwest::Client,
}

impl Alerts {
    /// Begins to watch.
    pub(crate) fn start(
        operator: Local,
        delivery: Arc<Delivery>,
        notes: Arc<dyn Notes>,
        settings: AlertSettings,
    ) -> Self {
        let shared = Arc::new(Shared {
            operator,
            delivery,
            notes,
            settings: ArcSwap::from_pointee(settings),
            http: reqwest::Client::new(),
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
        let mut active = self.stored().await;
        loop {
            let before = active.clone();
            for notice in self.look(&mut active).await {
                self.tell(&notice, &queue);
            }
            if active != before {
                self.store(&active).await;
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
        let tokens: Vec<TokenRow> = asked.ask(Request::Tokens).await.unwrap_or_default();
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
                condition,
                delivered,
                waiting,
            } => maillog::alert_over(&condition.kind, &condition.subject, *delivered, *waiting),
        }
        let message = message::message(notice, &self.settings.load().host);
        if queue.try_send(message).is_err() {
            maillog::alert_failed("all", "too many alerts wait to be sent");
        }
    }

    /// Shows the active alerts on the page, in `mailferry status` and as metrics.
    fn show(&self, active: &Active) {
        let rows = active.told().map(|condition| AlertRow {
            kind: condition.kind.clone(),
            subject: condition.subject.clone(),
            since: condition.since,
            what: condition.what.clone(),
            remedy: condition.remedy.clone(),
        });
        self.operator.show_alerts(rows.collect());
    }

    /// Sends each alert by all channels at once. A channel that fails does not delay the others.
    async fn send_all(self: Arc<Self>, mut waiting: mpsc::Receiver<AlertMessage>) {
        while let Some(message) = waiting.recv().await {
            let (message, mut sending) = (Arc::new(message), JoinSet::new());
            for channel in self.settings.load().channels.clone() {
                sending.spawn(self.clone().send_or_retry(channel, message.clone()));
            }
            // The next alert may go while this one is retried, but an all-clear must not overtake its alert.
            sending.join_all().await;
        }
    }

    async fn send_or_retry(self: Arc<Self>, channel: AlertChannel, message: Arc<AlertMessage>) {
        for pause in RETRIES.into_iter().map(Some).chain([None]) {
            match send(&channel, &message, &self.http, &self.delivery).await {
                Ok(()) => return maillog::alert_sent(&channel.name, &message.title),
                Err(reason) => maillog::alert_failed(&channel.name, &reason),
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Sends a test by one channel.
    async fn test(&self, name: &str) -> Result<(), String> {
        let settings = self.settings.load_full();
        let channel = settings
            .channels
            .iter()
            .find(|channel| channel.name == name);
        let names = || {
            settings
                .channels
                .iter()
                .map(|channel| channel.name.as_str())
        };
        let channel = channel.ok_or_else(|| match names().next() {
            None => "the running configuration has no [[alert]]".to_owned(),
            Some(_) => {
                let names: Vec<&str> = names().collect();
                format!(
                    "there is no [[alert]] named {name:?}; there are: {}",
                    names.join(", ")
                )
            }
        })?;
        let message = message::test(&settings.host);
        send(channel, &message, &self.http, &self.delivery).await
    }

    async fn stored(&self) -> Active {
        let notes = self.notes.notes(NOTE).await.unwrap_or_default();
        let mut stored = notes.into_iter().filter(|(name, _)| name == NOTE);
        let active = stored.find_map(|(_, text)| serde_json::from_str(&text).ok());
        active.unwrap_or_default()
    }

    async fn store(&self, active: &Active) {
        // If the disk is full, the next change is stored with this one.
        if let Ok(text) = serde_json::to_string(active) {
            let _ = self.notes.note(NOTE, Some(text)).await;
        }
    }
}
