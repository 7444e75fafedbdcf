//! Who may send: users by password (argon2, off the runtime) or by network.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use aws_lc_rs::{constant_time, hmac};
use dashmap::DashMap;
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use crate::message::Priority;

/// How long a password that was right need not be hashed again.
const REMEMBERED: Duration = Duration::from_secs(300);

/// How long a check may wait for its turn; each takes 19 MiB and some 20 ms of a core.
const TURN: Duration = Duration::from_secs(20);

/// A user of the listener.
#[derive(Debug, Clone)]
pub struct User {
    /// The name that AUTH gives, and that logs show.
    pub name: String,
    /// The argon2 hash of the password (PHC string); none where only networks admit the user.
    pub hash: Option<Secret>,
    /// Clients from here are this user without AUTH.
    pub networks: Vec<IpNet>,
    /// How urgent this user's mail is.
    pub priority: Option<Priority>,
}

/// The passwords could not be checked just now.
#[derive(Debug, thiserror::Error)]
#[error("too many passwords are being checked at once")]
pub struct Busy;

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
        let nobody = hash_password(&"nobody".to_owned().into()).unwrap_or_default();
        Self {
            users,
            turns: Semaphore::new((cores / 2).max(1)),
            key,
            remembered: DashMap::new(),
            nobody,
        }
    }

    /// Whom this address is without AUTH.
    pub fn by_network(&self, address: IpAddr) -> Option<&str> {
        let admits = |user: &&User| {
            user.networks
                .iter()
                .any(|network| network.contains(&address))
        };
        self.users
            .iter()
            .find(admits)
            .map(|user| user.name.as_str())
    }

    /// How urgent a user's mail is, where that is said.
    pub fn priority(&self, name: &str) -> Option<Priority> {
        let user = self.users.iter().find(|user| user.name == name);
        user?.priority
    }

    /// Whether the password is the user's.
    pub async fn verify(&self, name: &str, password: Secret) -> Result<bool, Busy> {
        let user = self.users.iter().find(|user| user.name == name);
        let hash = user
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

/// Whether a text is a hash that passwords can be checked against.
pub fn is_hash(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| hash.algorithm.as_str().starts_with("argon2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let hash = hash_password(&"right".to_owned().into()).unwrap();
        assert!(is_hash(&hash) && !is_hash("right"));
        Users::new(vec![
            User {
                name: "erp".into(),
                hash: Some(hash.into()),
                networks: vec![],
                priority: None,
            },
            User {
                name: "scanner".into(),
                hash: None,
                networks: vec!["192.0.2.0/24".parse().unwrap()],
                priority: None,
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
        assert_eq!(
            users().by_network("192.0.2.7".parse().unwrap()),
            Some("scanner")
        );
        assert_eq!(users().by_network("198.51.100.1".parse().unwrap()), None);
    }
}
