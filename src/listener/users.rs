//! Who may send: users by password (argon2, off the runtime) or by network.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::Params;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{CustomizedPasswordHasher, PasswordHasher, PasswordVerifier};
use aws_lc_rs::{constant_time, hmac};
use dashmap::DashMap;
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::usage::Limit;
use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use crate::message::{Address, Priority};
use crate::routing::Filter;

/// How long a password that was right need not be hashed again.
const REMEMBERED: Duration = Duration::from_secs(300);

/// How long a check may wait for its turn; each takes 19 MiB and some 20 ms of a core.
const TURN: Duration = Duration::from_secs(20);

/// A user of the listener.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// The name that AUTH gives, and that logs show.
    pub name: String,
    /// The argon2 hash of the password (PHC string); none where only networks admit the user.
    pub hash: Option<Secret>,
    /// Clients from here are this user without AUTH.
    pub networks: Vec<IpNet>,
    /// How urgent this user's mail is.
    pub priority: Option<Priority>,
    /// Whom the user may send as, in the envelope and in From; none for everybody.
    pub senders: Option<Filter>,
    /// Whom the user may send to; none for everybody.
    pub recipients: Option<Filter>,
    /// What the user may send in some time.
    pub limits: Vec<Limit>,
    /// Sessions at once; none for what holds for everybody.
    pub sessions: Option<usize>,
    /// The sender of messages that have none, or no address: devices without a mailbox.
    pub assume_from: Option<Address>,
}

/// The passwords could not be checked just now.
#[derive(Debug, thiserror::Error)]
#[error("too many passwords are being checked at once")]
pub struct Busy;

impl User {
    /// Somebody of this name who may do everything, and whom nothing admits yet.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

/// The users of a listener.
///
/// A recent success is remembered as a MAC of the user's hash and the password under a key that only
/// this process's memory has: it serves for the same password and the same hash alone, tells nobody
/// what either is, and a wrong password always costs the full check.
pub struct Users {
    users: Vec<User>,
    turns: Semaphore,
    key: hmac::Key,
    remembered: DashMap<String, (hmac::Tag, Instant)>,
    /// Checked for names that do not exist, so that they cost the same.
    nobody: String,
}

impl Users {
    /// These users; earlier ones win where networks overlap.
    pub fn new(users: Vec<User>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let nobody = hash_of_nobody(&users);
        Self {
            users,
            turns: Semaphore::new((cores / 2).max(1)),
            key,
            remembered: DashMap::new(),
            nobody,
        }
    }

    /// Whom this address is without AUTH, of those that `may`.
    pub fn by_network(&self, address: IpAddr, may: impl Fn(&str) -> bool) -> Option<&User> {
        let admits = |user: &&User| {
            let mut networks = user.networks.iter();
            networks.any(|network| network.contains(&address)) && may(&user.name)
        };
        self.users.iter().find(admits)
    }

    /// The user of this name.
    pub fn get(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// Whether the password is the user's.
    pub async fn verify(&self, name: &str, password: Secret) -> Result<bool, Busy> {
        let hash = self
            .get(name)
            .and_then(|user| user.hash.as_ref())
            .map(|hash| hash.expose_secret().to_owned());
        let seen = hash.as_ref().map(|hash| self.mac(hash, &password));
        if self.is_remembered(name, seen.as_ref()) {
            return Ok(true);
        }
        let _turn = match timeout(TURN, self.turns.acquire()).await {
            Ok(Ok(turn)) => turn,
            _ => return Err(Busy),
        };
        // Another session of the same app may have been right while this one waited.
        if self.is_remembered(name, seen.as_ref()) {
            return Ok(true);
        }
        let against = hash.unwrap_or_else(|| self.nobody.clone());
        let right = check(against, password).await? && seen.is_some();
        if let (true, Some(seen)) = (right, seen) {
            self.remembered
                .insert(name.to_owned(), (seen, Instant::now()));
        }
        Ok(right)
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

/// The full check, off the runtime.
async fn check(hash: String, password: Secret) -> Result<bool, Busy> {
    let checked = tokio::task::spawn_blocking(move || {
        let Ok(hash) = PasswordHash::new(&hash) else {
            return false;
        };
        Argon2::default()
            .verify_password(password.expose_secret().as_bytes(), &hash)
            .is_ok()
    });
    checked.await.map_err(|_| Busy)
}

/// The argon2id hash of a password, with a salt of its own.
pub fn hash_password(password: &Secret) -> Result<String, argon2::password_hash::Error> {
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes())?;
    Ok(hash.to_string())
}

/// A hash that nothing matches, as costly as the users' own are.
fn hash_of_nobody(users: &[User]) -> String {
    let mut hashes = users.iter().filter_map(|user| user.hash.as_ref());
    let params = hashes.find_map(|hash| {
        let hash = PasswordHash::new(hash.expose_secret()).ok()?;
        Params::try_from(&hash).ok()
    });
    let salt = rand::random::<[u8; 16]>();
    let argon2 = Argon2::default();
    let params = params.unwrap_or_default();
    let hash = argon2.hash_password_customized(b"nobody", &salt, None, None, params);
    hash.map(|hash| hash.to_string()).unwrap_or_default()
}

/// Whether a text is a hash that passwords can be checked against: argon2id, and no weaker kind.
pub fn is_hash(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| hash.algorithm.as_str() == "argon2id")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let hash = hash_password(&"right".to_owned().into()).unwrap();
        assert!(is_hash(&hash) && !is_hash("right"));
        Users::new(vec![
            User {
                hash: Some(hash.into()),
                ..User::named("erp")
            },
            User {
                networks: vec!["192.0.2.0/24".parse().unwrap()],
                ..User::named("scanner")
            },
        ])
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
    fn a_name_that_nobody_has_costs_what_the_users_cost() {
        let params = |hash: &str| Params::try_from(&PasswordHash::new(hash).unwrap()).unwrap();
        let cheap = Params::new(64, 1, 1, None).unwrap();
        let hash = Argon2::default()
            .hash_password_customized(b"right", b"somesaltsomesalt", None, None, cheap.clone())
            .unwrap();
        let user = User {
            hash: Some(hash.to_string().into()),
            ..User::named("erp")
        };
        let users = Users::new(vec![User::named("scanner"), user]);
        assert_eq!(params(&users.nobody).m_cost(), cheap.m_cost());
        assert_eq!(params(&users.nobody).t_cost(), cheap.t_cost());
        assert!(!is_hash(&users.nobody.replace("argon2id", "argon2i")));
    }
}
