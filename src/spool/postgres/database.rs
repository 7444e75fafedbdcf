//! Connections to PostgreSQL: a pool, with TLS, bounded waits, and errors in words.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, QueueMode,
    RecyclingMethod, Runtime, Timeouts,
};
use futures_util::future::join_all;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Config, Error, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::settings::PostgresSettings;
use crate::base::secret::ExposeSecret;
use crate::base::tls;
use crate::spool::{DatabaseFault, SpoolError};

/// The maximum number of connections of one node: the committer, the claims, a few transactions that end messages,
/// bodies that arrive or are sent, and reads of operators. PostgreSQL admits 100 by default, for all nodes.
const CONNECTIONS: usize = 12;

/// The longest wait for a free connection of the pool, and for a new one.
const CONNECT: Duration = Duration::from_secs(5);

/// The longest time for one transaction. A client that waits for its 250 gets 451 after that.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// The statement with which each connection begins. The server ends a transaction whose node is stopped in the
/// middle of it, because its locks would stop other nodes.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '10s'";

/// The database.
pub(super) struct Database {
    pool: Pool,
    name: Arc<str>,
    config: Config,
    tls: MakeRustlsConnect,
}

/// A connection of the pool. It returns to the pool with [`Lent::done`]. If it is dropped before, because of an error
/// or a timeout, it is closed, and the server undoes its transaction.
pub(super) struct Lent {
    object: Option<Object>,
    name: Arc<str>,
}

/// The parameters of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement with its values.
pub(super) type Prepared = (&'static str, Vec<Box<dyn ToSql + Sync + Send>>);

type Executed<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

impl Database {
    /// Prepares the pool. Connects to nothing yet.
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, SpoolError> {
        let config = config(settings)?;
        let name = name(&config);
        let roots = match &settings.ca {
            Some(file) => tls::read_certificates(file),
            None => Ok(Vec::new()),
        };
        let client = roots.and_then(|roots| tls::client_config(&roots));
        let client = client.map_err(|error| away(&name, &error))?;
        let tls = MakeRustlsConnect::new(client);
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(config.clone(), tls.clone(), manager);
        let begun = Hook::async_fn(|client: &mut ClientWrapper, _| {
            Box::pin(async {
                let begun = client.batch_execute(SESSION).await;
                begun.map_err(HookError::Backend)
            })
        });
        let timeouts = Timeouts {
            wait: Some(CONNECT),
            create: Some(CONNECT),
            recycle: Some(CONNECT),
        };
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .timeouts(timeouts)
            // The connection that was used last is the fastest: its server process is still in the processor's cache.
            .queue_mode(QueueMode::Lifo)
            .post_create(begun)
            .build();
        Ok(Self {
            pool: pool.map_err(|error| away(&name, &error))?,
            name,
            config,
            tls,
        })
    }

    /// The database's name and hosts, for people.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Takes a connection from the pool, or makes one.
    pub(super) async fn lend(&self) -> Result<Lent, SpoolError> {
        let lent = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                fault(&self.name, &error)
            }
            error => away(&self.name, &error),
        });
        Ok(Lent {
            object: Some(lent?),
            name: self.name.clone(),
        })
    }

    /// Bounds a transaction in time.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, SpoolError>>,
    ) -> Result<T, SpoolError> {
        match tokio::time::timeout(ANSWER, work).await {
            Ok(done) => done,
            Err(_) => Err(self.no_answer(ANSWER)),
        }
    }

    /// The error after waiting for so long.
    pub(super) fn no_answer(&self, waited: Duration) -> SpoolError {
        SpoolError::Away {
            name: self.name.to_string(),
            text: format!("no answer within {} s", waited.as_secs()),
        }
    }

    /// Reads rows with one statement.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, SpoolError> {
        self.within(async {
            let lent = self.lend().await?;
            let rows = lent.query(sql, values).await?;
            lent.done();
            Ok(rows)
        })
        .await
    }

    /// Runs one statement. Returns the number of changed rows.
    pub(super) async fn execute(
        &self,
        sql: &'static str,
        values: Values<'_>,
    ) -> Result<u64, SpoolError> {
        self.within(async {
            let lent = self.lend().await?;
            let count = lent.execute(sql, values).await?;
            lent.done();
            Ok(count)
        })
        .await
    }

    /// Listens to a channel (LISTEN) on a connection of its own, until that connection ends, and returns the reason.
    /// Calls `heard` with each notification.
    pub(super) async fn listen(&self, channel: &'static str, heard: impl Fn(&str)) -> SpoolError {
        let connected = self.config.connect(self.tls.clone()).await;
        let (client, mut connection) = match connected {
            Ok(connected) => connected,
            Err(error) => return fault(&self.name, &error),
        };
        let listen = format!("LISTEN {channel}");
        let mut listening = pin!(client.batch_execute(&listen));
        let mut is_listening = false;
        poll_fn(|context| {
            if !is_listening && let Poll::Ready(begun) = listening.as_mut().poll(context) {
                if let Err(error) = begun {
                    return Poll::Ready(fault(&self.name, &error));
                }
                is_listening = true;
            }
            loop {
                match ready!(connection.poll_message(context)) {
                    Some(Ok(AsyncMessage::Notification(notification))) => {
                        heard(notification.payload());
                    }
                    // The answer to LISTEN has come, perhaps.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(fault(&self.name, &error)),
                    None => {
                        return Poll::Ready(SpoolError::Away {
                            name: self.name.to_string(),
                            text: "the connection has ended".to_owned(),
                        });
                    }
                }
            }
        })
        .await
    }
}

