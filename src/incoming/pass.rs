//! Passes octets both ways, without parsing them, until a side ends or the program stops.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::door::Stopping;

/// The size of the buffer for each direction: a TLS record (RFC 8446 §5.1).
const BUFFER: usize = 16 * 1024;

/// How long the second side may take to end after the first.
const SECOND_SIDE: Duration = Duration::from_secs(30);

/// If the mail server sent the last octets and the session has been silent for this long, no command is in
/// progress.
const QUIET: Duration = Duration::from_millis(200);

/// If the client sent the last octets, the longest wait for the mail server's response before the session is ended.
const UNANSWERED: Duration = Duration::from_secs(5);

/// The interval at which a session that is to end is checked for quiet.
const CHECK: Duration = Duration::from_millis(100);

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client closed or lost its connection, the mail server closed its connection, or a write failed.
    BySide,
    /// Reading from the mail server failed.
    UpstreamBroke,
    /// The program stops.
    Stopping,
    /// The user may no longer read the mailbox.
    Revoked,
}

/// The most recent traffic of a session.
struct Activity {
    began: Instant,
    /// The time of the last octet, in milliseconds since `began`.
    last: AtomicU64,
    /// True if the last octets for the client were a line end.
    is_at_line_end: AtomicBool,
    /// True if the client spoke last, so that an answer may be due.
    is_unanswered: AtomicBool,
}

impl Activity {
    fn note(&self, is_by_client: bool) {
        self.is_unanswered.store(is_by_client, Ordering::Relaxed);
        let now = self.began.elapsed().as_millis() as u64;
        self.last.store(now, Ordering::Relaxed);
    }

    fn is_quiet(&self) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        let last = self.last.load(Ordering::Relaxed);
        let is_unanswered = self.is_unanswered.load(Ordering::Relaxed);
        let enough = if is_unanswered { UNANSWERED } else { QUIET };
        now.saturating_sub(last) >= enough.as_millis() as u64
    }
}

/// Passes octets both ways until a side ends, the program stops or the right to read is `revoked`.
/// `is_at_line_end` is true if the client has received whole lines so far. Returns how the session ended, and true
/// if the client's output is at a line start, so that a final line may be sent.
pub(super) async fn pass<C, U>(
    client: &mut C,
    upstream: &mut U,
    is_at_line_end: bool,
    stopping: &mut watch::Receiver<Stopping>,
    revoked: impl Future<Output = ()>,
) -> (Ended, bool)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity {
        began: Instant::now(),
        last: AtomicU64::new(0),
        is_at_line_end: AtomicBool::new(is_at_line_end),
        is_unanswered: AtomicBool::new(false),
    };
    let ended = {
        let (client_reads, client_writes) = tokio::io::split(client);
        let (upstream_reads, upstream_writes) = tokio::io::split(upstream);
        let up = copy(client_reads, upstream_writes, |_| activity.note(true));
        let down = copy(upstream_reads, client_writes, |octets| {
            activity.note(false);
            let is_at_end = octets.ends_with(b"\n");
            activity.is_at_line_end.store(is_at_end, Ordering::Relaxed);
        });
        tokio::pin!(up, down);
        tokio::select! {
            copied = &mut up => {
                if copied.is_ok() {
                    let _ = timeout(SECOND_SIDE, down).await;
                }
                Ended::BySide
            }
            copied = &mut down => match copied {
                Ok(()) => {
                    let _ = timeout(SECOND_SIDE, up).await;
                    Ended::BySide
                }
                Err(Side::Read) => Ended::UpstreamBroke,
                Err(Side::Write) => Ended::BySide,
            },
            () = wait_until_stoppable(stopping, &activity) => Ended::Stopping,
            () = revoked => Ended::Revoked,
        }
    };
    (ended, activity.is_at_line_end.load(Ordering::Relaxed))
}

/// The side of a copy that failed.
enum Side {
    Read,
    Write,
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    note: impl Fn(&[u8]),
) -> Result<(), Side> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(count) => count,
            // Many peers close without TLS's own `close_notify` (RFC 8446 §6.1).
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(_) => return Err(Side::Read),
        };
        if count == 0 {
            return to.shutdown().await.map_err(|_| Side::Write);
        }
        let octets = &buffer[..count];
        to.write_all(octets).await.map_err(|_| Side::Write)?;
        to.flush().await.map_err(|_| Side::Write)?;
        note(octets);
    }
}

/// Waits until the program stops and the session is quiet, or until the session must end at once.
async fn wait_until_stoppable(stopping: &mut watch::Receiver<Stopping>, activity: &Activity) {
    let _ = stopping
        .wait_for(|how| *how >= Stopping::BetweenMessages)
        .await;
    while *stopping.borrow() < Stopping::AtOnce && !activity.is_quiet() {
        sleep(CHECK).await;
    }
}
