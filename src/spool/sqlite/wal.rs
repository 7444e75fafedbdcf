//! Checks the write-ahead log before SQLite opens it. SQLite reads a log up to the first frame that is not
//! intact and silently drops the rest. For a log that a crash has cut short, this is correct: only the last
//! commit is incomplete. But if the disk has damaged an older frame, the commits after it are lost, although
//! their messages were answered with 250.
//!
//! The format is SQLite's (sqlite.org/fileformat2.html, "The Write-Ahead Log").

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Octets in the header of the log.
const HEADER: usize = 32;

/// Octets in the header of a frame.
const FRAME: usize = 24;

/// The largest page size in SQLite (octets).
const LARGEST_PAGE: u32 = 65_536;

/// Reads a log. Returns the number of commits from the first invalid frame on, minus the one that a crash
/// may have cut short. An invalid header counts as one lost commit.
pub(super) fn lost_commits(path: &Path) -> std::io::Result<u64> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        opened => opened?,
    };
    if file.metadata()?.len() <= HEADER as u64 {
        return Ok(0);
    }
    let mut log = BufReader::with_capacity(1024 * 1024, file);
    let mut header = [0; HEADER];
    log.read_exact(&mut header)?;
    let Some(mut frames) = Frames::of(&header) else {
        return Ok(1);
    };
    let mut frame = vec![0; FRAME + frames.page];
    let (mut is_whole, mut behind) = (true, 0);
    while read_whole(&mut log, &mut frame)? {
        is_whole = is_whole && frames.admits(&frame);
        // Frames left over from before the last reset of the log have different salts.
        let is_of_now = frame[8..16] == frames.salts;
        let is_commit = word(&frame[4..8]) != 0;
        behind += u64::from(!is_whole && is_of_now && is_commit);
    }
    Ok(behind.saturating_sub(1))
}

/// Reads the next frame. Returns false if the rest of the log is shorter than a frame.
fn read_whole(log: &mut impl Read, frame: &mut [u8]) -> std::io::Result<bool> {
    match log.read_exact(frame) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The values that frames are checked against.
struct Frames {
    page: usize,
    salts: [u8; 8],
    sums: (u32, u32),
    is_big_endian: bool,
}

impl Frames {
    fn of(header: &[u8; HEADER]) -> Option<Self> {
        let is_big_endian = match word(&header[0..4]) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        let page = word(&header[8..12]);
        let sums = summed((0, 0), &header[..24], is_big_endian);
        let is_whole = sums == (word(&header[24..28]), word(&header[28..32]));
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        (is_whole && (512..=LARGEST_PAGE).contains(&page)).then_some(Self {
            page: page as usize,
            salts,
            sums,
            is_big_endian,
        })
    }

    /// True if a frame is intact and continues the checksums of the frames before it.
    fn admits(&mut self, frame: &[u8]) -> bool {
        let sums = summed(self.sums, &frame[..8], self.is_big_endian);
        let sums = summed(sums, &frame[FRAME..], self.is_big_endian);
        let is_whole =
            frame[8..16] == self.salts && sums == (word(&frame[16..20]), word(&frame[20..24]));
        if is_whole {
            self.sums = sums;
        }
        is_whole
    }
}

fn word(octets: &[u8]) -> u32 {
    octets
        .iter()
        .fold(0, |word, octet| word << 8 | u32::from(*octet))
}

fn summed(sums: (u32, u32), octets: &[u8], is_big_endian: bool) -> (u32, u32) {
    let read = |octets: &[u8]| {
        let octets = [octets[0], octets[1], octets[2], octets[3]];
        if is_big_endian {
            u32::from_be_bytes(octets)
        } else {
            u32::from_le_bytes(octets)
        }
    };
    octets.chunks_exact(8).fold(sums, |(first, second), pair| {
        let first = first.wrapping_add(read(&pair[..4])).wrapping_add(second);
        let second = second.wrapping_add(read(&pair[4..])).wrapping_add(first);
        (first, second)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::files::flip;
    use rusqlite::Connection;
    use std::path::PathBuf;

    /// Creates a log of ten commits, as a killed process leaves it.
    fn log(folder: &Path) -> PathBuf {
        let connection = Connection::open(folder.join("it")).unwrap();
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .unwrap();
        connection.execute_batch("CREATE TABLE t (n)").unwrap();
        for n in 0..9 {
            connection
                .execute("INSERT INTO t VALUES (?1)", [n])
                .unwrap();
        }
        let copy = folder.join("copy-wal");
        std::fs::copy(folder.join("it-wal"), &copy).unwrap();
        copy
    }

    #[test]
    fn a_damaged_log_is_told_from_one_that_a_crash_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = log(folder.path());
        assert_eq!(lost_commits(&path).unwrap(), 0);
        let whole = std::fs::read(&path).unwrap();
        for cut in [1, 100, 5_000] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(lost_commits(&path).unwrap(), 0, "{cut}");
        }
        std::fs::write(&path, &whole).unwrap();
        // The last commit is torn.
        flip(&path, whole.len() as u64 - 10);
        assert_eq!(lost_commits(&path).unwrap(), 0);
        std::fs::write(&path, &whole).unwrap();
        flip(&path, (HEADER + FRAME) as u64 + 5_000);
        assert!(lost_commits(&path).unwrap() >= 7);
        std::fs::write(&path, &whole).unwrap();
        flip(&path, 2);
        assert_eq!(lost_commits(&path).unwrap(), 1);
        assert_eq!(lost_commits(&folder.path().join("none")).unwrap(), 0);
    }
}
