//! The rows that one transaction writes, column by column: PostgreSQL takes any number of rows as one array for each
//! column, so that a group of messages costs as few statements as one message.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

use super::database::{Lent, Prepared};
use super::rows::DIGEST;
use crate::base::{MessageId, Timestamp, limits};
use crate::message::{Address, Recipient};
use crate::spool::story::listed;
use crate::spool::tokens::{result_of, tokens, tokens_of};
use crate::spool::{
    Claim, Content, EventKind, NewMessage, Origin, Record, SpoolError, State, Story, StoryEvent,
    Used,
};

/// The length of a slice (milliseconds). A mailbox's messages within a slice are counted together, as in
/// delivery.
pub(super) const SLICE: i64 = 300_000;

/// Fails with a division by zero if other nodes have taken over from this node, and keeps them from doing so until the
/// transaction ends. A failure undoes the whole transaction, although its statements are sent without waiting.
const FENCE: &str =
    "SELECT 1 / count(*) FROM (SELECT id FROM node WHERE id = $1 FOR KEY SHARE) AS own";

/// The columns of `message` that a new message has.
macro_rules! message_columns {
    () => {
        "id, lane, flow, due, state, received, sender, parameters, about, listener, peer, helo, protocol, size, sum, attempts,
        last, uncertain, warned, holds, former_lane, recipient, recipient_parameters, message_id, node, claim, content"
    };
}

/// New rows of `message`, from one array for each column. In FROM, PostgreSQL would first copy each array to a table.
macro_rules! message_rows {
    () => {
        "SELECT unnest($1::bigint[]), unnest($2::text[]), unnest($3::text[]), unnest($4::bigint[]), unnest($5::smallint[]),
            unnest($6::bigint[]), unnest($7::text[]), unnest($8::text[]), unnest($9::text[]), unnest($10::text[]),
            unnest($11::text[]), unnest($12::text[]), unnest($13::text[]), unnest($14::bigint[]), unnest($15::bigint[]),
            unnest($16::integer[]), unnest($17::text[]), unnest($18::boolean[]), unnest($19::boolean[]),
            unnest($20::integer[]), unnest($21::text[]), unnest($22::text[]), unnest($23::text[]), unnest($24::text[]),
            unnest($25::bigint[]), unnest($26::bigint[]), unnest($27::bytea[])"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO message (",
    message_columns!(),
    ") ",
    message_rows!()
);

/// [`FENCE`], [`INSERT`] and [`MENTION`] as one statement, which needs no transaction around it: accepting a message costs one
/// round trip, and a third less of the database's time.
const ACCEPT: &str = concat!(
    "WITH own AS MATERIALIZED (SELECT id FROM node WHERE id = $28 FOR KEY SHARE),
        fence AS MATERIALIZED (SELECT 1 / count(*) AS one FROM own),
        mentioned AS (
            INSERT INTO mention (id, tokens)
            SELECT id, string_to_array(tokens, ' ')
            FROM (SELECT unnest($1::bigint[]) AS id, unnest($29::text[]) AS tokens) AS found
            ON CONFLICT (id) DO NOTHING)
    INSERT INTO message (",
    message_columns!(),
    ") SELECT new.* FROM fence, (",
    message_rows!(),
    ") AS new WHERE fence.one = 1"
);

const INSERT_RECIPIENTS: &str = "
    INSERT INTO recipient (message, place, address, parameters, state, answer)
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[], $5::smallint[], $6::text[])";

const MENTION: &str = "
    INSERT INTO mention (id, tokens)
    SELECT id, string_to_array(tokens, ' ') FROM unnest($1::bigint[], $2::text[]) AS new (id, tokens)
    ON CONFLICT (id) DO NOTHING";

/// Fails with a division by zero if pieces of a content are missing.
const WHOLE: &str = "SELECT 1 / count(*) FROM (SELECT FROM piece WHERE message = $1 HAVING sum(octet_length(data)) = $2) AS whole";

/// An accepted message's pieces no longer belong to the node that received them.
const KEEP_PIECES: &str = "UPDATE piece SET node = NULL WHERE message = ANY($1)";

const UPDATE: &str = "
    UPDATE message m SET lane = new.lane, due = new.due, state = new.state, attempts = new.attempts, last = new.last,
        uncertain = new.uncertain, warned = new.warned, holds = new.holds, former_lane = new.former_lane, node = NULL,
        sending = false
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::smallint[], $5::integer[], $6::text[], $7::boolean[],
        $8::boolean[], $9::integer[], $10::text[])
        AS new (id, lane, due, state, attempts, last, uncertain, warned, holds, former_lane)
    WHERE m.id = new.id";