impl Lent {
    /// Returns the connection to the pool.
    pub(super) fn done(mut self) {
        drop(self.object.take());
    }

    /// Prepares a statement, unless this connection knows it already.
    async fn prepared(&self, sql: &str) -> Result<Statement, SpoolError> {
        let prepared = self.prepare_cached(sql).await;
        prepared.map_err(|error| fault(&self.name, &error))
    }

    /// Reads rows with one statement.
    pub(super) async fn query(
        &self,
        sql: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, SpoolError> {
        let statement = self.prepared(sql).await?;
        let rows = self.deref().query(&statement, values).await;
        rows.map_err(|error| fault(&self.name, &error))
    }

    /// Runs one statement. Returns the number of changed rows.
    pub(super) async fn execute(&self, sql: &str, values: Values<'_>) -> Result<u64, SpoolError> {
        let statement = self.prepared(sql).await?;
        let count = self.deref().execute(&statement, values).await;
        count.map_err(|error| fault(&self.name, &error))
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<(), SpoolError> {
        self.batch("BEGIN").await
    }

    /// Commits the transaction.
    pub(super) async fn commit(&self) -> Result<(), SpoolError> {
        self.batch("COMMIT").await
    }

    /// Runs statements that have no parameters.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), SpoolError> {
        let done = self.batch_execute(sql).await;
        done.map_err(|error| fault(&self.name, &error))
    }

    /// Runs statements one after the other without waiting in between, so that all of them take one round trip; with
    /// `begins`, as a transaction of their own, otherwise as the end of the one under way. The last of them is the
    /// commit.
    pub(super) async fn write(
        &self,
        statements: &[Prepared],
        begins: bool,
    ) -> Result<(), SpoolError> {
        let mut prepared = Vec::with_capacity(statements.len());
        for (sql, _) in statements {
            prepared.push(self.prepared(sql).await?);
        }
        if let ([(_, values)], [statement], true) = (statements, &prepared[..], begins) {
            // One statement is a transaction by itself.
            let values: Vec<_> = values
                .iter()
                .map(|value| &**value as &(dyn ToSql + Sync))
                .collect();
            let done = self.deref().execute(statement, &values).await;
            return done.map(drop).map_err(|error| fault(&self.name, &error));
        }
        let simple = |sql: &'static str| -> Executed<'_> {
            Box::pin(async move { self.batch_execute(sql).await.map(|()| 0) })
        };
        let begin = begins.then(|| simple("BEGIN"));
        let writes = statements.iter().zip(&prepared);
        let writes = writes.map(|((_, values), statement)| -> Executed<'_> {
            let values = values.iter().map(|value| &**value as &(dyn ToSql + Sync));
            let values: Vec<_> = values.collect();
            Box::pin(async move { self.deref().execute(statement, &values).await })
        });
        let commit = simple("COMMIT");
        // `join_all` polls in this order, and the first poll of each sends its statement.
        let all = join_all(begin.into_iter().chain(writes).chain([commit])).await;
        // If a statement has failed, COMMIT undoes the transaction and reports no error.
        let failed = all.into_iter().find_map(Result::err);
        match failed {
            None => Ok(()),
            Some(error) => Err(fault(&self.name, &error)),
        }
    }
}

