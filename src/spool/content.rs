//! The content of a message: in memory while it is small, in a file beside the database when not.
//!
//! A file is written as the content arrives and synced with its folder before anything refers to
//! it; until then it is called `.part`. It belongs to whoever holds the [`Content`], and goes with it, until the spool has committed
//! the row that names it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::SpoolError;
use crate::base::{MessageId, limits};

/// What a file is called while its content still comes: nothing was promised of it.
pub(super) const ARRIVING: &str = "part";

/// Header section and body, line ends CRLF.
#[derive(Debug, Clone)]
pub enum Content {
    /// All of it.
    Memory(Bytes),
    /// A file.
    File(Arc<ContentFile>),
}

/// What a content is known by again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Octets.
    pub size: u64,
    /// CRC-32 of them: against disks, not against people.
    pub sum: u32,
}

/// The name of a message's file while its content still comes.
fn arriving(path: &Path) -> PathBuf {
    path.with_extension(ARRIVING)
}

/// A content's file, removed when dropped unless the spool keeps it.
#[derive(Debug)]
pub struct ContentFile {
    path: PathBuf,
    size: u64,
    /// As it was written; none where the spool has kept it since.
    sum: Option<u32>,
    kept: AtomicBool,
}

/// Takes a content as it arrives.
#[derive(Debug)]
pub struct ContentWriter {
    path: PathBuf,
    memory: Vec<u8>,
    file: Option<(File, ContentFile)>,
    size: u64,
    sum: crc32fast::Hasher,
}

/// The name of a message's file in the folder `content`.
pub(super) fn path(folder: &Path, id: MessageId) -> PathBuf {
    folder.join(format!("{id}.eml"))
}

impl Content {
    /// Octets.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.size,
        }
    }

    /// CRC-32 of it, where it has just come in.
    pub fn sum(&self) -> Option<u32> {
        match self {
            Self::Memory(bytes) => Some(crc32fast::hash(bytes)),
            Self::File(file) => file.sum,
        }
    }

    /// Whether it is what was put; reads all of it.
    pub async fn check(&self, wanted: Shape) -> Result<(), SpoolError> {
        let (place, found) = match self {
            Self::Memory(bytes) => {
                let sum = crc32fast::hash(bytes);
                let size = bytes.len() as u64;
                (
                    "its content in spool.sqlite".to_owned(),
                    Shape { size, sum },
                )
            }
            Self::File(file) => {
                let shape = file.shape().await;
                let shape = shape.map_err(|error| SpoolError::io(&file.path, error))?;
                (file.path.display().to_string(), shape)
            }
        };
        match found == wanted {
            true => Ok(()),
            false => Err(SpoolError::Damaged {
                place,
                wanted,
                found,
            }),
        }
    }

    /// Its start: the whole of it in memory, else so much that a header section fits.
    pub async fn head(&self) -> Result<Bytes, SpoolError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File(file) => {
                let mut head = Vec::new();
                let limit = limits::HEADER_SECTION as u64 + 4;
                let open = file.open().await?;
                let read = open.take(limit).read_to_end(&mut head).await;
                read.map_err(|error| SpoolError::io(&file.path, error))?;
                Ok(head.into())
            }
        }
    }
}

impl ContentFile {
    /// A file that the spool keeps.
    pub(super) fn kept(path: PathBuf, size: u64) -> Self {
        Self {
            path,
            size,
            sum: None,
            kept: AtomicBool::new(true),
        }
    }

    async fn shape(&self) -> std::io::Result<Shape> {
        let mut file = File::open(&self.path).await?;
        let mut sum = crc32fast::Hasher::new();
        let (mut size, mut piece) = (0, vec![0; limits::FILE_CHUNK]);
        loop {
            match file.read(&mut piece).await? {
                0 => break,
                read => {
                    sum.update(&piece[..read]);
                    size += read as u64;
                }
            }
        }
        let sum = sum.finalize();
        Ok(Shape { size, sum })
    }

    /// From now on the spool's: it stays when this is dropped.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Opens it to be read.
    pub async fn open(&self) -> Result<File, SpoolError> {
        File::open(&self.path)
            .await
            .map_err(|error| SpoolError::io(&self.path, error))
    }
}