const REMOVE: &str = "DELETE FROM message WHERE id = ANY($1)";
const REMOVE_RECIPIENTS: &str = "DELETE FROM recipient WHERE message = ANY($1)";
const REMOVE_PIECES: &str = "DELETE FROM piece WHERE message = ANY($1)";
const REMOVE_WAITING: &str = "DELETE FROM recipient WHERE message = ANY($1) AND state = 0";
const FORGET: &str = "DELETE FROM mention WHERE id = ANY($1)";

const TELL: &str = "
    INSERT INTO story (id, ended, record, events)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
    ON CONFLICT (id) DO UPDATE SET ended = excluded.ended, record = excluded.record,
        events = story.events || CASE WHEN story.events = '' OR excluded.events = '' THEN '' ELSE ',' END
            || excluded.events";

const RESULTS: &str = "
    INSERT INTO result (name, id) SELECT DISTINCT * FROM unnest($1::text[], $2::bigint[]) ON CONFLICT DO NOTHING";

const COUNT: &str = "
    INSERT INTO used (mailbox, began, last, messages, recipients)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
    ON CONFLICT (mailbox, began) DO UPDATE SET last = greatest(used.last, excluded.last),
        messages = used.messages + excluded.messages, recipients = used.recipients + excluded.recipients";

/// From now on, a sent message's recipients count in `used`.
const SPENT: &str = "
    UPDATE reserved r SET recipients = 0 FROM unnest($1::bigint[], $2::bigint[]) AS own (id, claim)
    WHERE r.message = own.id AND r.claim = own.claim";

/// A message that reached nobody has used nothing.
const UNSPENT: &str = "
    DELETE FROM reserved r USING unnest($1::bigint[], $2::bigint[]) AS own (id, claim)
    WHERE r.message = own.id AND r.claim = own.claim";

/// Tells later whether this transaction was committed, if its answer does not come. A transaction's own number would not
/// do: a server that takes over in a failover gives it to another transaction.
const ENDED: &str = "INSERT INTO ended (node, serial) VALUES ($1, $2)";
const FORGET_ENDED: &str = "DELETE FROM ended WHERE node = $1 AND serial < $2";

const ADD_LINES: &str = "
    INSERT INTO digest_line (message, text) SELECT $1, line FROM unnest($2::text[]) WITH ORDINALITY AS new (line, place)
    ORDER BY place";
const LENGTHEN: &str = "UPDATE message SET size = size + $2 WHERE id = $1";

/// The states of a recipient.
const WAITING: i16 = 0;
const DELIVERED: i16 = 1;
const FAILED: i16 = 2;

/// A column of the rows.
type Column<T> = Vec<T>;

/// The values of a statement.
macro_rules! values {
    ($($value:expr),+) => {
        vec![$(Box::new($value) as Box<dyn ToSql + Sync + Send>),+]
    };
}

