//! What comes back to the demo's mailbox: a message that an app reads, and a report about one that bounced.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::shared::{ARRIVAL, DemoResult, PASSWORD};
use crate::cli::queue;
use crate::operator::{Operator, Request};
use crate::spool::{EventKind, Story, StoryFilter};

/// The time from one look at a message's story to the next.
const LOOK: Duration = Duration::from_millis(50);

/// Runs an app's IMAP session and prints it. The app reads the last message of INBOX.
pub(super) async fn read(listener: SocketAddr) -> DemoResult<()> {
    let (read, mut write) = TcpStream::connect(listener).await?.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut hear = async |until: &str| -> DemoResult<()> {
        loop {
            let line = timeout(ARRIVAL, lines.next_line()).await??;
            let line = line.ok_or("mailferry closed the connection")?;
            println!("     S: {line}");
            if line.starts_with(until) {
                return Ok(());
            }
        }
    };
    hear("* OK").await?;
    let commands = [
        format!("a1 LOGIN helpdesk {PASSWORD}"),
        "a2 SELECT INBOX".to_owned(),
        "a3 FETCH * BODY[]".to_owned(),
        "a4 LOGOUT".to_owned(),
    ];
    for command in commands {
        println!("     C: {command}");
        write.write_all(format!("{command}\r\n").as_bytes()).await?;
        let tag = command.get(..3).unwrap_or_default();
        hear(tag).await?;
    }
    Ok(())
}

/// Waits until the story of the message to this recipient says that it bounced, and prints the story.
pub(super) async fn bounced(operator: &dyn Operator, recipient: &str) -> DemoResult<()> {
    let until = tokio::time::Instant::now() + ARRIVAL;
    loop {
        let request = Request::Stories {
            filter: StoryFilter::about(recipient),
            limit: 1,
        };
        let stories: Vec<Story> = operator.ask(request).await?;
        let is_bounced = |story: &&Story| {
            let mut events = story.events.iter();
            events.any(|event| matches!(event.what, EventKind::Bounced { .. }))
        };
        if let Some(story) = stories.iter().find(is_bounced) {
            queue::story(story, &[]);
            return Ok(());
        }
        if tokio::time::Instant::now() > until {
            return Err("the report was not found in the mailbox; please report this".into());
        }
        tokio::time::sleep(LOOK).await;
    }
}
