//! Requests carried out in this process: by the running program with all its parts, or by a command that
//! uses the files of a program that is not running.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};

use super::accounts::Accounts;
use super::ask::{Operator, Responses};
use super::clients::ClientRow;
use super::error::OperatorError;
use super::figures::{Figures, Recorder, Span};
use super::process::{Answer, ProcessRequest, SharedDrain};
use super::report::{Collected, Report};
use super::request::{PAGE, Request};
use super::response::Response;
use super::role::Role;
use super::row::TokenRow;
use super::status::{self, AlertRow, ProgramInfo, SharedAlerts, SharedInfo, Status};
use super::story;
use crate::base::{BoxFuture, MessageId, Secret, Timestamp, limits};
use crate::delivery::{self, Delivery, Hold, ServerState};
use crate::door::Door;
use crate::incoming;
use crate::message::Address;
use crate::observe::maillog;
use crate::observe::metrics::totals;
use crate::routing::lane;
use crate::spool::{
    Manage, OperatorAction, Origin, Page, Selection, SpoolError, Story, StoryFilter,
};
use crate::transport::{Step, smtp::Smtp};

/// A function that makes a link to the page.
type PageLink = Box<dyn Fn(Role) -> String + Send + Sync>;

/// A function that sends a test by the channel of this name.
type TestAlert = Box<dyn Fn(String) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// An operator that carries out requests in this process.
#[derive(Clone, Default)]
pub(crate) struct Local {
    spool: Option<Arc<dyn Manage>>,
    delivery: Option<Arc<Delivery>>,
    accounts: Option<Arc<Accounts>>,
    /// The servers, if delivery is not running.
    stopped: Option<Arc<delivery::DeliverySettings>>,
    /// The mailboxes that apps read.
    incoming: Option<Arc<incoming::Shared>>,
    door: Option<Arc<Door>>,
    figures: Option<Arc<Recorder>>,
    about: SharedInfo,
    link: Arc<OnceLock<PageLink>>,
    alerts: SharedAlerts,
    test_alert: Arc<OnceLock<TestAlert>>,
    process: Option<mpsc::Sender<ProcessRequest>>,
    draining: SharedDrain,
}

/// The parts of the running program that an operator uses.
pub(crate) struct Parts {
    pub(crate) spool: Arc<dyn Manage>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) incoming: Arc<incoming::Shared>,
    pub(crate) door: Arc<Door>,
    pub(crate) figures: Arc<Recorder>,
    pub(crate) about: SharedInfo,
    pub(crate) process: mpsc::Sender<ProcessRequest>,
    pub(crate) draining: SharedDrain,
}

impl Local {
    /// Creates an operator with all parts of the running program.
    pub(crate) fn running(parts: Parts) -> Self {
        Self {
            about: parts.about,
            process: Some(parts.process),
            draining: parts.draining,
            spool: Some(parts.spool),
            delivery: Some(parts.delivery),
            accounts: Some(parts.accounts),
            incoming: Some(parts.incoming),
            door: Some(parts.door),
            figures: Some(parts.figures),
            ..Self::default()
        }
    }

    /// Creates an operator with only the queue, for a program that is not running.
    pub(crate) fn of_queue(spool: Arc<dyn Manage>) -> Self {
        Self {
            spool: Some(spool),
            ..Self::default()
        }
    }

    /// Creates an operator with only the accounts and the servers (to test them), for a program that is not
    /// running.
    pub(crate) fn of_accounts(
        accounts: Accounts,
        servers: delivery::DeliverySettings,
        incoming: Arc<incoming::Shared>,
    ) -> Self {
        Self {
            incoming: Some(incoming),
            accounts: Some(Arc::new(accounts)),
            stopped: Some(Arc::new(servers)),
            ..Self::default()
        }
    }

    /// Records that the page is running, and that `link` makes links to it.
    pub(crate) fn has_page(&self, link: impl Fn(Role) -> String + Send + Sync + 'static) {
        // A program starts at most one page.
        let _ = self.link.set(Box::new(link));
    }

    /// Records that alerts are running, and that `test` sends a test by the channel of a name.
    pub(crate) fn has_alerts(
        &self,
        test: impl Fn(String) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) {
        // A program starts alerts once.
        let _ = self.test_alert.set(Box::new(test));
    }

