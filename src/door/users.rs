//! The users who may send, admitted by password or by network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, hmac};
use dashmap::DashMap;
use ipnet::IpNet;

use super::password::{Busy, Checks, Hash};
use super::usage::Limit;
use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use crate::message::{Address, Priority};
use crate::routing::Filter;

/// How long a correct password is remembered, so that it need not be hashed again.
const REMEMBERED: Duration = Duration::from_secs(300);

/// A user who may send.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// The name that AUTH uses, and that logs show.
    pub name: String,
    /// The argon2 hash of the password (PHC string); `None` if only networks admit the user.
    pub hash: Option<Secret>,
    /// Networks whose clients count as this user without AUTH.
    pub networks: Vec<IpNet>,
    /// How urgent this user's mail is.
    pub priority: Option<Priority>,
    /// The senders that the user may use, in the envelope and in `From`; `None` for all.
    pub senders: Option<Filter>,
    /// The recipients to whom the user may send; `None` for all.
    pub recipients: Option<Filter>,
    /// The amounts that the user may send in a period.
    pub limits: Vec<Limit>,
    /// The maximum number of simultaneous sessions; `None` for the limit that applies to every user.
    pub sessions: Option<usize>,
    /// The servers whose mailboxes the user may read.
    pub mailboxes: Vec<String>,
    /// The sender to assume for a message whose sender is null or not an address. It is meant for devices
    /// without a mailbox.
    pub assume_from: Option<Address>,
}

impl User {
    /// Returns the parsed password hash; `None` if it is missing or invalid.
    fn hash(&self) -> Option<Hash> {
        Hash::parse(self.hash.as_ref()?.expose_secret())
    }

    /// Creates a user of this name without restrictions. No password or network admits this user yet.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

/// The users of all listeners.
///
/// A recent success is remembered as a MAC of the user's hash and the password. The key of the MAC exists
/// only in this process's memory. The MAC is valid only for the same password and the same hash, and reveals
/// neither. A wrong password always costs the full check.
pub struct Users {
    users: Vec<User>,
    by_name: HashMap<String, usize>,
    checks: Arc<Checks>,
    key: hmac::Key,
    remembered: DashMap<String, (hmac::Tag, Instant)>,
    /// Hashes against which the passwords of unknown names are checked, so that unknown names take as long as
    /// existing ones.
    decoys: Vec<Hash>,
}

impl Users {
    /// Creates the list of users; `checks` checks their passwords. If networks overlap, the earlier user
    /// wins.
    pub fn new(users: Vec<User>, checks: Arc<Checks>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let hashes = users.iter().filter_map(User::hash);
        let mut decoys: Vec<Hash> = hashes.map(|hash| Hash::decoy(Some(&hash))).collect();
        if decoys.is_empty() {
            decoys.push(Hash::decoy(None));
        }
        let names = users.iter().enumerate().rev();
        let by_name = names.map(|(place, user)| (user.name.clone(), place));
        Self {
            by_name: by_name.collect(),
            users,
            checks,
            key,
            remembered: DashMap::new(),
            decoys,
        }
    }

    /// Returns the first user that has this address in one of its networks and that `may` accepts by name.
    pub fn by_network(&self, address: IpAddr, may: impl Fn(&str) -> bool) -> Option<&User> {
        let admits = |user: &&User| {
            let mut networks = user.networks.iter();
            networks.any(|network| network.contains(&address)) && may(&user.name)
        };
        self.users.iter().find(admits)
    }

    /// Returns the user of this name.
    pub fn get(&self, name: &str) -> Option<&User> {
        self.by_name.get(name).map(|place| &self.users[*place])
    }

