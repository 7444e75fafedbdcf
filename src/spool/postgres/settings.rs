//! Where the database is.

use std::path::PathBuf;

use crate::base::Secret;

/// The database that the nodes share.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// The URL, as libpq reads it (PostgreSQL manual §34.1.1.2), without the password.
    pub url: String,
    /// The password of the user in the URL.
    pub password: Option<Secret>,
    /// A PEM file with certificates of the authorities that the server's certificate may come from, besides the
    /// system's.
    pub ca: Option<PathBuf>,
}

impl PartialEq for PostgresSettings {
    fn eq(&self, other: &Self) -> bool {
        use crate::base::secret::ExposeSecret;
        let password = |it: &Self| it.password.as_ref().map(|it| it.expose_secret().to_owned());
        (&self.url, &self.ca) == (&other.url, &other.ca) && password(self) == password(other)
    }
}

impl Eq for PostgresSettings {}