    /// Shows these alerts from now on.
    pub(crate) fn show_alerts(&self, alerts: Vec<AlertRow>) {
        self.alerts.store(Arc::new(alerts));
    }

    /// Returns the active alerts.
    pub(crate) fn alerts(&self) -> Arc<Vec<AlertRow>> {
        self.alerts.load_full()
    }

    /// Returns the queue, or an error if this operator has none.
    pub(crate) fn spool(&self) -> Result<&Arc<dyn Manage>, OperatorError> {
        self.spool.as_ref().ok_or_else(not_running)
    }

    /// Returns the running delivery, or an error if this operator has none.
    pub(crate) fn delivery(&self) -> Result<&Arc<Delivery>, OperatorError> {
        self.delivery.as_ref().ok_or_else(not_running)
    }

    /// Returns the accounts, or an error if this operator has none.
    pub(crate) fn accounts(&self) -> Result<&Arc<Accounts>, OperatorError> {
        self.accounts.as_ref().ok_or_else(not_running)
    }
}

fn not_running() -> OperatorError {
    OperatorError::unavailable("mailferry is not running with this configuration")
}

impl Operator for Local {
    fn call(&self, request: Request) -> BoxFuture<'_, Responses> {
        Box::pin(async move {
            let (sender, responses) = mpsc::channel(1);
            match request {
                Request::Test { server, to } => self.test(server, to, sender).await,
                Request::Content(id) => {
                    let local = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = local.content(id, &sender).await {
                            let _ = sender.send(Err(error)).await;
                        }
                    });
                }
                Request::Act { which, deed } => {
                    let local = self.clone();
                    tokio::spawn(async move {
                        let count = local.act(which, deed, &sender).await;
                        let _ = sender.send(count.map(Response::Count)).await;
                    });
                }
                request => {
                    let response = self.respond(request).await;
                    let _ = sender.send(response).await;
                }
            }
            responses
        })
    }
}

/// The reason of a hold for which a person gives no reason.
const BY_HAND: &str = "by hand";

/// How often a part of a message may have been split again.
const SPLITS: usize = 5;

/// The maximum number of ids in the log line of an action.
const LOGGED: usize = 20;

type Responder = mpsc::Sender<Result<Response, OperatorError>>;

impl Local {
    async fn respond(&self, request: Request) -> Result<Response, OperatorError> {
        Ok(match request {
            Request::Reload => Response::Reloaded(self.process(ProcessRequest::Reload).await?),
            Request::Drain { wait } => {
                let wait = Duration::from_secs(wait);
                self.process(|answer| ProcessRequest::Drain(answer, wait))
                    .await?;
                Response::Done
            }
            Request::Undrain => {
                self.process(ProcessRequest::Undrain).await?;
                Response::Done
            }
            Request::Status => Response::Status(Box::new(self.status().await?)),
            Request::Servers => Response::Servers(self.servers().await?),
            Request::Hold { server, reason } => {
                let delivery = self.delivery()?;
                self.needs_mailbox(&server)?;
                let by_hand = |(name, hold): (String, Hold)| {
                    (name == server && hold.until.is_none()).then_some(hold.reason)
                };
                let reason = reason.or_else(|| delivery.holds().into_iter().find_map(by_hand));
                let reason = reason.unwrap_or_else(|| BY_HAND.to_owned());
                if delivery.hold(&server, reason).await? {
                    Response::Done
                } else {
                    return Err(OperatorError::no_server(&server));
                }
            }
            Request::Release { server } => {
                self.needs_mailbox(&server)?;
                let was_held = self.delivery()?.release(&server).await?;
                Response::Was(was_held.ok_or_else(|| OperatorError::no_server(&server))?)
            }
            Request::List(page) => {
                let limit = page.limit.min(PAGE);
                let page = Page { limit, ..page };
                Response::Entries(self.spool()?.list(page).await?)
            }
            Request::Show(id) => Response::Entry(Box::new(self.spool()?.get(id).await?)),
            Request::Story(id) => Response::Story(Box::new(self.story(id).await?)),
            Request::Stories { filter, limit } => {
                let stories = self.spool()?.stories(filter, limit.min(PAGE));
                Response::Stories(stories.await?)
            }
            Request::Report { since, until } => {
                Response::Report(Box::new(self.report(since, until).await?))
            }
            Request::Tokens => Response::Tokens(self.tokens().await?),
            Request::Unused => Response::Accounts(self.accounts()?.unused().await?),
            Request::ForgetUnused => Response::Accounts(self.accounts()?.forget_unused().await?),
            Request::Connect { server, wish } => {
                let attempt = self.accounts()?.connect(&server, wish).await?;
                Response::Attempt(Box::new(attempt))
            }
            Request::Progress(id) => Response::Progress(self.accounts()?.progress(&id).await?),
            Request::Cancel(id) => {
                self.accounts()?.cancel(&id);
                Response::Done
            }
            Request::Disconnect { server } => {
                let disconnected = self.accounts()?.disconnect(&server).await?;
                if let Some(delivery) = &self.delivery {
                    delivery.forget_sessions(&server);
                }
                Response::Disconnected(disconnected)
            }
            Request::RotateVault { key } => Response::Count(self.rotate_vault(key).await?),
            Request::Clients => {
                let door = self.door.as_ref().ok_or_else(not_running)?;
                Response::Clients(door.knocks().into_iter().map(ClientRow::new).collect())
            }
            Request::TestAlert(name) => {
                let test = self.test_alert.get().ok_or_else(not_running)?;
                test(name).await.map_err(OperatorError::no)?;
                Response::Done
            }
            Request::PageLink(role) => Response::Link(self.link.get().map(|link| link(role))),
            Request::Act { .. } | Request::Test { .. } | Request::Content(_) => Response::Done,
        })
    }