    /// True if this is the user's password.
    pub async fn verify(&self, name: &str, password: Secret) -> Result<bool, Busy> {
        let hash = self
            .get(name)
            .and_then(|user| user.hash.as_ref())
            .map(|hash| hash.expose_secret().to_owned());
        let seen = hash.as_ref().map(|hash| self.mac(hash, &password));
        if self.is_remembered(name, seen.as_ref()) {
            return Ok(true);
        }
        let turn = self.checks.turn().await?;
        // Another session of the same app may have succeeded while this one waited.
        if self.is_remembered(name, seen.as_ref()) {
            return Ok(true);
        }
        let own = hash.as_deref().and_then(Hash::parse);
        let against = own.unwrap_or_else(|| self.nobody(name).clone());
        let right = turn.check(against, password).await? && seen.is_some();
        if let (true, Some(seen)) = (right, seen) {
            self.remembered
                .insert(name.to_owned(), (seen, Instant::now()));
        }
        Ok(right)
    }

    /// Returns the hash against which the password of an unknown name is checked. The same name always gets
    /// the same hash. Over all names, the costs are distributed like the costs of the users' hashes.
    fn nobody(&self, name: &str) -> &Hash {
        let tag = hmac::sign(&self.key, name.as_bytes());
        let number = tag.as_ref().iter().take(8);
        let number = number.fold(0u64, |number, octet| number << 8 | u64::from(*octet));
        &self.decoys[(number % self.decoys.len() as u64) as usize]
    }

    fn is_remembered(&self, name: &str, seen: Option<&hmac::Tag>) -> bool {
        let known = self.remembered.get(name).map(|entry| *entry);
        let (Some((tag, since)), Some(seen)) = (known, seen) else {
            return false;
        };
        since.elapsed() < REMEMBERED
            && constant_time::verify_slices_are_equal(tag.as_ref(), seen.as_ref()).is_ok()
    }

    fn mac(&self, hash: &str, password: &Secret) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(hash.len() as u64).to_be_bytes());
        context.update(hash.as_bytes());
        context.update(password.expose_secret().as_bytes());
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::password::hash_password;

    fn users() -> Users {
        let hash = hash_password(&"right".to_owned().into()).unwrap();
        let users = vec![
            User {
                hash: Some(hash.into()),
                ..User::named("erp")
            },
            User {
                networks: vec!["192.0.2.0/24".parse().unwrap()],
                ..User::named("scanner")
            },
        ];
        Users::new(users, Arc::default())
    }

    #[tokio::test]
    async fn remembers_only_what_was_right() {
        let users = users();
        let verify = async |name: &str, password: &str| {
            users
                .verify(name, password.to_owned().into())
                .await
                .unwrap()
        };
        assert!(!verify("erp", "wrong").await);
        assert!(users.remembered.is_empty());
        assert!(verify("erp", "right").await);
        assert_eq!(users.remembered.len(), 1);
        assert!(verify("erp", "right").await);
        assert!(!verify("erp", "wrong").await);
        assert!(!verify("nobody", "nobody").await);
        assert!(!verify("scanner", "").await);
    }

    #[test]
    fn knows_clients_by_network() {
        let users = users();
        let by_network = |address: &str, may| {
            let user = users.by_network(address.parse().unwrap(), |_| may);
            user.map(|user| user.name.as_str())
        };
        assert_eq!(by_network("192.0.2.7", true), Some("scanner"));
        assert_eq!(by_network("192.0.2.7", false), None);
        assert_eq!(by_network("198.51.100.1", true), None);
    }

    #[test]
    fn names_that_nobody_has_cost_what_the_users_do() {
        let hash = |memory| {
            let hash = hash_password(&"right".to_owned().into()).unwrap();
            hash.replace("m=7168", &format!("m={memory}"))
        };
        let user = |name: &str, memory| User {
            hash: Some(hash(memory).into()),
            ..User::named(name)
        };
        let users = vec![user("cheap", 64), user("costly", 8_192)];
        let users = Users::new(users, Arc::default());
        let cost = |name: &str| users.nobody(name).cost().0;
        let of = |memory| (0..200).filter(move |n| cost(&n.to_string()) == memory);
        assert_eq!(cost("somebody"), cost("somebody"));
        assert!((60..140).contains(&of(64).count()));
        assert_eq!(of(64).count() + of(8_192).count(), 200);
    }
}
