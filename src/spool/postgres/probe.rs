//! Checks if the database can be used, and says what is missing.

use super::database::Database;
use super::settings::PostgresSettings;
use crate::spool::SpoolError;

/// The oldest version of PostgreSQL that is supported, as the server numbers it: 14.
const OLDEST: i32 = 140_000;

const LOOK: &str = "
    SELECT current_setting('server_version_num')::integer, current_user::text, current_database()::text,
        current_schema()::text, coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
        to_regclass('format') IS NOT NULL,
        coalesce(has_table_privilege(to_regclass('message'), 'SELECT, INSERT, UPDATE, DELETE'), true),
        pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
        current_setting('synchronous_commit')";

/// The state of a database that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseState {
    /// The database and its hosts.
    pub name: String,
    /// True if mailferry has created its tables.
    pub has_tables: bool,
    /// Warnings for a person.
    pub warnings: Vec<String>,
}

impl PostgresSettings {
    /// Connects to the database, and checks everything that the program needs. The error says how to mend it.
    pub async fn probe(&self) -> Result<DatabaseState, SpoolError> {
        let rows = Database::new(self)?.query(LOOK, &[]).await?;
        let row = &rows[0];
        let (version, user, database): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        let schema: Option<String> = row.get(3);
        let wrong = |text: String| Err(SpoolError::Unusable { text });
        if version < OLDEST {
            let found = version / 10_000;
            return wrong(format!(
                "the server is PostgreSQL {found}; mailferry needs 14 or later"
            ));
        }
        if row.get(7) {
            return wrong(
                "the server takes no changes, because it is a standby: name the primary, or all hosts and \
                 target_session_attrs=read-write"
                    .to_owned(),
            );
        }
        let Some(schema) = schema else {
            return wrong(format!(
                "user {user} has no schema in the database {database}: CREATE SCHEMA {user} AUTHORIZATION {user};"
            ));
        };
        let has_tables: bool = row.get(5);
        if !has_tables && !row.get::<_, bool>(4) {
            return wrong(format!(
                "user {user} may not create tables: GRANT USAGE, CREATE ON SCHEMA {schema} TO {user};"
            ));
        }
        if !row.get::<_, bool>(6) {
            return wrong(format!(
                "user {user} may not use the tables: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} \
                 TO {user}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {user};"
            ));
        }
        let commits: String = row.get(8);
        let is_durable = commits != "off";
        let warning = "synchronous_commit is off: after a crash of the database, accepted messages may be lost; \
                       ALTER ROLE sets it for one user";
        Ok(DatabaseState {
            name: self.name(),
            has_tables,
            warnings: (!is_durable)
                .then(|| warning.to_owned())
                .into_iter()
                .collect(),
        })
    }
}