    /// Returns an error if a server signs in as each sender, and the name does not say which mailbox is meant.
    fn needs_mailbox(&self, server: &str) -> Result<(), OperatorError> {
        if !self.delivery()?.lacks_mailbox(server) {
            return Ok(());
        }
        Err(OperatorError::no(format!(
            "server {server} signs in as each sender: name the mailbox, such as {server}/name@example.com; `mailferry \
             servers` lists those in use"
        )))
    }

    /// Asks for a change of the whole process, and waits for the answer.
    async fn process<T>(
        &self,
        request: impl FnOnce(Answer<T>) -> ProcessRequest,
    ) -> Result<T, OperatorError> {
        let process = self.process.as_ref().ok_or_else(not_running)?;
        let (answer, answered) = oneshot::channel();
        let busy = |_| OperatorError::unavailable("other requests are waiting; try again later");
        process.try_send(request(answer)).map_err(busy)?;
        let stopping = |_| OperatorError::unavailable("mailferry is stopping");
        answered.await.map_err(stopping)?.map_err(OperatorError::no)
    }

    /// Returns facts about the running program.
    pub(crate) fn about(&self) -> Arc<ProgramInfo> {
        self.about.load_full()
    }

    /// Returns the number of sessions at a listener.
    pub(crate) fn sessions_at(&self, listener: &str) -> usize {
        let door = self.door.as_ref();
        door.map_or(0, |door| door.sessions_at(listener))
    }

    /// Returns how much mail there was lately; nothing if this operator is not the running program.
    pub(crate) fn figures(&self, now: Timestamp) -> Figures {
        let figures = self.figures.as_ref();
        figures.map(|figures| figures.now(now)).unwrap_or_default()
    }

    /// Returns the state of the whole program.
    pub(crate) async fn status(&self) -> Result<Status, OperatorError> {
        let spool = self.spool()?;
        let (counts, now) = (spool.counts().await?, Timestamp::now());
        let queued = counts.iter().map(|count| count.queued).sum();
        let held = counts.iter().map(|count| count.held).sum();
        let first = Page {
            limit: 1,
            ..Page::default()
        };
        let oldest = match queued + held {
            0 => Vec::new(),
            _ => spool.list(first).await?,
        };
        let measures = spool.measures().await?;
        let figures = self.figures(now);
        let servers = status::servers(self.tokens().await?, self.servers().await?, &counts, now);
        Ok(Status {
            about: ProgramInfo::clone(&self.about.load()),
            servers: status::with_oldest(servers, &measures),
            sessions: self.door.as_ref().map_or(0, |door| door.sessions()),
            queued,
            held,
            oldest: oldest.first().map(|entry| entry.record.received),
            since_start: totals(),
            hour: figures.sum(Span::Hour, now),
            day: figures.sum(Span::Day, now),
            month: figures.sum(Span::Month, now),
            spool_used: measures.used,
            disk_free: measures.free,
            takes_messages: spool.takes_messages().await,
            alerts: self.alerts.load().to_vec(),
            nodes: spool.nodes().await?,
            drain: self.draining.load().as_deref().cloned(),
            now,
        })
    }

