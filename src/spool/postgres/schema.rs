//! The tables, and the conversion of earlier formats. All nodes use the same tables, perhaps with two neighbouring
//! versions of the program at the same time.

use super::database::{Database, Lent};
use crate::spool::SpoolError;

/// The format that this program writes. A format that an earlier version can also use has the same `oldest`.
const FORMAT: i32 = 2;

/// The oldest format of a program that can use the tables as this version leaves them.
const OLDEST: i32 = 1;

/// The key of the advisory lock that a node holds while it prepares the tables or joins: "mailferr" in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7881696737170387570)";

/// One row per message. The columns are those of the SQLite spool (`sqlite/schema.rs`), and the following ones.
/// `node` is the node that has claimed the message; null if nobody has. `claim` is the fencing number: it grows with
/// each claim, and what an earlier claim decides is lost. `sending` is true from the moment at which a node begins to
/// send the message until its fate is stored. If the node dies, the message may have arrived.
///
/// Contents are not compressed: they are written once and read at most once. An update leaves them where they are.
/// A page has room for an update of each of its rows, so that marking a message as being sent changes no index.
///
/// The content of a large message is in `piece`, in order. `node` is the node that receives it; null once the message
/// is accepted.
///
/// `mention` lists the addresses and ids by which people look for messages, for messages of the queue and stories.
///
/// `node` has one row for each run of a node. Its number is never reused. `slot` is a small number that no other
/// node has, for the ids of messages. `state` is the number of its claims at the last heartbeat. `seen` is the database's time of the last heartbeat.
///
/// `machine` identifies the data folder, which only one process can use at a time: a node that joins takes over from an
/// earlier run with the same folder at once.
///
/// `reserved` has a row for each message that was sent lately, or is being sent. `messages` count towards the limit per
/// minute from `at` on. `recipients` count towards the limit per day until the message's fate is stored; from then on
/// they count in `used`.
///
/// `slot` has a row for each session that a node may have at a mailbox. If the node dies, its sessions may still be open
/// for a while, so the slot rests until `rests_until` (time of the spool).
///
/// `secret` has the accounts' tokens, sealed with the vault's key. `renewed_by` is the node that requests a new token at
/// present. The row of an account that has no tokens yet has no `data`.
///
/// `ended` has the numbers of the last batches of ended claims, by node: a node looks there if the answer to a commit did
/// not come.
///
/// `shared_time` has one row: the [time of the spool](crate::spool::time), and the time of the database when it was
/// stored.
const SCHEMA: &str = "
    CREATE TABLE format (version integer NOT NULL, oldest integer NOT NULL);
    CREATE SEQUENCE node_number;
    CREATE TABLE node (
        id      bigint   PRIMARY KEY,
        slot    integer  NOT NULL UNIQUE,
        machine text     NOT NULL,
        name    text     NOT NULL,
        version text     NOT NULL,
        began   bigint   NOT NULL,
        state   text     NOT NULL DEFAULT '',
        seen    timestamptz NOT NULL
    );
    CREATE TABLE message (
        id          bigint   PRIMARY KEY,
        lane        text     COLLATE \"C\" NOT NULL,
        flow        text     COLLATE \"C\" NOT NULL,
        due         bigint   NOT NULL,
        state       smallint NOT NULL,
        received    bigint   NOT NULL,
        sender      text     NOT NULL,
        parameters  text     NOT NULL,
        about       text,
        listener    text     NOT NULL,
        peer        text     NOT NULL,
        helo        text     NOT NULL,
        protocol    text     NOT NULL,
        size        bigint   NOT NULL,
        sum         bigint,
        attempts    integer  NOT NULL,
        last        text,
        uncertain   boolean  NOT NULL,
        warned      boolean  NOT NULL,
        holds       integer  NOT NULL,
        former_lane text,
        recipient   text,
        recipient_parameters text,
        message_id  text,
        node        bigint,
        claim       bigint   NOT NULL,
        sending     boolean  NOT NULL DEFAULT false,
        content     bytea
    ) WITH (fillfactor = 80);
    ALTER TABLE message ALTER COLUMN content SET STORAGE EXTERNAL;
    CREATE INDEX message_due ON message (lane, flow, due) WHERE state = 0 AND node IS NULL;
    CREATE INDEX message_node ON message (node) WHERE node IS NOT NULL;
    CREATE TABLE recipient (
        message    bigint   NOT NULL,
        place      integer  NOT NULL,
        address    text     NOT NULL,
        parameters text     NOT NULL,
        state      smallint NOT NULL,
        answer     text,
        PRIMARY KEY (message, place)
    );
    CREATE TABLE piece (
        message bigint  NOT NULL,
        number  integer NOT NULL,
        node    bigint,
        data    bytea   NOT NULL,
        PRIMARY KEY (message, number)
    );
    ALTER TABLE piece ALTER COLUMN data SET STORAGE EXTERNAL;
    CREATE INDEX piece_node ON piece (node) WHERE node IS NOT NULL;
    CREATE SEQUENCE line_number;
    CREATE TABLE digest_line (
        line    bigint PRIMARY KEY DEFAULT nextval('line_number'),
        message bigint NOT NULL,
        text    text   NOT NULL
    );
    CREATE INDEX digest_line_message ON digest_line (message, line);
    CREATE TABLE story (
        id     bigint PRIMARY KEY,
        ended  bigint,
        record text   NOT NULL,
        events text   NOT NULL
    );
    CREATE TABLE mention (
        id     bigint PRIMARY KEY,
        tokens text[] NOT NULL
    );
    CREATE INDEX mention_tokens ON mention USING gin (tokens);
    CREATE TABLE result (
        name text   NOT NULL,
        id   bigint NOT NULL,
        PRIMARY KEY (name, id)
    );
    CREATE TABLE used (
        mailbox    text   NOT NULL,
        began      bigint NOT NULL,
        last       bigint NOT NULL,
        messages   bigint NOT NULL,
        recipients bigint NOT NULL,
        PRIMARY KEY (mailbox, began)
    );
    CREATE TABLE note (
        name  text COLLATE \"C\" PRIMARY KEY,
        value text NOT NULL
    );
    CREATE TABLE mailbox (
        name text COLLATE \"C\" PRIMARY KEY
    );
    CREATE TABLE reserved (
        message    bigint NOT NULL,
        claim      bigint NOT NULL,
        mailbox    text   COLLATE \"C\" NOT NULL,
        at         bigint NOT NULL,
        messages   bigint NOT NULL,
        recipients bigint NOT NULL,
        PRIMARY KEY (message, claim)
    );
    CREATE INDEX reserved_mailbox ON reserved (mailbox, at);
    CREATE TABLE slot (
        mailbox     text    COLLATE \"C\" NOT NULL,
        number      integer NOT NULL,
        node        bigint,
        rests_until bigint,
        PRIMARY KEY (mailbox, number)
    );
    CREATE TABLE secret (
        name          text   COLLATE \"C\" PRIMARY KEY,
        version       bigint NOT NULL,
        data          bytea,
        renewed_by    bigint,
        renewed_until timestamptz
    );
    CREATE TABLE ended (
        node   bigint NOT NULL,
        serial bigint NOT NULL,
        PRIMARY KEY (node, serial)
    );
    CREATE TABLE shared_time (at bigint NOT NULL, wall bigint NOT NULL);
