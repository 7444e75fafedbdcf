//! Where the database is.

use std::fs::File;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::base::Secret;
use crate::base::secret::ExposeSecret;
use crate::spool::Owner;

/// The database that the nodes share.
#[derive(Debug, Clone, Serialize)]
pub struct PostgresSettings {
    /// The URL, as libpq reads it (PostgreSQL manual §34.1.1.2), without the password.
    pub url: String,
    /// The password of the user in the URL.
    #[serde(serialize_with = "fingerprint")]
    pub password: Option<Secret>,
    /// A PEM file with certificates of the authorities that the server's certificate may come from, besides the
    /// system's.
    pub ca: Option<PathBuf>,
}

/// Which node this is.
#[derive(Debug)]
pub struct NodeIdentity {
    /// This run of this process.
    pub owner: Owner,
    /// Identifies the data folder, which only one process can use at a time.
    pub machine: String,
    /// The lock on that folder.
    pub lock: Option<File>,
}

impl PartialEq for PostgresSettings {
    fn eq(&self, other: &Self) -> bool {
        let password = |it: &Self| it.password.as_ref().map(|it| it.expose_secret().to_owned());
        (&self.url, &self.ca) == (&other.url, &other.ca) && password(self) == password(other)
    }
}

impl Eq for PostgresSettings {}

/// Serializes a password as a checksum, which can be compared but reveals nothing.
fn fingerprint<S: Serializer>(password: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    let sum = password
        .as_ref()
        .map(|password| crc32fast::hash(password.expose_secret().as_bytes()));
    sum.serialize(serializer)
}
