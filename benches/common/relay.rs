//! Our listener over a spool that a benchmark chooses.

#![allow(dead_code)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mailferry::base::id::MessageIds;
use mailferry::base::{BoxFuture, Clock, MessageId, Timestamp};
use mailferry::door::{self, Door, DoorLimits, Endpoint, Listener, User, Users};
use mailferry::routing::{Filter, Key, Policy, ServerRule};
use mailferry::smtp;
use mailferry::spool::folder::Folder;
use mailferry::spool::{
    Content, ContentWriter, Intake, NewMessage, Owner, Record, SpoolFuture, Story,
};
use mailferry::spool::{SpoolSettings, SqliteSpool};
use mailferry::submission::{
    Answered, Direct, Shared, Submission, SubmissionOptions, SubmissionSettings,
};

struct Nobody;

impl Direct for Nobody {
    fn submit<'a>(&'a self, _: &'a Record, _: &'a Content) -> BoxFuture<'a, Answered> {
        Box::pin(std::future::ready(Answered::Unavailable))
    }
}

/// Listens on a free port of loopback as long as the returned listener is kept; clients from there need no password.
pub fn listen(spool: Arc<dyn Intake>) -> Listener {
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
            ..ServerRule::default()
        }],
        keys: vec![Key::Envelope, Key::Header],
        ..Policy::default()
    };
    let session = smtp::SessionSettings {
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
    let limits = DoorLimits {
        sessions_per_address: usize::MAX,
        sessions_per_user: usize::MAX,
        ..DoorLimits::default()
    };
    let door = Door::new(
        door::DoorSettings {
            dialogues: door::Dialogues::default(),
            users: Users::new(vec![user], Arc::default()),
            limits,
        },
        None,
    );
    let settings = SubmissionSettings {
        policy,
        direct: HashSet::new(),
    };
    let shared = Shared::new(settings, spool, Arc::new(Nobody), Clock::default());
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let bound = Listener::bind(address, false).expect("binds");
    let service = Submission::new(SubmissionOptions::new(session), &shared);
    bound
        .serve(Endpoint::open(address), door, Arc::new(service))
        .expect("listens")
}

/// SQLite, as the program uses it.
pub fn sqlite(folder: &Path) -> Arc<dyn Intake> {
    let settings = SpoolSettings {
        folder: folder.to_owned(),
        reserve: 0,
        history: Duration::ZERO,
        ..SpoolSettings::default()
    };
    Arc::new(SqliteSpool::open(settings, Owner::this_process("bench")).expect("opens"))
}

/// A spool that only accepts messages. It keeps nothing, or writes a file for each message and syncs the file
/// and its folder, as a traditional queue directory does.
pub struct Bare {
    ids: MessageIds,
    folder: Option<PathBuf>,
    contents: Folder,
}

impl Bare {
    /// A spool that keeps nothing.
    pub fn nowhere(scratch: &Path) -> Arc<dyn Intake> {
        Arc::new(Self {
            ids: MessageIds::default(),
            folder: None,
            contents: Folder::new(scratch.to_owned()),
        })
    }

    /// A spool that writes a file for each message in `folder`.
    pub fn file_each(folder: &Path) -> Arc<dyn Intake> {
        Arc::new(Self {
            ids: MessageIds::default(),
            folder: Some(folder.to_owned()),
            contents: Folder::new(folder.to_owned()),
        })
    }
}

fn write_file(folder: &Path, new: &NewMessage) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join(new.record.id.to_string()))?;
    serde_json::to_writer(&mut file, &new.record)?;
    if let Some(bytes) = new.content.in_memory() {
        file.write_all(bytes)?;
    }
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()
}

impl Intake for Bare {
    fn next_id(&self, now: Timestamp) -> MessageId {
        self.ids.next(now, 0)
    }

    fn writer(&self, id: MessageId) -> ContentWriter {
        ContentWriter::new(Arc::new(self.contents.clone()), id)
    }

    fn has_room(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    fn refused(&self, _: Story) {}

    fn put(&self, messages: Vec<NewMessage>) -> SpoolFuture<'_, ()> {
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
}