    /// Returns the story of a message. If the message was split by recipients, the story has the events of all its
    /// parts, whichever part's id was given.
    async fn story(&self, id: MessageId) -> Result<Story, OperatorError> {
        let spool = self.spool()?;
        let mut story = spool.story(id).await?;
        for _ in 0..SPLITS {
            match self.split_from(&story).await? {
                Some(whole) => story = whole,
                None => break,
            }
        }
        let mut next = story::parts(&story);
        while let Some(part) = next.pop() {
            // The story of a part may have expired earlier.
            if let Ok(part) = spool.story(part).await {
                next.extend(story::parts(&part));
                story = story::joined(story, part);
            }
        }
        Ok(story)
    }

    /// Returns the story of the message that this one was split from, if there is one. Both have the same Message-ID.
    async fn split_from(&self, part: &Story) -> Result<Option<Story>, OperatorError> {
        let record = &part.record;
        let (Origin::Client { .. }, Some(message_id)) = (&record.origin, &record.message_id) else {
            return Ok(None);
        };
        let filter = StoryFilter {
            about: Some(format!("<{}>", message_id.trim_matches(['<', '>']))),
            ..StoryFilter::default()
        };
        let mut same = self.spool()?.stories(filter, PAGE).await?.into_iter();
        Ok(same.find(|story| story::parts(story).contains(&record.id)))
    }

    async fn report(&self, since: Timestamp, until: Timestamp) -> Result<Report, OperatorError> {
        let (spool, mut collected) = (self.spool()?, Collected::default());
        let mut filter = StoryFilter {
            since: Some(since),
            before: Some(until),
            ..StoryFilter::default()
        };
        loop {
            let stories = spool.stories(filter.clone(), PAGE).await?;
            stories.iter().for_each(|story| collected.add(story));
            match stories.last() {
                Some(last) if stories.len() == PAGE => filter.below = Some(last.record.id),
                _ => return Ok(collected.report(since, until)),
            }
        }
    }

    /// Returns the servers for sending, with their holds and limits.
    pub(crate) async fn servers(&self) -> Result<Vec<ServerState>, OperatorError> {
        let (mut servers, now) = (self.delivery()?.servers().await, Timestamp::now());
        for row in self.accounts()?.tokens().await {
            let server = servers.iter_mut().find(|server| server.name == row.server);
            if let Some(server) = server {
                server.needs_sign_in = row.needs_sign_in(now);
            }
        }
        Ok(servers)
    }

    /// Returns the state of each server's tokens, and for a held server the reason for the hold.
    async fn tokens(&self) -> Result<Vec<TokenRow>, OperatorError> {
        let mut rows = self.accounts()?.tokens().await;
        let holds = self.delivery.iter().flat_map(|delivery| delivery.holds());
        for (server, hold) in holds {
            if let Some(row) = rows.iter_mut().find(|row| row.server == server) {
                row.held = Some(hold.reason);
                continue;
            }
            // A mailbox of a server that signs in as each sender. It is shown while it needs somebody.
            let place = rows
                .iter()
                .rposition(|row| lane::server(&row.server) == lane::server(&server));
            if let Some(place) = place {
                let held = Some(hold.reason);
                let row = TokenRow {
                    server,
                    held,
                    ..rows[place].clone()
                };
                rows.insert(place + 1, row);
            }
        }
        Ok(rows)
    }

