//! Reads a message's record and story from their rows.

use tokio_postgres::Row;

use crate::base::{MessageId, Timestamp};
use crate::message::{Address, Envelope, Parameters, Recipient, ReversePath};
use crate::spool::story::read_events;
use crate::spool::{DatabaseFault, Flow, Origin, Record, SpoolError, State, Story, Used};

/// The columns of a record, in the order in which [`record`] reads them. The last one lists the recipients that are
/// still waiting, each followed by its parameters, if they are not in the message's own row.
macro_rules! columns {
    () => {
        "m.id, m.lane, m.flow, m.due, m.state, m.received, m.sender, m.parameters, m.about, m.listener, m.peer, m.helo, \
         m.protocol, m.size, m.sum, m.attempts, m.last, m.uncertain, m.warned, m.holds, m.former_lane, m.recipient, \
         m.recipient_parameters, m.message_id, \
         CASE WHEN m.recipient IS NULL THEN ARRAY(SELECT unnest(ARRAY[r.address, r.parameters]) FROM recipient r \
             WHERE r.message = m.id AND r.state = 0 ORDER BY r.place) END"
    };
}
pub(super) use columns;

/// The number of columns of a record.
pub(super) const COLUMNS: usize = 25;

/// The value of the column `about` for a digest.
pub(super) const DIGEST: &str = "digest";

/// The database, in messages.
pub(super) const PLACE: &str = "the database";

/// The state of a row that cannot be read.
pub(super) const UNREADABLE: i16 = 2;

/// Returns the id of a row whose first column it is.
pub(super) fn id(row: &Row) -> MessageId {
    MessageId::from_i64(row.get(0))
}

/// Reads a record from a row with [`columns`].
pub(super) fn record(row: &Row) -> Result<Record, SpoolError> {
    let Flow { priority, user } = Flow::of_key(row.get(2));
    let about: Option<&str> = row.get(8);
    let origin = match about {
        None => Origin::Client {
            user,
            listener: row.get(9),
            peer: row.get(10),
            helo: row.get(11),
            protocol: row.get(12),
        },
        Some(DIGEST) => Origin::Digest,
        Some(about) => Origin::Report(about.parse().map_err(unreadable)?),
    };
    let state = match row.get::<_, i16>(4) {
        0 => State::Queued,
        1 => State::Held,
        other => return Err(unreadable(format!("it has the state {other}"))),
    };
    Ok(Record {
        id: id(row),
        received: Timestamp(row.get(5)),
        origin,
        envelope: Envelope {
            sender: ReversePath::parse(row.get(6)).map_err(unreadable)?,
            parameters: parameters(row.get(7))?,
            recipients: recipients(row)?,
        },
        size: row.get::<_, i64>(13) as u64,
        sum: row.get::<_, Option<i64>>(14).map(|sum| sum as u32),
        lane: row.get(1),
        priority,
        state,
        due: Timestamp(row.get(3)),
        attempts: row.get::<_, i32>(15) as u32,
        last: row.get(16),
        uncertain: row.get(17),
        warned: row.get(18),
        holds: row.get::<_, i32>(19) as u32,
        former_lane: row.get(20),
        message_id: row.get(23),
    })
}

/// Reads a record, or returns [a replacement](Record::damaged) if it cannot be read.
pub(super) fn record_or_damaged(row: &Row) -> Result<Record, SpoolError> {
    match record(row) {
        Err(error) if error.is_unreadable_row() => Ok(Record::damaged(id(row), PLACE, &error)),
        read => read,
    }
}

fn recipients(row: &Row) -> Result<Vec<Recipient>, SpoolError> {
    let only: Option<&str> = row.get(21);
    if let Some(only) = only {
        let parameters: Option<&str> = row.get(22);
        return Ok(vec![recipient(only, parameters.unwrap_or_default())?]);
    }
    let several: Vec<&str> = row.get(24);
    let pairs = several.chunks_exact(2);
    pairs.map(|pair| recipient(pair[0], pair[1])).collect()
}

fn recipient(address: &str, its_parameters: &str) -> Result<Recipient, SpoolError> {
    Ok(Recipient {
        address: Address::parse(address).map_err(unreadable)?,
        parameters: parameters(its_parameters)?,
    })
}

fn parameters(text: &str) -> Result<Parameters, SpoolError> {
    Parameters::parse(text).ok_or_else(|| unreadable(format!("its parameters are {text:?}")))
}

fn unreadable(reason: impl std::fmt::Display) -> SpoolError {
    SpoolError::Database {
        fault: DatabaseFault::Row,
        text: reason.to_string(),
    }
}

/// Reads a story from its record, its end and its events. A message of the queue has its record there, not in the
/// story.
pub(super) fn story(
    id: MessageId,
    (record, ended, events): (&str, Option<i64>, &str),
) -> Result<Story, SpoolError> {
    let events = read_events(events).map_err(unreadable)?;
    let record = serde_json::from_str(record);
    Ok(Story {
        record: record.unwrap_or_else(|error| Record::damaged(id, PLACE, &error)),
        ended: ended.map(Timestamp),
        events,
    })
}

/// Reads usage: mailbox, beginning, time of the last message, messages and recipients.
pub(super) fn used(row: &Row) -> Used {
    Used {
        mailbox: row.get(0),
        at: Timestamp(row.get(1)),
        last: Timestamp(row.get(2)),
        messages: row.get::<_, i64>(3) as u64,
        recipients: row.get::<_, i64>(4) as u64,
    }
}