impl Deref for Lent {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.object.as_ref().expect("it is there until `done`")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl PostgresSettings {
    /// Checks the URL and the certificates, without connecting.
    pub fn check(&self) -> Result<(), SpoolError> {
        Database::new(self).map(drop)
    }

    /// Returns the database's name and hosts, for people.
    pub fn name(&self) -> String {
        config(self).map_or_else(|_| String::new(), |it| name(&it).to_string())
    }
}

/// Reads the address of the database.
fn config(settings: &PostgresSettings) -> Result<Config, SpoolError> {
    // rustls always verifies the certificate and the name, so that `require` is what libpq calls `verify-full`.
    let url = settings
        .url
        .replace("sslmode=verify-full", "sslmode=require");
    let mut config = Config::from_str(&url).map_err(|error| SpoolError::BadUrl {
        text: with_cause(&error),
    })?;
    if let Some(password) = &settings.password {
        config.password(password.expose_secret());
    }
    if !settings.url.contains("sslmode=") {
        let is_here = config.get_hosts().iter().all(is_local);
        config.ssl_mode(if is_here {
            SslMode::Disable
        } else {
            SslMode::Require
        });
    }
    config
        .application_name("mailferry")
        .connect_timeout(CONNECT)
        .tcp_user_timeout(Duration::from_secs(20))
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
    Ok(config)
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            let address = name.parse::<std::net::IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

/// Returns the name of the database for people: its hosts and its name, without the user.
fn name(config: &Config) -> Arc<str> {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    match config.get_dbname() {
        Some(name) => format!("{name} on {hosts}").into(),
        None => hosts.into(),
    }
}

fn away(name: &str, error: &dyn std::error::Error) -> SpoolError {
    SpoolError::Away {
        name: name.to_owned(),
        text: with_cause(error),
    }
}

/// Converts an error: without a code, the connection failed; with a code, the server reported it.
fn fault(name: &str, error: &Error) -> SpoolError {
    let Some(code) = error.code() else {
        return away(name, error);
    };
    let is_away = code.code().starts_with("08")
        || code.code().starts_with("57P")
        || [
            SqlState::TOO_MANY_CONNECTIONS,
            // The server has become a standby.
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(code);
    if is_away {
        return away(name, error);
    }
    let remedy = match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "set `password` to the password of the database's user, and let pg_hba.conf admit this host"
        }
        SqlState::INVALID_CATALOG_NAME => {
            "create it: CREATE ROLE mailferry LOGIN PASSWORD '...'; CREATE DATABASE mailferry OWNER mailferry;"
        }
        SqlState::INSUFFICIENT_PRIVILEGE => "`mailferry check` names the missing right",
        _ => "",
    };
    if !remedy.is_empty() {
        return SpoolError::Unusable {
            text: format!("{} ({name}): {remedy}", with_cause(error)),
        };
    }
    let fault = match *code {
        SqlState::DISK_FULL => DatabaseFault::Full,
        // The statements FENCE and WHOLE of changes.rs.
        SqlState::DIVISION_BY_ZERO => return SpoolError::TakenOver,
        _ => DatabaseFault::Other,
    };
    SpoolError::Database {
        fault,
        text: format!("{} ({name})", with_cause(error)),
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(its) = cause {
        text.push_str(": ");
        text.push_str(&its.to_string());
        cause = its.source();
    }
    text
}
