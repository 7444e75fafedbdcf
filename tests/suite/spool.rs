//! The contract of the spool: the same tests for the spool in memory, for SQLite and for PostgreSQL. Then what only several nodes can do, and
//! what happens while the database is away.

mod contract;
mod copy;
mod engine;
mod nodes;

use engine::{Configured, Engine, InMemory, Postgres, Sqlite};
