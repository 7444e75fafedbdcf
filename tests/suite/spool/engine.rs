//! The engines that must keep the contract.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mailferry::base::{BoxFuture, Clock};
use mailferry::spool::postgres::{NodeIdentity, PostgresSettings};
use mailferry::spool::{Owner, PostgresSpool, SpoolSettings, SqliteSpool, WholeSpool};

use crate::support::Memory;
use crate::support::postgresql::{Postgresql, client};

/// An engine, with one spool that can be opened again and again.
pub trait Engine: Send + Sync {
    /// Opens the spool; it keeps stories for `history`.
    fn open(&self, history: Duration) -> BoxFuture<'_, Arc<dyn WholeSpool>>;

    /// The number of stored contents, or pieces of them, outside the messages' own rows.
    fn contents(&self) -> BoxFuture<'_, usize>;

    /// Ends what a process leaves behind when it dies.
    fn bury(&self) -> BoxFuture<'_, ()>;
}

/// An engine that the program can be configured to use.
pub trait Configured: Engine {
    /// Returns the settings of the spool; it keeps stories for `history`.
    fn settings(&self, history: Duration) -> SpoolSettings;
}

/// The spool in memory.
#[derive(Default)]
pub struct InMemory(OnceLock<Arc<Memory>>);

/// SQLite, in a folder.
pub struct Sqlite {
    folder: tempfile::TempDir,
}

/// PostgreSQL, in a database.
pub struct Postgres {
    pub url: String,
    folder: tempfile::TempDir,
}

impl Sqlite {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder }
    }
}

impl Postgres {
    /// Creates a database on the shared server. If PostgreSQL is not installed, the test is skipped with a message.
    pub async fn new(test: &str) -> Option<Self> {
        let server = Postgresql::shared(test)?;
        Some(Self {
            url: server.database().await,
            folder: tempfile::tempdir().expect("a folder"),
        })
    }

    pub fn database(&self) -> PostgresSettings {
        PostgresSettings {
            url: self.url.clone(),
            password: None,
            ca: None,
        }
    }

    pub async fn node(&self, history: Duration, name: &str) -> PostgresSpool {
        let settings = self.database();
        let opened = PostgresSpool::open(&settings, history, identity(name), Clock::default());
        opened.await.expect("opens")
    }
}

/// Returns the identity of a node with a folder of this name.
pub fn identity(name: &str) -> NodeIdentity {
    NodeIdentity {
        owner: Owner::this_process(name),
        machine: name.to_owned(),
        lock: None,
    }
}

impl Engine for Sqlite {
    fn open(&self, history: Duration) -> BoxFuture<'_, Arc<dyn WholeSpool>> {
        let settings = self.settings(history);
        let opened = SqliteSpool::open(settings, Owner::new("relay", 1, 1));
        Box::pin(async move { Arc::new(opened.expect("opens")) as Arc<dyn WholeSpool> })
    }

    fn contents(&self) -> BoxFuture<'_, usize> {
        let files = std::fs::read_dir(self.folder.path().join("content"));
        Box::pin(async move { files.map_or(0, Iterator::count) })
    }

    fn bury(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl Engine for Postgres {
    fn open(&self, history: Duration) -> BoxFuture<'_, Arc<dyn WholeSpool>> {
        Box::pin(async move { Arc::new(self.node(history, "relay").await) as Arc<dyn WholeSpool> })
    }

    fn contents(&self) -> BoxFuture<'_, usize> {
        Box::pin(async {
            let client = client(&self.url).await;
            let count = client.query_one("SELECT count(*) FROM piece", &[]).await;
            count.expect("counts").get::<_, i64>(0) as usize
        })
    }

    fn bury(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let bury = "UPDATE message SET node = NULL; DELETE FROM node";
            client(&self.url)
                .await
                .batch_execute(bury)
                .await
                .expect("buries");
        })
    }
}

impl Engine for InMemory {
    fn open(&self, history: Duration) -> BoxFuture<'_, Arc<dyn WholeSpool>> {
        let spool = self.0.get_or_init(|| Arc::new(Memory::new(history)));
        Box::pin(async move { spool.clone() as Arc<dyn WholeSpool> })
    }

    fn contents(&self) -> BoxFuture<'_, usize> {
        let spool = self.0.get().expect("it was opened");
        Box::pin(async move { spool.large_contents() })
    }

    fn bury(&self) -> BoxFuture<'_, ()> {
        let spool = self.0.get().expect("it was opened");
        Box::pin(async move { spool.restart() })
    }
}

impl Configured for Sqlite {
    fn settings(&self, history: Duration) -> SpoolSettings {
        SpoolSettings {
            folder: self.folder.path().to_owned(),
            reserve: 0,
            history,
            postgresql: None,
        }
    }
}

impl Configured for Postgres {
    fn settings(&self, history: Duration) -> SpoolSettings {
        SpoolSettings {
            folder: self.folder.path().to_owned(),
            reserve: 0,
            history,
            postgresql: Some(self.database()),
        }
    }
}
