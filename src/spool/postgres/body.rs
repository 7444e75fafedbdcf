//! Contents that are too large for memory: they arrive and leave in pieces, so that no node ever has a whole one in
//! memory, and no file system is shared.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::shared::Shared;
use crate::base::MessageId;
use crate::spool::content::{Reader, Storage, Stored, Storing};
use crate::spool::{Fingerprint, SpoolError, SpoolFuture};

/// Octets in a piece. Each piece is a transaction while the content arrives.
const PIECE: usize = 1024 * 1024;

const ADD: &str = "INSERT INTO piece (message, number, node, data) VALUES ($1, $2, $3, $4)";
const READ: &str = "SELECT data FROM piece WHERE message = $1 AND number = $2";

/// Stores large contents in the database.
#[derive(Clone)]
pub(super) struct Bodies(pub(super) Arc<Shared>);

/// A content that is being stored.
struct Arriving {
    body: Body,
    pending: Vec<u8>,
    pieces: i32,
}

/// A stored content. Its pieces are removed when it is dropped, unless it was kept.
struct Body {
    shared: Arc<Shared>,
    id: MessageId,
    shape: Option<Fingerprint>,
    size: u64,
    is_kept: AtomicBool,
}

impl Bodies {
    /// Returns the content of an accepted message.
    pub(super) fn kept(&self, id: MessageId, size: u64) -> Arc<dyn Stored> {
        Arc::new(Body {
            shared: self.0.clone(),
            id,
            shape: None,
            size,
            is_kept: AtomicBool::new(true),
        })
    }
}

impl Storage for Bodies {
    fn create(&self, id: MessageId) -> SpoolFuture<'_, Box<dyn Storing>> {
        let body = Body {
            shared: self.0.clone(),
            id,
            shape: None,
            size: 0,
            is_kept: AtomicBool::new(false),
        };
        let arriving = Arriving {
            body,
            pending: Vec::with_capacity(PIECE),
            pieces: 0,
        };
        Box::pin(async move { Ok(Box::new(arriving) as Box<dyn Storing>) })
    }
}

impl Arriving {
    async fn store(&mut self) -> Result<(), SpoolError> {
        let (id, number) = (self.body.id.to_i64(), self.pieces);
        let shared = &self.body.shared;
        let node = shared.node();
        shared
            .database
            .execute(ADD, &[&id, &number, &node, &self.pending])
            .await?;
        self.pieces += 1;
        self.pending.clear();
        Ok(())
    }
}

impl Storing for Arriving {
    fn write<'a>(&'a mut self, piece: &'a [u8]) -> SpoolFuture<'a, ()> {
        Box::pin(async move {
            self.pending.extend_from_slice(piece);
            if self.pending.len() >= PIECE {
                self.store().await?;
            }
            Ok(())
        })
    }

    fn finish(mut self: Box<Self>, shape: Fingerprint) -> SpoolFuture<'static, Arc<dyn Stored>> {
        Box::pin(async move {
            if !self.pending.is_empty() {
                self.store().await?;
            }
            let mut body = self.body;
            (body.shape, body.size) = (Some(shape), shape.size);
            Ok(Arc::new(body) as Arc<dyn Stored>)
        })
    }
}

impl Stored for Body {
    fn size(&self) -> u64 {
        self.size
    }

    fn sum(&self) -> Option<u32> {
        self.shape.map(|shape| shape.sum)
    }

    fn place(&self) -> String {
        format!("the content of {} in the database", self.id)
    }

    fn open(&self) -> SpoolFuture<'_, Reader> {
        let (shared, id) = (self.shared.clone(), self.id);
        Box::pin(async move {
            let (pieces, mut read) = mpsc::channel(1);
            tokio::spawn(send_pieces(shared, id, pieces));
            let pieces = stream::poll_fn(move |context| read.poll_recv(context));
            Ok(Box::new(StreamReader::new(pieces)) as Reader)
        })
    }

    fn keep(&self) {
        self.is_kept.store(true, Ordering::Release);
    }
}

/// Reads the pieces of a content one after the other, as fast as the receiver takes them.
async fn send_pieces(shared: Arc<Shared>, id: MessageId, pieces: mpsc::Sender<io::Result<Bytes>>) {
    for number in 0i32.. {
        let read = shared.database.query(READ, &[&id.to_i64(), &number]).await;
        let piece = match read {
            Ok(rows) => match rows.first() {
                Some(row) => Ok(Bytes::from(row.get::<_, Vec<u8>>(0))),
                None => return,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        let has_failed = piece.is_err();
        if pieces.send(piece).await.is_err() || has_failed {
            return;
        }
    }
}

impl fmt::Debug for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bodies")
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arriving({})", self.body.id)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({})", self.id)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !*self.is_kept.get_mut() {
            self.shared.abandon(self.id);
        }
    }
}
