//! What a content is known by again. Pure.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Octets.
    pub size: u64,
    /// CRC-32 of them: against disks, not against people.
    pub sum: u32,
}

/// For people.
impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} octets of CRC-32 {:08x}", self.size, self.sum)
    }
}
