//! Sealed secrets that the nodes keep together. The database does not know the key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::database::Values;
use super::schema;
use super::shared::Shared;
use crate::base::BoxFuture;
use crate::base::shared_secrets::{NotKept, SealedSecret, SharedSecrets};
use crate::spool::SpoolError;
use crate::spool::lease::DEAD;

const LOAD: &str = "SELECT version, data FROM secret WHERE name = $1 AND data IS NOT NULL";

const VERSIONS: &str = "SELECT name, version FROM secret WHERE data IS NOT NULL";
const REMOVE: &str = "DELETE FROM secret WHERE name = $1";

const INSERT: &str = "
    INSERT INTO secret (name, version, data) VALUES ($1, 1, $2)
    ON CONFLICT (name) DO UPDATE SET version = secret.version + 1, data = excluded.data WHERE secret.data IS NULL
    RETURNING version";
const UPDATE: &str = "
    UPDATE secret SET version = version + 1, data = $2 WHERE name = $1 AND version = $3 RETURNING version";

const OTHERS: &str = "
    SELECT name FROM node WHERE id <> $1 AND seen >= clock_timestamp() - $2 * interval '1 ms' ORDER BY id LIMIT 1";

const BEGIN: &str = "
    INSERT INTO secret (name, version, renewed_by, renewed_until)
    VALUES ($1, 0, $2, clock_timestamp() + $3 * interval '1 ms')
    ON CONFLICT (name) DO UPDATE SET renewed_by = excluded.renewed_by, renewed_until = excluded.renewed_until
        WHERE secret.renewed_by IS NULL OR secret.renewed_by = excluded.renewed_by
            OR secret.renewed_until < clock_timestamp() OR NOT EXISTS (SELECT FROM node WHERE id = secret.renewed_by)";
const END: &str = "UPDATE secret SET renewed_by = NULL WHERE name = $1 AND renewed_by = $2";

/// How often the end of a renewal is told again if the database does not answer, and the pause in between.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// How old the result of [`SharedSecrets::recent_version`] may be.
const RECENT: Duration = Duration::from_secs(1);

/// The versions of the secrets, by name.
type Versions = HashMap<String, i64>;

/// The secrets in the database.
pub(super) struct Secrets {
    shared: Arc<Shared>,
    /// The versions of all secrets, or why they could not be read, and until when they are recent.
    recent: Mutex<Option<(Instant, Result<Versions, NotKept>)>>,
}

impl Secrets {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            recent: Mutex::default(),
        }
    }

    async fn versions(&self) -> Result<Versions, NotKept> {
        let rows = self.shared.database.query(VERSIONS, &[]).await;
        let rows = rows.map_err(|error| error.to_string())?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

impl SharedSecrets for Secrets {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SealedSecret>, NotKept>> {
        Box::pin(async move {
            let rows = self.shared.database.query(LOAD, &[&name]).await;
            let rows = rows.map_err(|error| error.to_string())?;
            Ok(rows.first().map(|row| (row.get(0), row.get(1))))
        })
    }

    fn recent_version<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<i64>, NotKept>> {
        Box::pin(async move {
            let mut recent = self.recent.lock().await;
            let versions = match &*recent {
                Some((until, versions)) if Instant::now() < *until => versions,
                _ => {
                    let versions = self.versions().await;
                    &recent.insert((Instant::now() + RECENT, versions)).1
                }
            };
            let versions = versions.as_ref().map_err(Clone::clone)?;
            Ok(versions.get(name).copied())
        })
    }

    fn names(&self) -> BoxFuture<'_, Result<Vec<String>, NotKept>> {
        Box::pin(async move {
            let versions = self.versions().await?;
            Ok(versions.into_keys().collect())
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NotKept>> {
        Box::pin(async move {
            let removed = self.shared.database.execute(REMOVE, &[&name]).await;
            removed.map(drop).map_err(|error| error.to_string())
        })
    }

    fn store<'a>(
        &'a self,
        name: &'a str,
        known: Option<i64>,
        sealed: Vec<u8>,
    ) -> BoxFuture<'a, Result<Option<i64>, NotKept>> {
        Box::pin(async move {
            let database = &self.shared.database;
            let rows = match known {
                None => database.query(INSERT, &[&name, &sealed]).await,
                Some(known) => database.query(UPDATE, &[&name, &sealed, &known]).await,
            };
            let rows = rows.map_err(|error| error.to_string())?;
            Ok(rows.first().map(|row| row.get(0)))
        })
    }

    fn replace(&self, secrets: Vec<(String, SealedSecret)>) -> BoxFuture<'_, Result<(), NotKept>> {
        Box::pin(async move {
            let replaced = replace(&self.shared, secrets).await;
            match replaced.map_err(|error| error.to_string())? {
                Replaced::All => Ok(()),
                Replaced::Serving(node) => Err(format!(
                    "the node {node} runs with the old key: stop all other nodes, give all nodes the new key, and start them again"
                )),
                Replaced::Changed(name) => Err(format!(
                    "the account {name} has changed meanwhile; run the command again"
                )),
            }
        })
    }

    fn begin_renewal<'a>(
        &'a self,
        name: &'a str,
        most: Duration,
    ) -> BoxFuture<'a, Result<bool, NotKept>> {
        Box::pin(async move {
            let (node, most) = (self.shared.node(), most.as_millis() as f64);
            let values: Values = &[&name, &node, &most];
            let begun = self.shared.database.execute(BEGIN, values).await;
            begun
                .map(|count| count > 0)
                .map_err(|error| error.to_string())
        })
    }

    fn end_renewal<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        Box::pin(async move {
            if end(&shared, &name).await {
                return;
            }
            // Otherwise the other nodes would wait for the end of the time.
            tokio::spawn(async move {
                for _ in 0..TRIES {
                    shared.clock.sleep(PAUSE).await;
                    if end(&shared, &name).await {
                        return;
                    }
                }
            });
        })
    }
}

/// What became of a replacement.
enum Replaced {
    All,
    /// Nothing was replaced, because this node runs.
    Serving(String),
    /// Nothing was replaced, because this secret has changed.
    Changed(String),
}

async fn replace(
    shared: &Shared,
    secrets: Vec<(String, SealedSecret)>,
) -> Result<Replaced, SpoolError> {
    let (database, node, dead) = (&shared.database, shared.node(), DEAD.as_millis() as f64);
    let replaced = database.within(async {
        let lent = database.lend().await?;
        lent.begin().await?;
        schema::lock(&lent).await?;
        // If this returns early, the connection is closed, which undoes the transaction.
        if let Some(other) = lent.query(OTHERS, &[&node, &dead]).await?.first() {
            return Ok(Replaced::Serving(other.get(0)));
        }
        for (name, (known, sealed)) in secrets {
            if lent
                .query(UPDATE, &[&name, &sealed, &known])
                .await?
                .is_empty()
            {
                return Ok(Replaced::Changed(name));
            }
        }
        lent.commit().await?;
        lent.done();
        Ok(Replaced::All)
    });
    replaced.await
}

/// Returns true if the other nodes may renew a secret now.
async fn end(shared: &Shared, name: &str) -> bool {
    let node = shared.node();
    shared.database.execute(END, &[&name, &node]).await.is_ok()
}
