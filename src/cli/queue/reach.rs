//! Where the queue is reached: in the running program, else in the spool itself.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::reason::{self, Servers};
use crate::admin::Client;
use crate::admin::queue::{Act, PAGE};
use crate::base::{Clock, MessageId, Timestamp};
use crate::cli::common::{ConfigFile, block_on, ended};
use crate::cli::running::running;
use crate::config::{Config, Secrets};
use crate::spool::{
    Contents, Deed, Entry, Filter, Manage, Owner, Page, Selection, Shown, SqliteSpool, Story,
    Wanted, time,
};

/// See the module.
pub(in crate::cli) enum Queue {
    Running(Client),
    Stopped(Shown),
}

/// Runs a command on the queue; what it says went wrong goes to standard error.
pub(in crate::cli) fn run<W>(config: &ConfigFile, work: impl FnOnce(Queue) -> W) -> ExitCode
where
    W: Future<Output = Result<ExitCode, String>>,
{
    let config = match config.load(Secrets::Left) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let done = match Queue::open(&config).await {
            Ok(queue) => work(queue).await,
            Err(error) => Err(error),
        };
        ended(done)
    })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Queue {
    async fn open(config: &Config) -> Result<Self, String> {
        let folder = &config.spool.folder;
        if let Some(client) = running(config).await? {
            return Ok(Self::Running(client));
        }
        if !SqliteSpool::is_in(folder) {
            return Err(format!(
                "there is no spool in {}: `serve` has not run with this configuration. If systemd runs mailferry, \
                 set `data_dir` to its folder, such as /var/lib/mailferry",
                folder.display()
            ));
        }
        let spool = SqliteSpool::open(config.spool.clone(), Owner::this_process(&config.host));
        let (spool, clock) = (spool.map_err(text)?, Clock::default());
        time::resume(&spool, &clock).await.map_err(text)?;
        Ok(Self::Stopped(Shown::new(Arc::new(spool), clock)))
    }

    pub(super) async fn list(&self, page: Page) -> Result<Vec<Entry>, String> {
        match self {
            Self::Running(client) => client.list(&page).await.map_err(text),
            Self::Stopped(spool) => spool.list(page).await.map_err(text),
        }
    }

    pub(in crate::cli) async fn show(&self, id: MessageId) -> Result<Entry, String> {
        match self {
            Self::Running(client) => client.show(id).await.map_err(text),
            Self::Stopped(spool) => spool.get(id).await.map_err(text),
        }
    }

    pub(super) async fn act(&self, which: Selection, deed: Deed) -> Result<usize, String> {
        match self {
            Self::Running(client) => client.act(&Act { which, deed }).await.map_err(text),
            Self::Stopped(spool) => spool.act(which, deed, Timestamp::now()).await.map_err(text),
        }
    }

    /// Writes a message as the app sent it.
    pub(super) async fn export(
        &self,
        id: MessageId,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), String> {
        match self {
            Self::Running(client) => client.content(id, to).await.map_err(text)?,
            Self::Stopped(spool) => {
                let content = spool.content(id).await.map_err(text)?;
                let mut content = content.open().await.map_err(text)?;
                tokio::io::copy(&mut content, to).await.map_err(text)?;
            }
        }
        to.flush().await.map_err(text)
    }

    pub(in crate::cli) async fn story(&self, id: MessageId) -> Result<Story, String> {
        match self {
            Self::Running(client) => client.story(id).await.map_err(text),
            Self::Stopped(spool) => spool.story(id).await.map_err(text),
        }
    }

    pub(in crate::cli) async fn stories(
        &self,
        address: &str,
        limit: usize,
    ) -> Result<Vec<Story>, String> {
        match self {
            Self::Running(client) => client.stories(address, limit).await.map_err(text),
            Self::Stopped(spool) => spool.stories(address, limit).await.map_err(text),
        }
    }

    /// The servers of the running program.
    pub(super) async fn servers(&self) -> Result<Servers, String> {
        match self {
            Self::Running(client) => client.servers().await.map(Some).map_err(text),
            Self::Stopped(_) => Ok(None),
        }
    }

    /// Why a message waits, and for how long it does where the mailbox's pace decides.
    pub(in crate::cli) async fn reasons(&self, entry: &Entry) -> Result<Vec<String>, String> {
        let servers = self.servers().await?;
        let first = reason::reason(entry, &servers, Timestamp::now());
        if first.is_none() || reason::pace(entry, &servers, 1).is_none() {
            return Ok(first.into_iter().collect());
        }
        let before = self.before(entry).await?;
        let then = reason::pace(entry, &servers, before);
        Ok(first.into_iter().chain(then).collect())
    }

    /// How many messages of its server came before this one.
    async fn before(&self, entry: &Entry) -> Result<usize, String> {
        let mut page = Page {
            after: None,
            limit: PAGE,
            filter: Filter {
                server: Some(entry.record.lane.clone()),
                state: Some(Wanted::Queued),
                ..Filter::default()
            },
        };
        let mut count = 0;
        loop {
            let entries = self.list(page.clone()).await?;
            let older = entries
                .iter()
                .take_while(|it| it.record.id < entry.record.id);
            let older = older.count();
            count += older;
            match entries.last() {
                Some(last) if older == entries.len() => page.after = Some(last.record.id),
                _ => return Ok(count),
            }
        }
    }
}