/// The rows that one transaction writes.
#[derive(Default)]
pub(super) struct Changes {
    messages: Messages,
    recipients: Recipients,
    mentions: (Column<i64>, Column<String>),
    stored: Vec<(i64, i64)>,
    updates: Updates,
    rewritten: Column<i64>,
    removed: Column<i64>,
    with_pieces: Column<i64>,
    forgotten: Column<i64>,
    stories: BTreeMap<i64, ToldStory>,
    results: (Column<&'static str>, Column<i64>),
    used: BTreeMap<(String, i64), (i64, i64, i64)>,
    lines: Vec<(i64, Column<String>, i64)>,
    spent: (Column<i64>, Column<i64>),
    unspent: (Column<i64>, Column<i64>),
    ended: Option<(i64, i64, i64)>,
}

#[derive(Default)]
struct Messages {
    id: Column<i64>,
    lane: Column<String>,
    flow: Column<String>,
    due: Column<i64>,
    state: Column<i16>,
    received: Column<i64>,
    sender: Column<String>,
    parameters: Column<String>,
    about: Column<Option<String>>,
    listener: Column<String>,
    peer: Column<String>,
    helo: Column<String>,
    protocol: Column<String>,
    size: Column<i64>,
    sum: Column<Option<i64>>,
    attempts: Column<i32>,
    last: Column<Option<String>>,
    uncertain: Column<bool>,
    warned: Column<bool>,
    holds: Column<i32>,
    former_lane: Column<Option<String>>,
    recipient: Column<Option<String>>,
    recipient_parameters: Column<Option<String>>,
    message_id: Column<Option<String>>,
    node: Column<Option<i64>>,
    claim: Column<i64>,
    content: Column<Option<Octets>>,
}

#[derive(Default)]
struct Recipients {
    message: Column<i64>,
    place: Column<i32>,
    address: Column<String>,
    parameters: Column<String>,
    state: Column<i16>,
    answer: Column<Option<String>>,
}

#[derive(Default)]
struct Updates {
    id: Column<i64>,
    lane: Column<String>,
    due: Column<i64>,
    state: Column<i16>,
    attempts: Column<i32>,
    last: Column<Option<String>>,
    uncertain: Column<bool>,
    warned: Column<bool>,
    holds: Column<i32>,
    former_lane: Column<Option<String>>,
}

struct ToldStory {
    ended: Option<i64>,
    record: String,
    events: String,
}

impl Changes {
    /// Adds a new message; with `claimed_by`, this node claims it at once.
    pub(super) fn insert(
        &mut self,
        NewMessage { record, content }: &NewMessage,
        claimed_by: Option<i64>,
    ) {
        self.insert_row(record, content, claimed_by);
        if let [_, _, ..] = &record.envelope.recipients[..] {
            self.add_waiting(record.id, 0, &record.envelope.recipients);
        }
        self.mention(record);
        if let Content::Stored(_) = content {
            self.stored
                .push((record.id.to_i64(), content.size() as i64));
        }
    }

    fn insert_row(&mut self, record: &Record, content: &Content, claimed_by: Option<i64>) {
        let nothing = String::new();
        let (about, [listener, peer, helo, protocol]) = match &record.origin {
            Origin::Client {
                listener,
                peer,
                helo,
                protocol,
                ..
            } => (None, [listener, peer, helo, protocol]),
            Origin::Report(about) => (Some(about.to_string()), [&nothing; 4]),
            Origin::Digest => (Some(DIGEST.to_owned()), [&nothing; 4]),
        };
        let only = match &record.envelope.recipients[..] {
            [only] => Some(only),
            _ => None,
        };
        let rows = &mut self.messages;
        rows.id.push(record.id.to_i64());
        rows.lane.push(clean(&record.lane));
        rows.flow.push(clean(&record.place().flow.key()));
        rows.due.push(record.due.0);
        rows.state.push(flag(record));
        rows.received.push(record.received.0);
        let sender = record.envelope.sender.address();
        rows.sender.push(clean(sender.map_or("", Address::as_str)));
        rows.parameters
            .push(clean(record.envelope.parameters.as_str()));
        rows.about.push(about);
        rows.listener.push(clean(listener));
        rows.peer.push(clean(peer));
        rows.helo.push(clean(helo));
        rows.protocol.push(clean(protocol));
        rows.size.push(record.size as i64);
        rows.sum.push(record.sum.map(i64::from));
        rows.attempts.push(number(record.attempts));
        rows.last.push(record.last.as_deref().map(clean));
        rows.uncertain.push(record.uncertain);
        rows.warned.push(record.warned);
        rows.holds.push(number(record.holds));
        rows.former_lane
            .push(record.former_lane.as_deref().map(clean));
        rows.recipient
            .push(only.map(|it| clean(it.address.as_str())));
        rows.recipient_parameters
            .push(only.map(|it| clean(it.parameters.as_str())));
        rows.message_id
            .push(record.message_id.as_deref().map(clean));
        rows.node.push(claimed_by);
        rows.claim.push(i64::from(claimed_by.is_some()));
        rows.content.push(content.in_memory().cloned().map(Octets));
    }

