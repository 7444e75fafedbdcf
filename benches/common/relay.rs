//! Our listener over a spool that a benchmark chooses.

#![allow(dead_code)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use mailferry::base::id::MessageIds;
use mailferry::base::{BoxFuture, Clock, MessageId, Timestamp};
use mailferry::listener::{Direct, Endpoint, Limits, Listener, Settings, Shared, User, Users};
use mailferry::routing::{Filter, Key, Policy, ServerRule};
use mailferry::session::{self, Reply};
use mailferry::spool::sqlite::{self, SqliteSpool};
use mailferry::spool::{
    Content, ContentWriter, Deed, Entry, Finish, Flow, Leased, New, Owner, Page, Place, Record,
    Selection, Spool, SpoolError, Story, Used,
};

struct Nobody;

impl Direct for Nobody {
    fn submit<'a>(&'a self, _: &'a Record, _: &'a Content) -> BoxFuture<'a, Reply> {
        Box::pin(std::future::ready(Reply::try_again()))
    }
}

/// Listens on a free port of loopback; clients from there need no password.
pub fn listen(spool: Arc<dyn Spool>) -> SocketAddr {
    let user = User {
        networks: vec!["127.0.0.0/8".parse().expect("a network")],
        ..User::named("load")
    };
    let filter = Filter::parse("example.com").expect("a filter");
    let policy = Policy {
        servers: vec![ServerRule {
            name: "n".into(),
            address: None,
            filter,
        }],
        keys: vec![Key::Envelope, Key::Header],
        ..Policy::default()
    };
    let session = session::Settings {
        host: "relay.example.com".into(),
        message_size: 50_000_000,
        recipients: 1_000,
        commands: 2_000,
        errors: 20,
        reject_bare_newlines: false,
        offers_auth: false,
        bare_lf: false,
        postmaster: None,
    };
    let limits = Limits {
        sessions_per_address: usize::MAX,
        sessions_per_user: usize::MAX,
        ..Limits::default()
    };
    let settings = Settings {
        policy,
        users: Users::new(vec![user], Arc::default()),
        direct: HashSet::new(),
        limits,
    };
    let shared = Shared::new(settings, spool, Arc::new(Nobody), Clock::default());
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let bound = Listener::bind(address, false).expect("binds");
    let listener = bound
        .serve(Endpoint::open(address, session), shared)
        .expect("listens");
    listener.address()
}

/// SQLite, as the program has it.
pub fn sqlite(folder: &Path) -> Arc<dyn Spool> {
    let settings = sqlite::Settings {
        folder: folder.to_owned(),
        reserve: 0,
        history: Duration::ZERO,
    };
    Arc::new(SqliteSpool::open(settings, Owner::this_process("bench")).expect("opens"))
}

/// A spool that takes messages, and no more: nothing, or a file for each with a sync of it and of
/// its folder, as the usual queue directory has it.
pub struct Bare {
    ids: MessageIds,
    folder: Option<PathBuf>,
    contents: PathBuf,
}

impl Bare {
    /// Keeps nothing.
    pub fn nowhere(scratch: &Path) -> Arc<dyn Spool> {
        Arc::new(Self {
            ids: MessageIds::default(),
            folder: None,
            contents: scratch.to_owned(),
        })
    }

    /// A file for each message in `folder`.
    pub fn file_each(folder: &Path) -> Arc<dyn Spool> {
        Arc::new(Self {
            ids: MessageIds::default(),
            folder: Some(folder.to_owned()),
            contents: folder.to_owned(),
        })
    }
}

fn write_file(folder: &Path, new: &New) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join(new.record.id.to_string()))?;
    serde_json::to_writer(&mut file, &new.record)?;
    if let Content::Memory(bytes) = &new.content {
        file.write_all(bytes)?;
    }
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()
}

type Later<'a, T> = BoxFuture<'a, Result<T, SpoolError>>;

impl Spool for Bare {
    fn next_id(&self, now: Timestamp) -> MessageId {
        self.ids.next(now, 0)
    }

    fn writer(&self, id: MessageId) -> ContentWriter {
        ContentWriter::new(&self.contents, id)
    }

    fn has_room(&self) -> bool {
        true
    }

    fn put(&self, messages: Vec<New>) -> Later<'_, ()> {
        Box::pin(async move {
            if let Some(folder) = self.folder.clone() {
                let written = tokio::task::spawn_blocking(move || {
                    messages.iter().try_for_each(|new| write_file(&folder, new))
                });
                written.await.expect("no panic").expect("writes");
            }
            Ok(())
        })
    }

    fn fresh(&self, _: usize) -> Vec<Leased> {
        Vec::new()
    }

    fn claim(&self, _: &Place, _: usize, _: Timestamp, _: Timestamp) -> Later<'_, Vec<Leased>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn lease(&self, _: Vec<MessageId>, _: Timestamp, _: Timestamp) -> Later<'_, Vec<Leased>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn waiting_lanes(&self) -> Vec<String> {
        Vec::new()
    }

    fn due(&self, _: &str) -> Vec<(Flow, Timestamp)> {
        Vec::new()
    }

    fn sending(&self, _: MessageId) {}

    fn renew(&self, _: Vec<MessageId>, _: Timestamp) -> Later<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn finish(&self, _: Arc<[Finish]>) -> Later<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn release(&self, _: Vec<(MessageId, Place)>) {}

    fn content(&self, id: MessageId) -> Later<'_, Content> {
        Box::pin(std::future::ready(Err(SpoolError::Missing(id))))
    }

    fn reroute(&self, _: Vec<String>, _: Vec<(String, String)>) -> Later<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn list(&self, _: Page) -> Later<'_, Vec<Entry>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn get(&self, id: MessageId) -> Later<'_, Entry> {
        Box::pin(std::future::ready(Err(SpoolError::Missing(id))))
    }

    fn act(&self, _: Selection, _: Deed, _: Timestamp) -> Later<'_, usize> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn story(&self, id: MessageId) -> Later<'_, Story> {
        Box::pin(std::future::ready(Err(SpoolError::Unknown(id))))
    }

    fn stories(&self, _: &str, _: usize) -> Later<'_, Vec<Story>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn tell(&self, _: Story, _: Option<Used>) -> Later<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn used(&self, _: Timestamp) -> Later<'_, Vec<Used>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn shift(&self, _: SignedDuration, _: (&str, String)) -> Later<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn purge(&self, _: Timestamp) -> Later<'_, bool> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn note(&self, _: &str, _: Option<String>) -> Later<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn notes(&self, _: &str) -> Later<'_, Vec<(String, String)>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}
