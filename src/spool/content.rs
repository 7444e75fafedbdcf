//! The content of a message. A small content is kept in memory; a larger one is written to storage as it
//! arrives.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::error::{SpoolError, SpoolFuture};
use super::shape::Fingerprint;
use crate::base::{MessageId, limits};

/// Header section and body, with CRLF line endings.
#[derive(Debug, Clone)]
pub enum Content {
    /// All of the content, in memory.
    Memory(Bytes),
    /// A content that the spool has stored.
    Stored(Arc<dyn Stored>),
}

/// A reader that starts at the beginning of the content.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// A content that is stored because it is too large for memory. It is removed from storage when its last
/// owner drops it, unless [`keep`](Self::keep) was called.
pub trait Stored: Debug + Send + Sync {
    /// Returns the size in octets.
    fn size(&self) -> u64;

    /// Returns the CRC-32, or `None` if the content would have to be read to compute it.
    fn sum(&self) -> Option<u32>;

    /// Returns the content's name for error messages.
    fn place(&self) -> String;

    /// Opens the content for reading.
    fn open(&self) -> SpoolFuture<'_, Reader>;

    /// Keeps the content, because the spool has committed the message.
    fn keep(&self);
}

/// Storage for contents that are too large for memory.
pub trait Storage: Debug + Send + Sync {
    /// Begins to store the content of a message.
    fn create(&self, id: MessageId) -> SpoolFuture<'_, Box<dyn Storing>>;
}

/// A content that is being stored. If this value is dropped before `finish`, the stored part is removed.
pub trait Storing: Debug + Send + Sync {
    /// Stores the next piece.
    fn write<'a>(&'a mut self, piece: &'a [u8]) -> SpoolFuture<'a, ()>;

    /// Ends the content. When the call returns, all of the content is on stable storage.
    fn finish(self: Box<Self>, shape: Fingerprint) -> SpoolFuture<'static, Arc<dyn Stored>>;
}

/// Receives a message's content piece by piece.
#[derive(Debug)]
pub struct ContentWriter {
    id: MessageId,
    storage: Arc<dyn Storage>,
    memory: Vec<u8>,
    storing: Option<Box<dyn Storing>>,
    size: u64,
    sum: crc32fast::Hasher,
}

impl Content {
    /// Returns the size in octets.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Stored(stored) => stored.size(),
        }
    }

    /// Returns the CRC-32, or `None` if the content would have to be read to compute it.
    pub fn sum(&self) -> Option<u32> {
        match self {
            Self::Memory(bytes) => Some(crc32fast::hash(bytes)),
            Self::Stored(stored) => stored.sum(),
        }
    }

    /// Returns all of the content if it is in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::Stored(_) => None,
        }
    }

    /// Keeps a stored content, because the spool has committed the message.
    pub(super) fn keep(&self) {
        if let Self::Stored(stored) = self {
            stored.keep();
        }
    }

    /// Opens the content for reading.
    pub async fn open(&self) -> Result<Reader, SpoolError> {
        match self {
            Self::Memory(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            Self::Stored(stored) => stored.open().await,
        }
    }

    /// Reads all of the content, and checks that its size and checksum are the `wanted` ones.
    pub async fn check(&self, wanted: Fingerprint) -> Result<(), SpoolError> {
        let place = || match self {
            Self::Memory(_) => "the message's content in spool.sqlite".to_owned(),
            Self::Stored(stored) => stored.place(),
        };
        let found = match self {
            Self::Memory(bytes) => Fingerprint {
                size: bytes.len() as u64,
                sum: crc32fast::hash(bytes),
            },
            Self::Stored(stored) => shape(stored.open().await?)
                .await
                .map_err(|error| SpoolError::io(place().as_ref(), error))?,
        };
        if found == wanted {
            Ok(())
        } else {
            Err(SpoolError::Damaged {
                place: place(),
                wanted,
                found,
            })
        }
    }

    /// Returns the start of the content: everything if the content is in memory, otherwise enough octets for
    /// the longest header section.
    pub async fn head(&self) -> Result<Bytes, SpoolError> {
        let stored = match self {
            Self::Memory(bytes) => return Ok(bytes.clone()),
            Self::Stored(stored) => stored,
        };
        let mut head = Vec::new();
        let limit = limits::HEADER_SECTION as u64 + 4;
        let mut start = stored.open().await?.take(limit);
        let read = start.read_to_end(&mut head).await;
        read.map_err(|error| SpoolError::io(stored.place().as_ref(), error))?;
        Ok(head.into())
    }
}

async fn shape(mut content: Reader) -> std::io::Result<Fingerprint> {
    let mut sum = crc32fast::Hasher::new();
    let (mut size, mut piece) = (0, vec![0; limits::FILE_CHUNK]);
    loop {
        match content.read(&mut piece).await? {
            0 => break,
            read => {
                sum.update(&piece[..read]);
                size += read as u64;
            }
        }
    }
    let sum = sum.finalize();
    Ok(Fingerprint { size, sum })
}

impl ContentWriter {
    /// Creates a writer for the content of the message `id`. A content that is too large for memory goes to
    /// `storage`.
    pub fn new(storage: Arc<dyn Storage>, id: MessageId) -> Self {
        Self {
            id,
            storage,
            memory: Vec::new(),
            storing: None,
            size: 0,
            sum: crc32fast::Hasher::new(),
        }
    }

    /// Returns the number of octets in memory.
    pub fn in_memory(&self) -> usize {
        self.memory.len()
    }

    /// Adds the next piece.
    pub async fn write(&mut self, piece: Vec<u8>) -> Result<(), SpoolError> {
        self.size += piece.len() as u64;
        if self.storing.is_none() && self.memory.len() + piece.len() <= limits::BODY_IN_MEMORY {
            if self.memory.is_empty() {
                self.memory = piece
            } else {
                self.memory.extend_from_slice(&piece)
            }
            return Ok(());
        }
        let storing = match &mut self.storing {
            Some(storing) => storing,
            none => none.insert(self.storage.create(self.id).await?),
        };
        let before = std::mem::take(&mut self.memory);
        for piece in [before, piece] {
            self.sum.update(&piece);
            storing.write(&piece).await?;
        }
        Ok(())
    }

    /// Ends the content. When the call returns, a content that is not kept in memory is on stable storage.
    pub async fn finish(self) -> Result<Content, SpoolError> {
        let Some(storing) = self.storing else {
            return Ok(Content::Memory(self.memory.into()));
        };
        let (size, sum) = (self.size, self.sum.finalize());
        let stored = storing.finish(Fingerprint { size, sum }).await?;
        Ok(Content::Stored(stored))
    }
}