    fn add_waiting(&mut self, id: MessageId, first: i32, recipients: &[Recipient]) {
        for (place, recipient) in (first..).zip(recipients) {
            let parameters = recipient.parameters.as_str();
            let address = (&recipient.address, parameters);
            self.add_recipient(id, place, address, (WAITING, None));
        }
    }

    fn add_recipient(
        &mut self,
        id: MessageId,
        place: i32,
        (address, parameters): (&Address, &str),
        (state, answer): (i16, Option<&str>),
    ) {
        let rows = &mut self.recipients;
        rows.message.push(id.to_i64());
        rows.place.push(place);
        rows.address.push(clean(address.as_str()));
        rows.parameters.push(clean(parameters));
        rows.state.push(state);
        rows.answer.push(answer.map(clean));
    }

    fn mention(&mut self, record: &Record) {
        self.mentions.0.push(record.id.to_i64());
        self.mentions.1.push(tokens(record));
    }

    /// Updates a message and ends its claim. `events` contain the results of finished recipients; `place` is the
    /// number of the next row in `recipient`, if the message's recipients are there.
    pub(super) fn update(&mut self, record: &Record, events: &[StoryEvent], place: Option<i32>) {
        let rows = &mut self.updates;
        rows.id.push(record.id.to_i64());
        rows.lane.push(clean(&record.lane));
        rows.due.push(record.due.0);
        rows.state.push(flag(record));
        rows.attempts.push(number(record.attempts));
        rows.last.push(record.last.as_deref().map(clean));
        rows.uncertain.push(record.uncertain);
        rows.warned.push(record.warned);
        rows.holds.push(number(record.holds));
        rows.former_lane
            .push(record.former_lane.as_deref().map(clean));
        if let Some(place) = place {
            self.settle_recipients(record, events, place);
        }
    }

    /// Stores which recipients are still waiting and which are finished, if the attempt finished any.
    fn settle_recipients(&mut self, record: &Record, events: &[StoryEvent], mut place: i32) {
        let done = events.iter().flat_map(|event| {
            let (to, state, answer) = match &event.what {
                EventKind::Delivered { to, reply, .. } => (&to[..], DELIVERED, reply.as_str()),
                EventKind::Failed { to, reply, .. } => (&to[..], FAILED, reply.as_str()),
                _ => (&[][..], WAITING, ""),
            };
            to.iter().map(move |address| (address, state, answer))
        });
        let done: Vec<_> = done.collect();
        if done.is_empty() {
            return;
        }
        self.rewritten.push(record.id.to_i64());
        for (address, state, answer) in done {
            self.add_recipient(record.id, place, (address, ""), (state, Some(answer)));
            place += 1;
        }
        self.add_waiting(record.id, place, &record.envelope.recipients);
    }

    /// True if this message is among those to insert.
    pub(super) fn inserts(&self, id: MessageId) -> bool {
        self.messages.id.contains(&id.to_i64())
    }

    /// Removes a message of this size (octets).
    pub(super) fn remove(&mut self, id: MessageId, size: u64) {
        self.removed.push(id.to_i64());
        if size > limits::BODY_IN_MEMORY as u64 {
            self.with_pieces.push(id.to_i64());
        }
    }

    /// Removes a message from the index, because nobody can look it up any more.
    pub(super) fn forget(&mut self, id: MessageId) {
        self.forgotten.push(id.to_i64());
    }

    /// Adds events to a message's story. With `ended`, the story is complete.
    pub(super) fn tell(
        &mut self,
        record: &Record,
        ended: Option<Timestamp>,
        events: &[StoryEvent],
    ) {
        let id = record.id.to_i64();
        self.add_results(record.id, events);
        let new = ToldStory {
            ended: ended.map(|at| at.0),
            record: clean(
                &serde_json::to_string(record).expect("a record has only strings for keys"),
            ),
            events: clean(&listed(events)),
        };
        match self.stories.get_mut(&id) {
            None => drop(self.stories.insert(id, new)),
            Some(story) => {
                let between = [&story.events, &new.events].iter().all(|it| !it.is_empty());
                let between = if between { "," } else { "" };
                let events = format!("{}{between}{}", story.events, new.events);
                *story = ToldStory { events, ..new };
            }
        }
    }

