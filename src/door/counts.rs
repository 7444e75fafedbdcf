//! Counts of sessions (in total, by listener, by address, by user), and the memory that messages in flight
//! take. Dropping a `Counted` or a `Share` gives back what it took, however the session ended.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

/// The number of leading bits that identify a site in an IPv6 address: a client has a /64 (RFC 6177 §2).
const SITE: u32 = 64;

/// The count for each key.
#[derive(Debug)]
pub(crate) struct Counts<K: Eq + Hash>(DashMap<K, usize>);

/// One slot in a count; dropping it releases the slot.
#[derive(Debug)]
pub struct Counted<K: Eq + Hash> {
    counts: Arc<Counts<K>>,
    key: K,
}

/// The memory that messages in flight take, in octets.
#[derive(Debug, Default)]
pub struct Memory(AtomicU64);

/// The part of a [`Memory`] that one message takes.
#[derive(Debug)]
pub(crate) struct Share {
    memory: Arc<Memory>,
    held: u64,
}

/// Returns the address under which a client is counted.
pub(crate) fn site(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = address.to_bits() >> (128 - SITE) << (128 - SITE);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

impl<K: Eq + Hash + Clone> Counts<K> {
    /// Creates counts that are all zero.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(DashMap::new()))
    }

    /// Adds one to this key's count if it is below `most`; otherwise returns `None`.
    pub(crate) fn take(self: &Arc<Self>, key: K, most: usize) -> Option<Counted<K>> {
        let mut count = self.0.entry(key.clone()).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(count);
        Some(Counted {
            counts: self.clone(),
            key,
        })
    }

    /// Returns the count for this key.
    pub(crate) fn of(&self, key: &K) -> usize {
        self.0.get(key).map_or(0, |count| *count)
    }
}

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        self.counts.0.remove_if_mut(&self.key, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

impl Share {
    /// Creates an empty share.
    pub(crate) fn none_of(memory: &Arc<Memory>) -> Self {
        Self {
            memory: memory.clone(),
            held: 0,
        }
    }

    /// Resizes the share to `to` octets, unless all shares together would then exceed `most`. Returns true if
    /// it was resized. A reduction always succeeds.
    pub(crate) fn resize(&mut self, to: u64, most: u64) -> bool {
        let used = &self.memory.0;
        if to <= self.held {
            used.fetch_sub(self.held - to, Ordering::Relaxed);
        } else {
            let more = to - self.held;
            let fits = |now: u64| Some(now + more).filter(|sum| *sum <= most);
            let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
            if taken.is_err() {
                return false;
            }
        }
        self.held = to;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_is_given_back_and_leaves_nothing() {
        let counts = Counts::new();
        let first = counts.take("a", 1).unwrap();
        assert!(counts.take("a", 1).is_none());
        assert!(counts.take("b", 1).is_some());
        drop(first);
        assert!(counts.take("a", 1).is_some());
        assert!(counts.0.is_empty());
    }

    #[test]
    fn a_client_of_ipv6_is_counted_by_its_site() {
        let site = |text: &str| site(text.parse().unwrap()).to_string();
        assert_eq!(site("192.0.2.7"), "192.0.2.7");
        assert_eq!(site("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    proptest! {
        #[test]
        fn memory_stays_below_its_most(sizes in prop::collection::vec((0usize..4, 0u64..100), 1..100)) {
            let memory = Arc::new(Memory::default());
            let mut shares: Vec<Share> = (0..4).map(|_| Share::none_of(&memory)).collect();
            for (which, size) in sizes {
                shares[which].resize(size, 150);
                let held: u64 = shares.iter().map(|share| share.held).sum();
                prop_assert!(held <= 150);
                prop_assert_eq!(memory.0.load(Ordering::Relaxed), held);
            }
            drop(shares);
            prop_assert_eq!(memory.0.load(Ordering::Relaxed), 0);
        }
    }
}
