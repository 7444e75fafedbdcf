//! Passwords and their argon2id hashes. Each check takes the memory that its hash requires (7 MiB if
//! [`hash_password`] made the hash), so the number of simultaneous checks is limited. Buffers are reused. If
//! each check allocated its own, that memory would stay with the thread that ran the check (glibc's arenas),
//! and there are many threads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::CustomizedPasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::base::Secret;
use crate::base::secret::ExposeSecret;

/// How long a check may wait for its turn.
const TURN: Duration = Duration::from_secs(20);

/// Memory (KiB) and passes of new hashes: of the equivalent choices in OWASP's Password Storage Cheat Sheet,
/// the one that takes the least memory.
const NEW: (u32, u32) = (7_168, 5);

/// The length in octets of a random hash that no password matches.
const OUTPUT: usize = Params::DEFAULT_OUTPUT_LEN;

/// The length of a salt in octets (RFC 9106 §3.1).
const SALT: usize = 16;

/// Too many passwords are being checked at once.
#[derive(Debug, thiserror::Error)]
#[error("too many passwords are being checked at once")]
pub struct Busy;

/// A hash against which a password is checked, read from a PHC string.
#[derive(Clone)]
pub struct Hash {
    params: Params,
    version: Version,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Hash {
    /// Reads a PHC string. Returns `None` if it is not an argon2id hash.
    pub fn parse(text: &str) -> Option<Self> {
        let phc = PasswordHash::new(text).ok()?;
        if phc.algorithm.as_str() != Algorithm::Argon2id.as_str() {
            return None;
        }
        let version = phc.version.unwrap_or(Version::default() as u32);
        Some(Self {
            params: Params::try_from(&phc).ok()?,
            version: Version::try_from(version).ok()?,
            salt: phc.salt?.as_ref().to_vec(),
            output: phc.hash?.as_bytes().to_vec(),
        })
    }

    /// Creates a random hash, with its own salt, that no password matches. A check against it costs as much
    /// as a check against `like`.
    pub fn decoy(like: Option<&Self>) -> Self {
        let (memory, passes) = NEW;
        let usual = Params::new(memory, passes, 1, None).unwrap_or_default();
        Self {
            params: like.map_or(usual, |like| like.params.clone()),
            version: Version::default(),
            salt: rand::random::<[u8; SALT]>().to_vec(),
            output: rand::random::<[u8; OUTPUT]>().to_vec(),
        }
    }

    /// Returns a text that differs if the hash or its salt differs.
    pub(crate) fn digest(&self) -> String {
        BASE64_STANDARD.encode([self.salt.as_slice(), &self.output].concat())
    }

    /// Returns the cost of a check: memory (KiB), passes, lanes.
    pub fn cost(&self) -> (u32, u32, u32) {
        let Self { params, .. } = self;
        (params.m_cost(), params.t_cost(), params.p_cost())
    }

    fn is_of(&self, password: &Secret, memory: &mut Vec<Block>) -> bool {
        let needed = self.params.block_count();
        if memory.len() < needed {
            memory.resize(needed, Block::new());
        }
        let argon2 = Argon2::new(Algorithm::Argon2id, self.version, self.params.clone());
        let mut output = vec![0; self.output.len()];
        let password = password.expose_secret().as_bytes();
        let memory = &mut memory[..needed];
        let computed =
            argon2.hash_password_into_with_memory(password, &self.salt, &mut output, memory);
        computed.is_ok() && constant_time::verify_slices_are_equal(&output, &self.output).is_ok()
    }
}

/// Checks passwords. The number of turns is the maximum number of simultaneous checks.
pub struct Checks {
    turns: Semaphore,
    /// The buffers that no check is using at the moment.
    buffers: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Default for Checks {
    /// Provides one turn for every two cores, but at least one.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            turns: Semaphore::new((cores / 2).max(1)),
            buffers: Arc::default(),
        }
    }
}

impl Checks {
    /// Waits for a turn.
    pub async fn turn(&self) -> Result<Turn<'_>, Busy> {
        let turn = timeout(TURN, self.turns.acquire()).await;
        let permit = turn.map_err(|_| Busy)?.map_err(|_| Busy)?;
        Ok(Turn {
            buffers: &self.buffers,
            _permit: permit,
        })
    }
}

/// The right to check one password.
pub struct Turn<'a> {
    buffers: &'a Arc<Mutex<Vec<Vec<Block>>>>,
    _permit: tokio::sync::SemaphorePermit<'a>,
}

impl Turn<'_> {
    /// True if the password has this hash. The check runs on a blocking thread, outside the async runtime.
    pub async fn check(self, hash: Hash, password: Secret) -> Result<bool, Busy> {
        let buffers = self.buffers.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let mut memory = free(&buffers).pop().unwrap_or_default();
            let is_right = hash.is_of(&password, &mut memory);
            free(&buffers).push(memory);
            is_right
        });
        checked.await.map_err(|_| Busy)
    }
}

fn free(buffers: &Mutex<Vec<Vec<Block>>>) -> std::sync::MutexGuard<'_, Vec<Vec<Block>>> {
    buffers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hashes a password with argon2id and a new salt. Returns the hash as a PHC string.
pub(crate) fn hash_password(password: &Secret) -> Result<String, argon2::password_hash::Error> {
    let (memory, passes) = NEW;
    let params = Params::new(memory, passes, 1, None)?;
    let (password, salt) = (password.expose_secret(), rand::random::<[u8; SALT]>());
    let argon2 = Argon2::default();
    let hash = argon2.hash_password_customized(password.as_bytes(), &salt, None, None, params)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buffer_serves_one_check_after_another() {
        let checks = Checks::default();
        let hash = Hash::parse(&hash_password(&"right".to_owned().into()).unwrap()).unwrap();
        let check = async |hash: &Hash, password: &str| {
            let turn = checks.turn().await.unwrap();
            turn.check(hash.clone(), password.to_owned().into())
                .await
                .unwrap()
        };
        assert!(check(&hash, "right").await);
        assert!(!check(&hash, "wrong").await);
        assert!(!check(&Hash::decoy(Some(&hash)), "right").await);
        assert!(check(&hash, "right").await);
        assert_eq!(free(&checks.buffers).len(), 1);
    }

    #[test]
    fn reads_what_other_tools_hashed_and_no_weaker_kind() {
        let argon2 = Argon2::default();
        let params = Params::new(64, 1, 1, None).unwrap();
        let phc =
            argon2.hash_password_customized(b"right", b"somesaltsomesalt", None, None, params);
        let text = phc.unwrap().to_string();
        let hash = Hash::parse(&text).unwrap();
        assert_eq!(hash.cost(), (64, 1, 1));
        assert!(hash.is_of(&"right".to_owned().into(), &mut Vec::new()));
        assert!(Hash::parse(&text.replace("argon2id", "argon2i")).is_none());
        assert!(Hash::parse("right").is_none());
        assert_eq!(Hash::decoy(Some(&hash)).cost(), hash.cost());
    }
}