";

/// `quota` has what nodes have taken of the limits of users and listeners, and since when it counts.
const QUOTA: &str = "
    CREATE TABLE quota (
        name   text   COLLATE \"C\" NOT NULL,
        node   bigint NOT NULL,
        at     bigint NOT NULL,
        amount bigint NOT NULL,
        PRIMARY KEY (name, node, at)
    );
";

/// What converts each format to the next one, from format 1 on. A node of the version before goes on meanwhile.
const CONVERSIONS: [&str; FORMAT as usize - 1] = [QUOTA];

/// Creates the tables, or converts them to the present format. Only one node does so at a time.
pub(super) async fn prepare(database: &Database) -> Result<(), SpoolError> {
    database
        .within(async {
            let lent = database.lend().await?;
            lent.begin().await?;
            lock(&lent).await?;
            let sql = "SELECT to_regclass('format') IS NOT NULL";
            if lent.query(sql, &[]).await?[0].get(0) {
                convert(&lent).await?;
            } else {
                lent.batch(SCHEMA).await?;
                lent.batch(QUOTA).await?;
                let sql = "INSERT INTO format (version, oldest) VALUES ($1, $2)";
                lent.execute(sql, &[&FORMAT, &OLDEST]).await?;
            }
            lent.commit().await?;
            lent.done();
            Ok(())
        })
        .await
}

/// Converts the tables to the present format, if they have an earlier one.
async fn convert(lent: &Lent) -> Result<(), SpoolError> {
    let sql = "SELECT version, oldest FROM format";
    let row = lent.query(sql, &[]).await?;
    let (found, oldest): (i32, i32) = (row[0].get(0), row[0].get(1));
    if oldest > FORMAT {
        return Err(SpoolError::Newer {
            file: "the database of [spool] postgresql".to_owned(),
            found: found.into(),
            known: FORMAT.into(),
        });
    }
    let first = usize::try_from(found - 1).unwrap_or_default();
    for conversion in CONVERSIONS.iter().skip(first) {
        lent.batch(conversion).await?;
    }
    if found < FORMAT {
        let sql = "UPDATE format SET version = $1, oldest = $2";
        lent.execute(sql, &[&FORMAT, &OLDEST]).await?;
    }
    Ok(())
}

/// Waits until no other node prepares the tables or joins. The lock ends with the transaction.
pub(super) async fn lock(lent: &Lent) -> Result<(), SpoolError> {
    lent.query(LOCK, &[]).await.map(drop)
}