    /// Applies `deed` to messages, and responds with the number so far while there are more. A person who retries
    /// messages has probably fixed something about their servers, so those servers are used again.
    async fn act(
        &self,
        which: Selection,
        deed: OperatorAction,
        sender: &Responder,
    ) -> Result<usize, OperatorError> {
        let spool = self.spool()?;
        let action = match deed {
            OperatorAction::Retry => "retry",
            OperatorAction::Release => "release",
            OperatorAction::Hold(_) => "hold",
            OperatorAction::Delete => "delete",
        };
        let named: Vec<String> = match &which {
            Selection::Ids(ids) => ids.iter().take(LOGGED).map(ToString::to_string).collect(),
            Selection::Matching(_) => Vec::new(),
        };
        // A person who does not read the numbers must not stop the action.
        let so_far = |count| drop(sender.try_send(Ok(Response::Count(count))));
        let Some(delivery) = &self.delivery else {
            return Ok(spool.act(which, deed, Timestamp::now(), &so_far).await?);
        };
        let servers = match deed {
            OperatorAction::Retry => servers_of(spool.as_ref(), &which).await?,
            _ => HashSet::new(),
        };
        let pause = delivery.pause();
        let count = spool.act(which, deed, Timestamp::now(), &so_far).await;
        // Do this before the pause ends: otherwise the first message would fail because of a remembered
        // failure.
        servers.iter().for_each(|server| delivery.mended(server));
        drop(pause);
        let count = count?;
        maillog::queue_action(action, count, &named.join(","));
        Ok(count)
    }

    async fn content(
        &self,
        id: crate::base::MessageId,
        sender: &Responder,
    ) -> Result<(), OperatorError> {
        let content = self.spool()?.content(id).await?;
        let mut content = content.open().await?;
        loop {
            let mut piece = Vec::with_capacity(limits::FILE_CHUNK);
            let mut next = (&mut content).take(limits::FILE_CHUNK as u64);
            let read = next.read_to_end(&mut piece).await;
            let read = read.map_err(OperatorError::unavailable)?;
            if read == 0 || sender.send(Ok(Response::Piece(piece))).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn test(&self, server: String, to: Option<Address>, sender: Responder) {
        let (steps, receiver) = mpsc::channel(1);
        let sends = match (&self.delivery, &self.stopped) {
            (Some(delivery), _) => delivery.has(&server),
            (None, stopped) => stopped.as_ref().is_some_and(|servers| servers.has(&server)),
        };
        let incoming = self.incoming.clone();
        let incoming = incoming.filter(|incoming| incoming.has(&server));
        if !sends && incoming.is_none() {
            let _ = sender.try_send(Err(OperatorError::no_server(&server)));
            return;
        }
        let (delivery, stopped) = (self.delivery.clone(), self.stopped.clone());
        tokio::spawn(async move {
            match (delivery, stopped) {
                (Some(delivery), _) if sends => {
                    delivery.test(server.clone(), to, steps.clone()).await;
                }
                (None, Some(servers)) if sends => {
                    let way = Arc::new(Smtp::default());
                    delivery::test_stopped(servers, way, &server, to, &steps).await;
                }
                _ => {}
            }
            if let Some(incoming) = incoming {
                incoming.test(&server, &steps).await;
            }
        });
        tokio::spawn(pass_on(receiver, sender));
    }

    async fn rotate_vault(&self, key: Option<String>) -> Result<usize, OperatorError> {
        let key = key.map(Secret::from);
        Ok(self.accounts()?.rotate_vault(key).await?)
    }
}

async fn pass_on(mut steps: mpsc::Receiver<Step>, sender: Responder) {
    while let Some(step) = steps.recv().await {
        if sender.send(Ok(Response::Step(step))).await.is_err() {
            return;
        }
    }
}

/// Returns the servers that these messages wait for.
async fn servers_of(spool: &dyn Manage, which: &Selection) -> Result<HashSet<String>, SpoolError> {
    let mut servers = HashSet::new();
    match which {
        Selection::Ids(ids) => {
            for id in ids {
                match spool.get(*id).await {
                    Ok(entry) => servers.insert(entry.record.lane),
                    Err(SpoolError::Missing(_)) => continue,
                    Err(error) => return Err(error),
                };
            }
        }
        Selection::Matching(filter) => {
            let mut after = None;
            loop {
                let page = Page {
                    after,
                    limit: PAGE,
                    filter: filter.clone(),
                };
                let entries = spool.list(page).await?;
                let Some(last) = entries.last() else {
                    break;
                };
                after = Some(last.record.id);
                servers.extend(entries.into_iter().map(|entry| entry.record.lane));
            }
        }
    }
    Ok(servers)
}
