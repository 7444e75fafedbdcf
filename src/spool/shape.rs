//! The size and checksum that identify a content. Pure.

/// A content's size and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// The number of octets.
    pub size: u64,
    /// The CRC-32 of the octets: it protects against faulty disks, not against tampering.
    pub sum: u32,
}

/// The text for error messages.
impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} octets with CRC-32 {:08x}", self.size, self.sum)
    }
}
