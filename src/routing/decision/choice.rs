//! The choice of the server: steps 1 to 6 of `routing/rules.md`.

use super::Reason;
use crate::message::{Address, ReversePath};
use crate::routing::policy::{Caller, Key, Policy, ServerRule};

/// The chosen server, the reason, and the address that it should send as.
pub(super) struct Choice<'p> {
    pub(super) server: &'p ServerRule,
    pub(super) identity: Option<Address>,
    pub(super) reason: Reason,
}

impl Policy {
    /// Tries the steps in order and returns the result of the first step that finds a server.
    pub(super) fn choose<'p>(
        &'p self,
        sender: &ReversePath,
        author: Option<&Address>,
        caller: Caller,
    ) -> Option<Choice<'p>> {
        let default_from = self.default_from(&caller);
        if let Some(name) = caller.pinned {
            let mut servers = self.servers.iter();
            let server = servers.find(|server| server.name == name && caller.may_use(server))?;
            return Some(pinned(server, author, default_from));
        }
        let may = |server: &&ServerRule| caller.may_use(server);
        let candidates: Vec<&ServerRule> = self.servers.iter().filter(may).collect();
        let keys: Vec<(Key, &Address)> = self
            .keys
            .iter()
            .filter_map(|&key| match key {
                Key::Envelope => Some((key, sender.address()?)),
                Key::Header => Some((key, author?)),
            })
            .collect();
        let last = || candidates.first().filter(|_| self.last_resort);
        by_key(&candidates, &keys, default_from)
            .or_else(|| Self::by_default(&candidates, default_from))
            .or_else(|| unfiltered(&candidates, &keys, default_from))
            .or_else(|| last().map(|server| last_resort(server, default_from)))
    }

    /// Step 4: finds the first server that admits `default_from`, first by address, then by domain.
    pub(super) fn by_default<'p>(
        candidates: &[&'p ServerRule],
        default_from: Option<&Address>,
    ) -> Option<Choice<'p>> {
        let from = default_from?;
        let by_address = candidates.iter().find(|server| server.has_address(from));
        let server =
            by_address.or_else(|| candidates.iter().find(|server| server.has_domain(from)))?;
        Some(Choice {
            server,
            identity: Some(from.clone()),
            reason: Reason::DefaultFrom(from.clone()),
        })
    }
}

/// Step 1: chooses the server that the user is pinned to.
fn pinned<'p>(
    server: &'p ServerRule,
    author: Option<&Address>,
    default_from: Option<&Address>,
) -> Choice<'p> {
    let admitted = |address: &&Address| server.admits(address);
    let identity = author
        .filter(admitted)
        .or(default_from.filter(admitted))
        .or(server.address.as_ref());
    Choice {
        server,
        identity: identity.cloned(),
        reason: Reason::Pinned,
    }
}

/// Steps 2 and 3: tries all keys by address, then all keys by domain.
fn by_key<'p>(
    candidates: &[&'p ServerRule],
    keys: &[(Key, &Address)],
    default_from: Option<&Address>,
) -> Option<Choice<'p>> {
    for &(key, address) in keys {
        if let Some(server) = candidates.iter().find(|server| server.has_address(address)) {
            let reason = Reason::Address(key, address.clone());
            return Some(Choice {
                server,
                identity: Some(address.clone()),
                reason,
            });
        }
    }
    for &(key, address) in keys {
        if let Some(server) = candidates.iter().find(|server| server.has_domain(address)) {
            let admitted = default_from.filter(|from| server.admits(from));
            let identity = Some(admitted.unwrap_or(address).clone());
            return Some(Choice {
                server,
                identity,
                reason: Reason::Domain(key, address.clone()),
            });
        }
    }
    None
}

/// Step 5: finds the first server without a filter.
fn unfiltered<'p>(
    candidates: &[&'p ServerRule],
    keys: &[(Key, &Address)],
    default_from: Option<&Address>,
) -> Option<Choice<'p>> {
    let server = candidates.iter().find(|server| server.filter.is_none())?;
    let key = keys.first().map(|(_, address)| *address);
    let identity = default_from.or(key).or(server.address.as_ref());
    Some(Choice {
        server,
        identity: identity.cloned(),
        reason: Reason::Unfiltered,
    })
}

/// Step 6: takes the first server.
fn last_resort<'p>(server: &'p ServerRule, default_from: Option<&Address>) -> Choice<'p> {
    let identity = default_from.or(server.address.as_ref());
    Choice {
        server,
        identity: identity.cloned(),
        reason: Reason::LastResort,
    }
}