impl Drop for ContentFile {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            // A file that cannot be removed now is swept when the spool is opened next.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl ContentWriter {
    /// For the message `id`; a larger content goes to a file in `folder`.
    pub fn new(folder: &Path, id: MessageId) -> Self {
        Self {
            path: path(folder, id),
            memory: Vec::new(),
            file: None,
            size: 0,
            sum: crc32fast::Hasher::new(),
        }
    }

    /// Octets that are in memory.
    pub fn in_memory(&self) -> usize {
        self.memory.len()
    }

    /// Takes the next piece.
    pub async fn write(&mut self, piece: Vec<u8>) -> Result<(), SpoolError> {
        self.size += piece.len() as u64;
        if self.file.is_none() && self.memory.len() + piece.len() <= limits::BODY_IN_MEMORY {
            match self.memory.is_empty() {
                true => self.memory = piece,
                false => self.memory.extend_from_slice(&piece),
            }
            return Ok(());
        }
        let path = self.path.clone();
        self.spill(&piece)
            .await
            .map_err(|error| SpoolError::io(&path, error))
    }

    async fn spill(&mut self, piece: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() {
            let open = File::options()
                .write(true)
                .create_new(true)
                .open(arriving(&self.path))
                .await?;
            let guard = ContentFile {
                path: arriving(&self.path),
                size: 0,
                sum: None,
                kept: AtomicBool::new(false),
            };
            self.file = Some((open, guard));
        }
        if let Some((file, _)) = &mut self.file {
            let before = std::mem::take(&mut self.memory);
            for piece in [before.as_slice(), piece] {
                self.sum.update(piece);
                file.write_all(piece).await?;
            }
        }
        Ok(())
    }

    /// Ends the content; a file is on stable storage then.
    pub async fn finish(mut self) -> Result<Content, SpoolError> {
        let Some((mut file, mut guard)) = self.file.take() else {
            return Ok(Content::Memory(std::mem::take(&mut self.memory).into()));
        };
        guard.size = self.size;
        guard.sum = Some(self.sum.finalize());
        let synced = async {
            file.flush().await?;
            file.sync_all().await?;
            tokio::fs::rename(&guard.path, &self.path).await?;
            guard.path.clone_from(&self.path);
            let folder = self.path.parent().unwrap_or(Path::new("."));
            File::open(folder).await?.sync_all().await
        };
        synced
            .await
            .map_err(|error| SpoolError::io(&self.path, error))?;
        Ok(Content::File(Arc::new(guard)))
    }
}

/// For people.
impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} octets of CRC-32 {:08x}", self.size, self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_contents_go_to_a_file_that_goes_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let id = MessageId::from_i64(7);
        let mut writer = ContentWriter::new(folder.path(), id);
        for _ in 0..3 {
            writer.write(vec![b'x'; 100 * 1024]).await.unwrap();
        }
        let content = writer.finish().await.unwrap();
        assert_eq!(content.size(), 300 * 1024);
        assert_eq!(
            content.head().await.unwrap().len(),
            limits::HEADER_SECTION + 4
        );
        assert!(path(folder.path(), id).exists());
        let wanted = Shape {
            size: 300 * 1024,
            sum: crc32fast::hash(&[b'x'; 300 * 1024]),
        };
        assert_eq!(content.sum(), Some(wanted.sum));
        content.check(wanted).await.unwrap();
        let file = std::fs::File::options()
            .write(true)
            .open(path(folder.path(), id));
        std::os::unix::fs::FileExt::write_at(&file.unwrap(), b"y", 200_000).unwrap();
        let said = content.check(wanted).await.unwrap_err().to_string();
        assert!(said.contains("0000000000007.eml is damaged"), "{said}");
        drop(content);
        assert!(!path(folder.path(), id).exists());
    }

    #[tokio::test]
    async fn small_ones_stay_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ContentWriter::new(folder.path(), MessageId::from_i64(7));
        writer.write(b"a".to_vec()).await.unwrap();
        writer.write(b"b".to_vec()).await.unwrap();
        let content = writer.finish().await.unwrap();
        assert!(matches!(&content, Content::Memory(bytes) if bytes == "ab"));
    }
}
