//! Receives a message: stores it as it arrives, decides about it, then puts it into the spool or
//! sends it directly.

use std::net::IpAddr;

use super::{Connection, Incoming, here, who};
use crate::base::{MessageId, limits};
use crate::door::usage::{Amount, Limit, LimitOwner, OverLimit};
use crate::door::{Endpoint, User};
use crate::message::{Envelope, Headers, Priority, rewrite};
use crate::observe::maillog;
use crate::routing::{Decision, Policy, Route, lane};
use crate::smtp::Reply;
use crate::spool::{
    Content, EventKind, NewMessage, Origin, Quota, Record, SpoolError, Story, StoryEvent,
};
use crate::submission::shared::SubmissionSettings;
use crate::submission::{permission, wording};

impl Connection {
    pub(super) async fn content(&mut self) {
        let piece = self.machine.take_content();
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        let refusal = if self.shared.spool.has_room().await {
            incoming.writer.write(piece).await.err().map(|error| {
                maillog::spool_failed(incoming.id, &error);
                refusal_of(&error)
            })
        } else {
            Some(wording::out_of_space())
        };
        if let Some(reply) = refusal {
            self.machine.refuse_message(reply);
            self.incoming = None;
        }
    }

    /// Handles a complete message and returns the reply to it.
    pub(super) async fn message(&mut self, envelope: Envelope) -> Reply {
        let Some(Incoming { id, mut writer, .. }) = self.incoming.take() else {
            return Reply::try_again();
        };
        let stored = async {
            writer.write(self.machine.take_content()).await?;
            writer.finish().await
        };
        let content = match stored.await {
            Ok(content) => content,
            Err(error) => return not_taken(id, &error),
        };
        let mut record = self.record(id, envelope, &content);
        if !self.takes_memory(in_memory(&content)) {
            return self.not_allowed(record, wording::out_of_memory());
        }
        let head = match content.head().await {
            Ok(head) => head,
            Err(error) => return not_taken(id, &error),
        };
        let (settings, at_door) = (
            self.shared.settings.load_full(),
            self.door.settings.load_full(),
        );
        let headers = Headers::parse(&head);
        let message_id = rewrite::message_id(&headers, id, &self.options.session.host);
        record.message_id = Some(message_id).filter(|it| it.len() <= limits::MESSAGE_ID);
        let allowed = self.user(&at_door).and_then(|user| {
            let routes = self.routes(&settings, user, &record.envelope, &headers)?;
            Ok((user, routes))
        });
        let (user, routes) = match allowed {
            Ok(allowed) => allowed,
            Err(reply) => return self.not_allowed(record, reply),
        };
        if let Some(reply) = too_large(&settings.policy, &routes, record.size) {
            return self.not_allowed(record, reply);
        }
        let amount = Amount {
            messages: 1,
            recipients: record.envelope.recipients.len() as u64,
        };
        if let Err(reply) = self.take_limits(user, amount).await {
            return self.not_allowed(record, reply);
        }
        maillog::author(id, &headers.author(), headers.value("From"));
        if let [only] = &routes[..] {
            record.lane.clone_from(&only.server);
        }
        record.priority = Priority::of(&headers, user.priority.or(self.options.priority));
        // A message that takes several routes is split in the queue. It cannot be sent directly, because there
        // is one reply for all recipients.
        let reply = if settings.direct.contains(lane::server(&record.lane)) {
            self.send_direct(record, content).await
        } else {
            self.put(record, content, &routes).await
        };
        if !reply.is_positive() {
            self.give_limits_back(user, amount);
        }
        reply
    }

    fn routes(
        &self,
        settings: &SubmissionSettings,
        user: &User,
        envelope: &Envelope,
        headers: &Headers,
    ) -> Result<Vec<Route>, Reply> {
        if headers.body > limits::HEADER_SECTION {
            return Err(wording::header_too_large());
        }
        let passed = headers.count("Received");
        if passed >= limits::RECEIVED {
            return Err(wording::mail_loop(passed));
        }
        let author = headers.author();
        let caller = settings.policy.caller(&user.name, &self.endpoint.name);
        let recipients = envelope.recipients.iter().map(|it| &it.address);
        let decisions = settings
            .policy
            .decide_each(&envelope.sender, &author, caller, recipients);
        let is_replaced = decisions
            .iter()
            .all(|(decision, _)| decision.replaces_from());
        let allowed = permission::author(user, &author, is_replaced);
        allowed.map_err(|why| wording::not_allowed(&why))?;
        let routes = decisions.into_iter().map(|(decision, _)| match decision {
            Decision::Route(route) => Ok(route),
            Decision::Refused(refusal) => Err(wording::not_routed(&refusal.why)),
        });
        routes.collect()
    }

    /// Counts a message towards the limits of its user and of the listener, on this node and on all nodes.
    async fn take_limits(&self, user: &User, amount: Amount) -> Result<(), Reply> {
        let (usage, endpoint) = (&self.door.usage, &self.endpoint);
        let taken = usage.take(who(user), &user.limits, amount).and_then(|()| {
            let here = usage.take(here(endpoint), &endpoint.limits, amount);
            here.inspect_err(|_| usage.give_back(who(user), &user.limits, amount))
        });
        taken.map_err(|over| wording::over_limit(&over))?;
        let asked = self.quotas(user, amount);
        if asked.is_empty() {
            return Ok(());
        }
        // If the spool does not answer, it cannot accept the message either; a server in direct mode goes on.
        let taken = self.shared.spool.take(&asked).await;
        let Ok(Err((place, wait))) = taken else {
            return Ok(());
        };
        self.give_back_here(user, amount);
        let owned = owned(user, endpoint).nth(place);
        Err(owned.map_or(Reply::try_again(), |(owner, limit)| {
            wording::over_limit(&OverLimit::of(owner, limit, wait))
        }))
    }

