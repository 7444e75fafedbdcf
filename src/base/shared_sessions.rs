//! Sessions that several nodes count together.

use super::BoxFuture;

/// Counts the sessions of users over all nodes.
pub trait SharedSessions: Send + Sync {
    /// Counts one more session of a user who may have `most` on all nodes together. Returns false if the user has as many
    /// already. While the nodes cannot be asked, it returns true: each node limits its own sessions besides.
    fn begin<'a>(&'a self, user: &'a str, most: usize) -> BoxFuture<'a, bool>;

    /// Counts one session of a user less, soon.
    fn end(&self, user: &str);
}
