//! Secrets that several nodes keep together, sealed with a key that the keeper does not know.

use std::time::Duration;

use super::BoxFuture;

/// Why a secret could not be read or stored, in words.
pub type NotKept = String;

/// A sealed secret, and the number of its version.
pub type SealedSecret = (i64, Vec<u8>);

/// A place where nodes keep sealed secrets together.
pub trait SharedSecrets: Send + Sync {
    /// Returns a secret, if it is there.
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SealedSecret>, NotKept>>;

    /// Returns the version of a secret, if it is there. It may be a second old, so that asking for many secrets costs no more
    /// than asking for one.
    fn recent_version<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<i64>, NotKept>>;

    /// Returns the names of the secrets that are there, in any order.
    fn names(&self) -> BoxFuture<'_, Result<Vec<String>, NotKept>>;

    /// Removes a secret.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NotKept>>;

    /// Stores a secret durably, if its version is still `known` (`None` if it is not there yet). Returns the new
    /// version; `None` if another node has stored another one meanwhile.
    fn store<'a>(
        &'a self,
        name: &'a str,
        known: Option<i64>,
        sealed: Vec<u8>,
    ) -> BoxFuture<'a, Result<Option<i64>, NotKept>>;

    /// Replaces secrets durably, each of which must still have this version: all or none. Refuses if another node runs, which
    /// could not read them.
    fn replace(&self, secrets: Vec<(String, SealedSecret)>) -> BoxFuture<'_, Result<(), NotKept>>;

    /// Requests to be the only node that renews a secret, for this time at most. Returns false if another node renews it
    /// now.
    fn begin_renewal<'a>(
        &'a self,
        name: &'a str,
        most: Duration,
    ) -> BoxFuture<'a, Result<bool, NotKept>>;

    /// Lets other nodes renew a secret.
    fn end_renewal<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()>;
}