    /// Adds the story of a message that was never in the queue.
    pub(super) fn tell_all(
        &mut self,
        record: &Record,
        ended: Option<Timestamp>,
        events: &[StoryEvent],
    ) {
        self.tell(record, ended, events);
        self.mention(record);
    }

    /// Adds the whole story of a message, which may still be in the queue.
    pub(super) fn add_story(&mut self, story: &Story) {
        self.tell(&story.record, story.ended, &story.events);
        self.mentions.0.push(story.record.id.to_i64());
        self.mentions.1.push(tokens_of(story));
    }

    /// Adds results of a story, whose events are stored otherwise.
    pub(super) fn add_results(&mut self, id: MessageId, events: &[StoryEvent]) {
        for result in events.iter().filter_map(|event| result_of(&event.what)) {
            self.results.0.push(result);
            self.results.1.push(id.to_i64());
        }
    }

    /// Stores the number of this batch of ended claims, and forgets those of the node before `oldest`.
    pub(super) fn ended(&mut self, node: i64, serial: i64, oldest: i64) {
        self.ended = Some((node, serial, oldest));
    }

    /// Settles what a message has used of its mailbox's limits: nothing, if it reached nobody.
    pub(super) fn settle(&mut self, claim: Claim, used: Option<&Used>) {
        let (ids, numbers) = match used {
            Some(_) => &mut self.spent,
            None => &mut self.unspent,
        };
        ids.push(claim.id.to_i64());
        numbers.push(claim.number as i64);
        used.into_iter().for_each(|used| self.count(used));
    }

    /// Adds `used` to the usage of its mailbox.
    pub(super) fn count(&mut self, used: &Used) {
        let began = used.at.0 - used.at.0.rem_euclid(SLICE);
        let key = (clean(&used.mailbox), began);
        let (last, messages, recipients) = self.used.entry(key).or_default();
        *last = used.last.0.max(*last);
        *messages += used.messages as i64;
        *recipients += used.recipients as i64;
    }

    /// Adds lines to a digest, whose row the caller has locked, or which is inserted in the same transaction.
    pub(super) fn add_lines(&mut self, digest: MessageId, lines: &[String]) {
        let size: usize = lines.iter().map(String::len).sum();
        let lines = lines.iter().map(|line| clean(line)).collect();
        self.lines.push((digest.to_i64(), lines, size as i64));
    }

    /// Writes all rows and commits; with `begins`, as a transaction of its own, otherwise as the end of the one under
    /// way. With `fenced_by`, nothing is written if other nodes have taken over from this node.
    pub(super) async fn write(
        self,
        lent: &Lent,
        begins: bool,
        fenced_by: Option<i64>,
    ) -> Result<(), SpoolError> {
        lent.write(&self.statements(fenced_by), begins).await
    }

