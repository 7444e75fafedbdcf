//! Reads a message's record and story from their rows.

use rusqlite::types::{FromSqlError, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::base::{MessageId, Timestamp};
use crate::message::{Address, Envelope, Parameters, Recipient, ReversePath};
use crate::spool::story::read_events;
use crate::spool::{Flow, Origin, Record, SpoolError, State, Story};

/// The number of columns of a record.
pub(super) const COLUMNS: usize = 24;

/// The columns of a record, in the order in which [`record`] reads them.
macro_rules! columns {
    () => {
        "id, lane, flow, due, state, received, sender, parameters, about, listener, peer, helo, protocol, size, \
         sum, attempts, last, uncertain, warned, holds, former_lane, recipient, recipient_parameters, message_id"
    };
}
pub(super) use columns;

/// Builds a statement from `SELECT`, the columns of a record, optional further columns, `FROM message`, and
/// the rest.
macro_rules! select {
    ($rest:literal) => {
        select!("", $rest)
    };
    ($more:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $crate::spool::sqlite::rows::columns!(),
            $more,
            " FROM message ",
            $rest
        )
    };
}
pub(super) use select;

/// The value of the column `about` for a digest.
pub(super) const DIGEST: &str = "digest";

/// The state of a row that cannot be read.
pub(super) const UNREADABLE: i64 = 2;

/// The database, in messages.
pub(super) const PLACE: &str = "spool.sqlite";

/// The state of a waiting recipient.
pub(super) const WAITING: i64 = 0;

/// Reads a message's record; `None` if the message is not in the queue.
pub(super) fn find(connection: &Connection, id: MessageId) -> Result<Option<Record>, SpoolError> {
    let mut statement = connection.prepare_cached(select!("WHERE id = ?1"))?;
    let found = statement.query_row(params![id.to_i64()], |row| record(connection, row));
    Ok(found.optional()?)
}

/// Reads the record from a row that a [`select`] statement returned.
pub(super) fn record(connection: &Connection, row: &Row) -> rusqlite::Result<Record> {
    let id = MessageId::from_i64(row.get(0)?);
    let Flow { priority, user } = Flow::of_key(row.get_ref(2)?.as_str()?);
    let sender = row.get_ref(6)?.as_str()?;
    let about: Option<String> = row.get(8)?;
    let origin = match about {
        None => Origin::Client {
            user,
            listener: row.get(9)?,
            peer: row.get(10)?,
            helo: row.get(11)?,
            protocol: row.get(12)?,
        },
        Some(about) if about == DIGEST => Origin::Digest,
        Some(about) => Origin::Report(about.parse().map_err(|error| unreadable(8, error))?),
    };
    let state = match row.get(4)? {
        0 => State::Queued,
        1 => State::Held,
        other => return Err(unreadable(4, FromSqlError::OutOfRange(other))),
    };
    Ok(Record {
        id,
        received: Timestamp(row.get(5)?),
        origin,
        envelope: Envelope {
            sender: ReversePath::parse(sender).map_err(|error| unreadable(6, error))?,
            parameters: parameters(row, 7)?,
            recipients: recipients(connection, id, row)?,
        },
        size: row.get::<_, i64>(13)? as u64,
        sum: row.get(14)?,
        lane: row.get(1)?,
        priority,
        state,
        due: Timestamp(row.get(3)?),
        attempts: row.get(15)?,
        last: row.get(16)?,
        uncertain: row.get(17)?,
        warned: row.get(18)?,
        holds: row.get(19)?,
        former_lane: row.get(20)?,
        message_id: row.get(23)?,
    })
}

/// Reads the waiting recipients of a message: the one in the message's own row, or those in the table
/// `recipient`.
fn recipients(
    connection: &Connection,
    id: MessageId,
    row: &Row,
) -> rusqlite::Result<Vec<Recipient>> {
    if !matches!(row.get_ref(21)?, ValueRef::Null) {
        return Ok(vec![recipient(row, 21)?]);
    }
    let sql = "SELECT address, parameters FROM recipient WHERE message = ?1 AND state = ?2 ORDER BY place";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![id.to_i64(), WAITING], |row| recipient(row, 0))?;
    rows.collect()
}

/// Reads a recipient: the address from this column, and the parameters from the next column.
fn recipient(row: &Row, column: usize) -> rusqlite::Result<Recipient> {
    let address = Address::parse(row.get_ref(column)?.as_str()?);
    Ok(Recipient {
        address: address.map_err(|error| unreadable(column, error))?,
        parameters: parameters(row, column + 1)?,
    })
}

fn parameters(row: &Row, column: usize) -> rusqlite::Result<Parameters> {
    let parameters = Parameters::parse(row.get_ref(column)?.as_str()?);
    parameters.ok_or_else(|| unreadable(column, FromSqlError::InvalidType))
}

fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

/// Returns the record, or [a replacement](Record::damaged) if the record cannot be read.
pub(super) fn or_damaged(
    id: MessageId,
    read: Result<Record, SpoolError>,
) -> Result<Record, SpoolError> {
    match read {
        Err(error) if error.is_unreadable_row() => Ok(Record::damaged(id, PLACE, &error)),
        read => read,
    }
}

/// Returns the story of a message. A queued message that was never tried has no stored story; the returned
/// story then has no events.
pub(super) fn story(connection: &Connection, id: MessageId) -> Result<Story, SpoolError> {
    let sql = "SELECT record, ended, events FROM story WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.to_i64()])?;
    let told = rows.next()?.map(|row| stored(id, row)).transpose()?;
    let queued = match find(connection, id).transpose() {
        None => None,
        Some(read) => Some(or_damaged(id, read)?),
    };
    match (told, queued) {
        (Some(told), None) => Ok(told),
        (told, Some(record)) => Ok(Story {
            record,
            ended: None,
            events: told.map(|told| told.events).unwrap_or_default(),
        }),
        (None, None) => Err(SpoolError::Unknown(id)),
    }
}

pub(super) fn stored(id: MessageId, row: &Row) -> Result<Story, SpoolError> {
    let text = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
    let events = read_events(text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(2, kind, Box::new(error))
    })?;
    let ended: Option<i64> = row.get(1)?;
    let record = serde_json::from_str(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
    Ok(Story {
        record: record.unwrap_or_else(|error| Record::damaged(id, PLACE, &error)),
        ended: ended.map(Timestamp),
        events,
    })
}
