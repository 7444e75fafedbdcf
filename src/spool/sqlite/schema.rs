//! The tables, and the conversion of earlier formats.

use std::path::Path;

use rusqlite::Connection;

use crate::spool::SpoolError;

/// The format that this program writes.
const FORMAT: i64 = 5;

/// One row per message. The content is last, so that the other columns can be read without it; it is null
/// if the content is in a file. `flow` is the priority's letter and the user. `about` is null if an app
/// sent the message, "digest" for a digest, and for a report of ours the id of the message that it is
/// about. `state` is 0 (queued), 1 (held) or 2 (unreadable). The index `message_due` finds the next message
/// of a flow; `message_held` speeds up counting. Late messages are found by the id, which contains the time.
///
/// The content of a digest is empty: its text is in `digest_line`. Line numbers are never reused.
///
/// If a message came with one recipient, the recipient is in the message's own row, which saves a page per
/// message. If it came with several, each recipient has a row in `recipient`: `state` is 0 (waiting), 1
/// (delivered) or 2 (failed); `answer` is the reply that decided the state.
///
/// A story consists of the message's last record and its events. Both are JSON, so that an operator can read
/// them with the sqlite3 shell. The events have no brackets around them, so that more can be appended.
const SCHEMA: &str = "
    CREATE TABLE message (
        id          INTEGER PRIMARY KEY,
        lane        TEXT    NOT NULL,
        flow        TEXT    NOT NULL,
        due         INTEGER NOT NULL,
        state       INTEGER NOT NULL,
        received    INTEGER NOT NULL,
        sender      TEXT    NOT NULL,
        parameters  TEXT    NOT NULL,
        about       TEXT,
        listener    TEXT    NOT NULL,
        peer        TEXT    NOT NULL,
        helo        TEXT    NOT NULL,
        protocol    TEXT    NOT NULL,
        size        INTEGER NOT NULL,
        sum         INTEGER,
        attempts    INTEGER NOT NULL,
        last        TEXT,
        uncertain   INTEGER NOT NULL,
        warned      INTEGER NOT NULL,
        holds       INTEGER NOT NULL,
        former_lane TEXT,
        recipient   TEXT,
        recipient_parameters TEXT,
        message_id  TEXT,
        content     BLOB
    );
    CREATE INDEX message_due ON message (lane, flow, due) WHERE state = 0;
    CREATE INDEX message_held ON message (lane) WHERE state <> 0;
    CREATE TABLE recipient (
        message    INTEGER NOT NULL,
        place      INTEGER NOT NULL,
        address    TEXT    NOT NULL,
        parameters TEXT    NOT NULL,
        state      INTEGER NOT NULL,
        answer     TEXT,
        PRIMARY KEY (message, place)
    ) WITHOUT ROWID;
    CREATE TABLE digest_line (
        line    INTEGER PRIMARY KEY AUTOINCREMENT,
        message INTEGER NOT NULL,
        text    TEXT    NOT NULL
    );
    CREATE INDEX digest_line_message ON digest_line (message);
    CREATE TABLE IF NOT EXISTS story (
        id     INTEGER PRIMARY KEY,
        ended  INTEGER,
        record TEXT NOT NULL,
        events TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS used (
        mailbox    TEXT    NOT NULL,
        began      INTEGER NOT NULL,
        last       INTEGER NOT NULL,
        messages   INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        PRIMARY KEY (mailbox, began)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS note (
        name  TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
    PRAGMA user_version = 5;
";

/// The index of stories. `tokens` are whole addresses; see `index.rs`. The table stores no content, because the
/// stories themselves have it. `result` lists
/// the messages that failed, bounced or were refused.
const INDEX: &str = "
    CREATE VIRTUAL TABLE mention USING fts5(tokens, content = '', contentless_delete = 1, detail = none,
        tokenize = \"ascii tokenchars '@.-_+=<>:'\");
    CREATE TABLE result (
        name TEXT    NOT NULL,
        id   INTEGER NOT NULL,
        PRIMARY KEY (name, id)
    ) WITHOUT ROWID;
";

/// Renames the table of formats 1 and 2, which stored a message's record as JSON in one column.
const SET_ASIDE: &str = "
    DROP INDEX message_due;
    ALTER TABLE message RENAME TO former;
";

/// Copies the messages from the renamed table. A record that was not valid JSON becomes an unreadable row
/// (state 2).
const FROM_FORMER: &str = "
    INSERT INTO message
        SELECT id, lane,
            CASE record ->> '$.priority' WHEN 'high' THEN 'h' WHEN 'bulk' THEN 'b' ELSE 'n' END
                || coalesce(record ->> '$.origin.client.user', ''),
            due, state,
            record ->> '$.received',
            record ->> '$.envelope.sender',
            coalesce(record ->> '$.envelope.parameters', ''),
            record ->> '$.origin.report',
            coalesce(record ->> '$.origin.client.listener', ''),
            coalesce(record ->> '$.origin.client.peer', ''),
            coalesce(record ->> '$.origin.client.helo', ''),
            coalesce(record ->> '$.origin.client.protocol', ''),
            record ->> '$.size',
            record ->> '$.sum',
            record ->> '$.attempts',
            record ->> '$.last',
            coalesce(record ->> '$.uncertain', 0),
            coalesce(record ->> '$.warned', 0),
            coalesce(record ->> '$.holds', 0),
            record ->> '$.former_lane',
            NULL,
            NULL,
            NULL,
            content
        FROM former WHERE json_valid(record);
    INSERT INTO message
        SELECT id, lane, 'n', due, 2, 0, '', '', NULL, '', '', '', '', 0, NULL, 0, NULL, 0, 0, 0, NULL, NULL, NULL, NULL, content
        FROM former WHERE NOT json_valid(record);
    INSERT INTO recipient
        SELECT former.id, key, value ->> '$.address', coalesce(value ->> '$.parameters', ''), 0, NULL
        FROM former, json_each(CASE WHEN json_valid(record) THEN record ELSE '{}' END, '$.envelope.recipients');
    DROP TABLE former;
";

/// Format 3 stored every recipient in `recipient`. Messages of format 3 keep their recipients there.
const FROM_3: &str = "
    ALTER TABLE message ADD COLUMN recipient TEXT;
    ALTER TABLE message ADD COLUMN recipient_parameters TEXT;
";

/// Format 4 had neither the Message-ID nor the index. The writer indexes the old messages when it has time.
const FROM_4: &str = "
    ALTER TABLE message ADD COLUMN message_id TEXT;
    PRAGMA user_version = 5;
";

/// Creates the tables, or converts them to the present format.
pub(super) fn prepare(connection: &Connection, file: &Path) -> Result<(), SpoolError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        0 => connection.execute_batch(&format!("BEGIN; {SCHEMA} {INDEX} COMMIT;"))?,
        1 | 2 => connection.execute_batch(&format!(
            "BEGIN; {SET_ASIDE} {SCHEMA} {INDEX} {FROM_FORMER} COMMIT;"
        ))?,
        3 => connection.execute_batch(&format!("BEGIN; {FROM_3} {FROM_4} {INDEX} COMMIT;"))?,
        4 => connection.execute_batch(&format!("BEGIN; {FROM_4} {INDEX} COMMIT;"))?,
        FORMAT => {}
        found => {
            let file = file.display().to_string();
            return Err(SpoolError::Newer {
                file,
                found,
                known: FORMAT,
            });
        }
    }
    Ok(())
}