    fn give_limits_back(&self, user: &User, amount: Amount) {
        self.give_back_here(user, amount);
        self.shared.spool.give_back(&self.quotas(user, amount));
    }

    fn give_back_here(&self, user: &User, amount: Amount) {
        let usage = &self.door.usage;
        usage.give_back(who(user), &user.limits, amount);
        usage.give_back(here(&self.endpoint), &self.endpoint.limits, amount);
    }

    /// Returns the limits of a user and of the listener in the form in which nodes share them; none if this process is
    /// alone.
    fn quotas(&self, user: &User, amount: Amount) -> Vec<Quota> {
        if !self.shared.spool.shares_limits() {
            return Vec::new();
        }
        let quotas = owned(user, &self.endpoint).map(|(owner, limit)| Quota {
            name: format!("{owner}/{}", limit.setting),
            period: limit.period,
            most: limit.most,
            amount: amount.of(limit.unit),
        });
        quotas.collect()
    }

    /// Returns the record of a message that has just arrived and is not routed yet.
    fn record(&self, id: MessageId, envelope: Envelope, content: &Content) -> Record {
        let now = self.shared.clock.now();
        let peer = match self.peer {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("IPv6:{address}"),
        };
        Record {
            size: content.size(),
            sum: content.sum(),
            ..Record::new(
                id,
                now,
                Origin::Client {
                    user: self.machine.user().unwrap_or_default().to_owned(),
                    listener: self.endpoint.name.clone(),
                    peer,
                    helo: self.machine.helo().to_owned(),
                    protocol: self.machine.protocol().to_owned(),
                },
                envelope,
            )
        }
    }

    async fn put(&self, record: Record, content: Content, routes: &[Route]) -> Reply {
        let (id, size) = (record.id, record.size);
        let envelope = record.envelope.clone();
        if let Err(error) = self
            .shared
            .spool
            .put(vec![NewMessage { record, content }])
            .await
        {
            return not_taken(id, &error);
        }
        let user = self.machine.user().unwrap_or_default();
        let (server, reason) = match routes {
            [only] => (only.server.as_str(), only.reason.to_string()),
            several => ("", by_recipient(several)),
        };
        maillog::accepted(id, user, &self.peer, &envelope, size, server, &reason);
        Reply::queued(id)
    }

    async fn send_direct(&self, record: Record, content: Content) -> Reply {
        let answered = self.shared.direct.submit(&record, &content).await;
        let reply = answered.reply();
        if reply.is_positive() {
            return reply;
        }
        self.log_refused(&record, &reply);
        reply
    }

    /// Refuses a message: logs it, and keeps its story.
    fn not_allowed(&self, record: Record, reply: Reply) -> Reply {
        self.log_refused(&record, &reply);
        let (at, reply_text) = (record.received, reply.to_string());
        let what = EventKind::Refused { reply: reply_text };
        self.shared.spool.refused(Story {
            record,
            ended: Some(at),
            events: vec![StoryEvent { at, what }],
        });
        reply
    }

    fn log_refused(&self, record: &Record, reply: &Reply) {
        let user = self.machine.user().unwrap_or_default();
        maillog::refused_message(record.id, user, &self.peer, &record.envelope, reply);
        self.remember(&reply.to_string());
    }
}

/// Returns the limits of a user and of a listener, with their owners.
fn owned<'l>(
    user: &'l User,
    endpoint: &'l Endpoint,
) -> impl Iterator<Item = (LimitOwner<'l>, &'l Limit)> {
    let of_user = user.limits.iter().map(|limit| (who(user), limit));
    let here = endpoint.limits.iter().map(|limit| (here(endpoint), limit));
    of_user.chain(here)
}

/// Refuses a message that is too large for one of its servers.
fn too_large(policy: &Policy, routes: &[Route], size: u64) -> Option<Reply> {
    let mut routes = routes.iter();
    routes.find_map(|route| {
        let most = policy.message_size(&route.server)?;
        (size > most).then(|| wording::too_large_for(&route.server, most))
    })
}

/// Describes the routes of a message that several servers send.
fn by_recipient(routes: &[Route]) -> String {
    let routes = routes.iter();
    let routes: Vec<String> = routes
        .map(|route| format!("{}: {}", route.server, route.reason))
        .collect();
    format!("by recipient: {}", routes.join("; "))
}

/// Returns the octets of memory that a message takes until it is in the spool: its whole content, or only its
/// header section if the content is in a file.
fn in_memory(content: &Content) -> usize {
    match content.in_memory() {
        Some(bytes) => bytes.len(),
        None => limits::HEADER_SECTION.min(content.size() as usize),
    }
}

fn not_taken(id: MessageId, error: &SpoolError) -> Reply {
    maillog::spool_failed(id, error);
    refusal_of(error)
}

fn refusal_of(error: &SpoolError) -> Reply {
    if error.is_full() {
        wording::out_of_space()
    } else {
        Reply::try_again()
    }
}