    fn statements(self, fenced_by: Option<i64>) -> Vec<Prepared> {
        let is_found = self.mentions.0 == self.messages.id;
        let accepts = fenced_by.filter(|_| is_found && !self.messages.id.is_empty());
        let mut all = Vec::new();
        let fence = fenced_by.filter(|_| accepts.is_none());
        all.extend(fence.map(|node| (FENCE, values![node])));
        let mut add = |is_wanted: bool, sql, values| {
            if is_wanted {
                all.push((sql, values));
            }
        };
        let (new, updates) = (self.messages, self.updates);
        let has_new = !new.id.is_empty();
        let (found, tokens) = self.mentions;
        let mut inserted = values![
            new.id,
            new.lane,
            new.flow,
            new.due,
            new.state,
            new.received,
            new.sender,
            new.parameters,
            new.about,
            new.listener,
            new.peer,
            new.helo,
            new.protocol,
            new.size,
            new.sum,
            new.attempts,
            new.last,
            new.uncertain,
            new.warned,
            new.holds,
            new.former_lane,
            new.recipient,
            new.recipient_parameters,
            new.message_id,
            new.node,
            new.claim,
            new.content
        ];
        match accepts {
            Some(node) => {
                inserted.extend(values![node, tokens]);
                add(true, ACCEPT, inserted);
            }
            None => {
                add(has_new, INSERT, inserted);
                add(!found.is_empty(), MENTION, values![found, tokens]);
            }
        }
        add(
            !updates.id.is_empty(),
            UPDATE,
            values![
                updates.id,
                updates.lane,
                updates.due,
                updates.state,
                updates.attempts,
                updates.last,
                updates.uncertain,
                updates.warned,
                updates.holds,
                updates.former_lane
            ],
        );
        add(
            !self.rewritten.is_empty(),
            REMOVE_WAITING,
            values![self.rewritten],
        );
        let rows = self.recipients;
        add(
            !rows.message.is_empty(),
            INSERT_RECIPIENTS,
            values![
                rows.message,
                rows.place,
                rows.address,
                rows.parameters,
                rows.state,
                rows.answer
            ],
        );
        for (id, size) in &self.stored {
            add(true, WHOLE, values![*id, *size]);
        }
        let stored: Column<i64> = self.stored.into_iter().map(|(id, _)| id).collect();
        add(!stored.is_empty(), KEEP_PIECES, values![stored]);
        add(
            !self.removed.is_empty(),
            REMOVE,
            values![self.removed.clone()],
        );
        add(
            !self.removed.is_empty(),
            REMOVE_RECIPIENTS,
            values![self.removed],
        );
        add(
            !self.with_pieces.is_empty(),
            REMOVE_PIECES,
            values![self.with_pieces],
        );
        add(!self.forgotten.is_empty(), FORGET, values![self.forgotten]);
        add(
            !self.results.0.is_empty(),
            RESULTS,
            values![self.results.0, self.results.1],
        );
        add(
            !self.spent.0.is_empty(),
            SPENT,
            values![self.spent.0, self.spent.1],
        );
        add(
            !self.unspent.0.is_empty(),
            UNSPENT,
            values![self.unspent.0, self.unspent.1],
        );
        if let Some((node, serial, oldest)) = self.ended {
            add(true, ENDED, values![node, serial]);
            add(true, FORGET_ENDED, values![node, oldest]);
        }
        for (digest, lines, size) in self.lines {
            add(true, ADD_LINES, values![digest, lines]);
            add(true, LENGTHEN, values![digest, size]);
        }
        let (ids, stories): (Column<i64>, Vec<ToldStory>) = self.stories.into_iter().unzip();
        let ended: Column<Option<i64>> = stories.iter().map(|story| story.ended).collect();
        let (records, events): (Column<String>, Column<String>) =
            stories.into_iter().map(|it| (it.record, it.events)).unzip();
        add(!ids.is_empty(), TELL, values![ids, ended, records, events]);
        // In the order of the key, so that two nodes do not wait for each other.
        let (keys, counts): (Vec<_>, Vec<_>) = self.used.into_iter().unzip();
        let (mailboxes, begun): (Column<String>, Column<i64>) = keys.into_iter().unzip();
        let last: Column<i64> = counts.iter().map(|(last, ..)| *last).collect();
        let sent: Column<i64> = counts.iter().map(|(_, messages, _)| *messages).collect();
        let recipients: Column<i64> = counts.iter().map(|(.., recipients)| *recipients).collect();
        add(
            !last.is_empty(),
            COUNT,
            values![mailboxes, begun, last, sent, recipients],
        );
        all
    }
}

/// A content in memory, as a column.
#[derive(Debug)]
struct Octets(Bytes);

impl ToSql for Octets {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        (&self.0[..]).to_sql(kind, out)
    }

    accepts!(BYTEA);
    to_sql_checked!();
}

/// Replaces U+0000, the only character that PostgreSQL cannot store in a text.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn flag(record: &Record) -> i16 {
    i16::from(record.state == State::Held)
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
