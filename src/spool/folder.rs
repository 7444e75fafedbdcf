//! A folder that stores message contents, one file for each.
//!
//! A file is written as the content arrives. The file and its folder are synced before a row refers to them.
//! Until the content is complete, the file's name ends in `.part`. When the last [`Content`](super::Content)
//! that uses a file is dropped, the file is removed, unless the spool has committed the message's row.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::content::{Reader, Storage, Stored, Storing};
use super::shape::Fingerprint;
use super::{SpoolError, SpoolFuture};
use crate::base::MessageId;
use crate::platform::files;

/// The extension of a file whose content is still arriving. Its message is not accepted yet.
const ARRIVING: &str = "part";

/// A folder that stores each content in a file.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// The file of one content. Dropping this value removes the file, unless the spool keeps it.
#[derive(Debug)]
struct ContentFile {
    path: PathBuf,
    size: u64,
    /// The CRC-32, once the content is written; `None` for a file from [`Folder::kept`].
    sum: Option<u32>,
    kept: AtomicBool,
}

/// A file whose content is still arriving.
#[derive(Debug)]
struct Arriving {
    open: File,
    file: ContentFile,
    /// The path of the finished file.
    path: PathBuf,
}

impl Folder {
    /// Uses the folder at this path.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Returns the path of a message's file.
    pub fn path(&self, id: MessageId) -> PathBuf {
        self.0.join(format!("{id}.eml"))
    }

    /// Finds the kept content of a message.
    pub fn kept(&self, id: MessageId) -> Result<Arc<dyn Stored>, SpoolError> {
        let path = self.path(id);
        let metadata = std::fs::metadata(&path).map_err(|error| SpoolError::io(&path, error))?;
        Ok(Arc::new(ContentFile {
            path,
            size: metadata.len(),
            sum: None,
            kept: AtomicBool::new(true),
        }))
    }

    /// Removes all contents.
    pub fn remove_all(&self) -> Result<(), SpoolError> {
        for (_, path) in self.finished()? {
            std::fs::remove_file(&path).map_err(|error| SpoolError::io(&path, error))?;
        }
        Ok(())
    }

    /// Returns the files of finished contents, with the ids of their messages. Removes unfinished files.
    pub fn finished(&self) -> Result<Vec<(MessageId, PathBuf)>, SpoolError> {
        let io = |error| SpoolError::io(&self.0, error);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let id = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            if path.extension().is_some_and(|it| it == ARRIVING) {
                std::fs::remove_file(&path).map_err(|error| SpoolError::io(&path, error))?;
            } else {
                found.extend(id.map(|id| (id, path)));
            }
        }
        Ok(found)
    }
}

impl Storage for Folder {
    fn create(&self, id: MessageId) -> SpoolFuture<'_, Box<dyn Storing>> {
        let path = self.path(id);
        Box::pin(async move {
            let arriving = path.with_extension(ARRIVING);
            let open = File::options()
                .write(true)
                .create_new(true)
                .open(&arriving)
                .await
                .map_err(|error| SpoolError::io(&arriving, error))?;
            let file = ContentFile {
                path: arriving,
                size: 0,
                sum: None,
                kept: AtomicBool::new(false),
            };
            let storing: Box<dyn Storing> = Box::new(Arriving { open, file, path });
            Ok(storing)
        })
    }
}

impl Storing for Arriving {
    fn write<'a>(&'a mut self, piece: &'a [u8]) -> SpoolFuture<'a, ()> {
        Box::pin(async move {
            let written = self.open.write_all(piece).await;
            written.map_err(|error| SpoolError::io(&self.path, error))
        })
    }

    fn finish(
        self: Box<Self>,
        Fingerprint { size, sum }: Fingerprint,
    ) -> SpoolFuture<'static, Arc<dyn Stored>> {
        Box::pin(async move {
            let path = self.path.clone();
            let finished = self.sync_and_rename().await;
            let mut file = finished.map_err(|error| SpoolError::io(&path, error))?;
            (file.size, file.sum) = (size, Some(sum));
            let stored: Arc<dyn Stored> = Arc::new(file);
            Ok(stored)
        })
    }
}

impl Arriving {
    async fn sync_and_rename(mut self) -> std::io::Result<ContentFile> {
        self.open.flush().await?;
        self.open.sync_all().await?;
        tokio::fs::rename(&self.file.path, &self.path).await?;
        let folder = self.path.parent().unwrap_or(Path::new(".")).to_owned();
        self.file.path = self.path;
        tokio::task::spawn_blocking(move || files::sync_folder(&folder)).await??;
        Ok(self.file)
    }
}

impl Stored for ContentFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn sum(&self) -> Option<u32> {
        self.sum
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&self) -> SpoolFuture<'_, Reader> {
        Box::pin(async move {
            let file = File::open(&self.path).await;
            let file = file.map_err(|error| SpoolError::io(&self.path, error))?;
            let reader: Reader = Box::new(file);
            Ok(reader)
        })
    }

    fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for ContentFile {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            // If this fails, the file is removed or moved to `lost/` when the spool is next opened.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits;
    use crate::spool::{Content, ContentWriter};

    #[tokio::test]
    async fn large_contents_go_to_a_file_that_goes_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let id = MessageId::from_i64(7);
        let contents = Folder::new(folder.path().to_owned());
        let mut writer = ContentWriter::new(Arc::new(contents.clone()), id);
        for _ in 0..3 {
            writer.write(vec![b'x'; 100 * 1024]).await.unwrap();
        }
        let content = writer.finish().await.unwrap();
        assert_eq!(content.size(), 300 * 1024);
        assert_eq!(
            content.head().await.unwrap().len(),
            limits::HEADER_SECTION + 4
        );
        assert!(contents.path(id).exists());
        let wanted = Fingerprint {
            size: 300 * 1024,
            sum: crc32fast::hash(&[b'x'; 300 * 1024]),
        };
        assert_eq!(content.sum(), Some(wanted.sum));
        content.check(wanted).await.unwrap();
        crate::platform::files::flip(&contents.path(id), 200_000);
        let said = content.check(wanted).await.unwrap_err().to_string();
        assert!(said.contains("0000000000007.eml is damaged"), "{said}");
        drop(content);
        assert!(!contents.path(id).exists());
    }

    #[tokio::test]
    async fn small_ones_stay_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Arc::new(Folder::new(folder.path().to_owned()));
        let mut writer = ContentWriter::new(contents, MessageId::from_i64(7));
        writer.write(b"a".to_vec()).await.unwrap();
        writer.write(b"b".to_vec()).await.unwrap();
        let content = writer.finish().await.unwrap();
        assert!(matches!(&content, Content::Memory(bytes) if bytes == "ab"));
    }
}
