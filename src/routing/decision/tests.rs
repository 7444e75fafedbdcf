use super::*;
use crate::routing::filter::Filter;
use crate::routing::policy::{ListenerRule, OnMismatch, ServerRule, UserRule};
use proptest::prelude::*;

const N: &str = "notifications@example.com";

/// Builds a policy from servers written as `name: filter; ...`, with `-` for no filter. Each server signs in
/// as `name@servers.test`.
fn policy(servers: &str, default_from: Option<&str>, keys: &[Key]) -> Policy {
    let rule = |text: &str| {
        let (name, filter) = text.split_once(':').unwrap();
        let filter = filter.trim().replace('N', N).replace("Notifications", "N");
        ServerRule {
            name: name.trim().into(),
            address: Some(Address::parse(&format!("{}@servers.test", name.trim())).unwrap()),
            filter: Filter::parse(if filter == "-" { "" } else { &filter }).unwrap(),
            ..ServerRule::default()
        }
    };
    Policy {
        servers: servers
            .split(';')
            .filter(|s| s.contains(':'))
            .map(rule)
            .collect(),
        default_from: default_from.map(|text| Address::parse(text).unwrap()),
        keys: keys.to_vec(),
        reply_to: true,
        ..Policy::default()
    }
}

fn route(policy: &Policy, sender: &str, from: &str, caller: Caller) -> Decision {
    let sender = ReversePath::parse(sender).unwrap();
    policy.decide(&sender, &Author::of_value(from.as_bytes()), caller)
}

/// Formats the decision as `server | envelope | From`, with `same` for a value that does not change.
fn shown(decision: Decision, sender: &str) -> String {
    match decision {
        Decision::Refused(_) => "refused".to_owned(),
        Decision::Route(route) => {
            let envelope = route.plan.envelope_sender.to_string();
            let envelope = if envelope == sender {
                "same".to_owned()
            } else {
                envelope
            };
            let from = route
                .plan
                .from
                .map_or("same".to_owned(), |from| from.to_string());
            format!("{} | {envelope} | {from}", route.server)
        }
    }
}

#[test]
fn the_cases_of_the_specification() {
    let header = &[Key::Header][..];
    let both = &[Key::Envelope, Key::Header][..];
    let three = "d: example.com; u: ann@example.com; x: -";
    let cases = [
        (
            three,
            None,
            header,
            "ann@example.com",
            "ann@example.com",
            "u | same | same",
        ),
        (
            three,
            None,
            header,
            "bob@example.com",
            "bob@example.com",
            "d | same | same",
        ),
        (
            three,
            None,
            header,
            "q@elsewhere.org",
            "\"Q\" <q@elsewhere.org>",
            "x | same | same",
        ),
        (
            three,
            None,
            header,
            "a@sub.example.com",
            "a@sub.example.com",
            "x | same | same",
        ),
        (
            "u: one.org, ann@example.com, two.org; n: N",
            Some(N),
            header,
            "bounce@example.com",
            "\"T\" <t@two.org>",
            "u | t@two.org | same",
        ),
        (
            "d: example.com; n: N; x: -",
            Some(N),
            header,
            "bounce@example.com",
            "\"T\" <t@elsewhere.org>",
            "n | notifications@example.com | \"T\" <notifications@example.com>",
        ),
        (
            "d: example.com",
            Some(N),
            header,
            "bounce@example.com",
            "\"T\" <t@elsewhere.org>",
            "d | same | \"T\" <notifications@example.com>",
        ),
        (
            "d: example.com",
            Some(N),
            header,
            "bounce@other.org",
            "\"J\" <j@example.com>",
            "d | j@example.com | same",
        ),
        (
            "x: -",
            Some(N),
            header,
            "bounce@example.com",
            "\"J\" <j@elsewhere.org>",
            "x | same | \"J\" <notifications@example.com>",
        ),
        (
            "x: -",
            Some(N),
            header,
            "j@elsewhere.org",
            "\"J\" <j@elsewhere.org>",
            "x | notifications@example.com | \"J\" <notifications@example.com>",
        ),
        (
            "a: ann@one.org",
            None,
            header,
            "q@two.org",
            "q@two.org",
            "refused",
        ),
        (
            "n: N",
            Some(N),
            header,
            N,
            "NOTIFICATIONS@Example.com",
            "n | same | same",
        ),
        (
            "i: éxample.com; x: -",
            Some(N),
            header,
            "a@xn--xample-9ua.com",
            "a@xn--xample-9ua.com",
            "i | same | same",
        ),
        (
            "f: \"Ann\" <ann@example.com>; x: -",
            Some(N),
            header,
            "ann@example.com",
            "ann@example.com",
            "f | same | same",
        ),
        (
            "n: N",
            Some(N),
            both,
            "root@localhost",
            "Cron <root@localhost>",
            "n | notifications@example.com | \"Cron\" <notifications@example.com>",
        ),
        (
            "j: john@example.com; d: example.com",
            Some(N),
            both,
            "bounce@example.com",
            "john@example.com",
            "j | john@example.com | same",
        ),
    ];
    for (servers, default_from, keys, sender, from, expected) in cases {
        let policy = policy(servers, default_from, keys);
        let got = shown(route(&policy, sender, from, Caller::default()), sender);
        assert_eq!(got, expected, "{servers} / {sender} / {from}");
    }
    let mut semicolon = policy("x: -", Some("one.org@x.com"), header);
    semicolon.default_from = None;
    semicolon.servers.insert(
        0,
        ServerRule {
            name: "s".into(),
            address: None,
            filter: Filter::parse("one.org;two.org").unwrap(),
            ..ServerRule::default()
        },
    );
    assert_eq!(
        shown(
            route(&semicolon, "a@two.org", "a@two.org", Caller::default()),
            "a@two.org"
        ),
        "x | same | same"
    );
    let mut last = policy("a: ann@one.org", None, header);
    last.last_resort = true;
    assert_eq!(
        shown(
            route(&last, "q@two.org", "q@two.org", Caller::default()),
            "q@two.org"
        ),
        "a | a@servers.test | \"q\" <a@servers.test>"
    );
    last.on_mismatch = OnMismatch::Keep;
    assert_eq!(
        shown(
            route(&last, "q@two.org", "q@two.org", Caller::default()),
            "q@two.org"
        ),
        "a | q@two.org | same".replace("q@two.org", "same")
    );
}

fn addresses(texts: &[&str]) -> Vec<Address> {
    texts
        .iter()
        .map(|text| Address::parse(text).unwrap())
        .collect()
}

/// Formats the decisions of a message, each with its recipients.
fn each(policy: &Policy, sender: &str, recipients: &[&str]) -> Vec<String> {
    let recipients = addresses(recipients);
    let path = ReversePath::parse(sender).unwrap();
    let author = Author::of_value(sender.as_bytes());
    let decisions = policy.decide_each(&path, &author, Caller::default(), recipients.iter());
    let decisions = decisions.into_iter().map(|(decision, places)| {
        let name = match decision {
            Decision::Route(route) => route.server,
            Decision::Refused(refusal) => refusal.why.to_string(),
        };
        format!("{name} {places:?}")
    });
    decisions.collect()
}

#[test]
fn recipients_take_the_routes_of_servers_that_take_mail_to_them() {
    let mut policy = policy("i: example.com; o: example.com", None, &[Key::Envelope]);
    policy.servers[0].to = Filter::parse("example.com, vip@x.com").unwrap();
    let ann = "ann@example.com";
    let all = ["a@example.com", "b@y.com", "vip@x.com", "c@x.com"];
    assert_eq!(each(&policy, ann, &all), ["i [0, 2]", "o [1, 3]"]);
    assert_eq!(each(&policy, ann, &["b@y.com"]), ["o [0]"]);
    policy.servers.truncate(1);
    let said = each(&policy, ann, &all);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[1].contains("to <b@y.com>, <c@x.com>: no server's to_filter")
            && said[1].ends_with("[1, 3]"),
        "{said:?}"
    );
    let refuses = |sender: &str, to: &str| {
        let sender = ReversePath::parse(sender).unwrap();
        policy.refuses_at_rcpt(&sender, &addresses(&[to])[0], Caller::default())
    };
    assert_eq!(refuses(ann, "a@example.com"), None);
    assert!(
        refuses(ann, "b@y.com")
            .unwrap()
            .to_string()
            .contains("no server's to_filter")
    );
    assert!(
        refuses("q@z.com", "a@example.com")
            .unwrap()
            .to_string()
            .contains("from_filter that admits")
    );
    policy.servers[0].filter = None;
    policy.servers[0].address = None;
    assert!(policy.report_route(|_| true).is_none());
}

#[test]
fn a_server_signs_in_as_the_address_that_a_message_is_sent_as() {
    let both = &[Key::Envelope, Key::Header];
    let mut policy = policy("s: example.com", Some(N), both);
    policy.servers[0].is_per_sender = true;
    policy.servers[0].address = None;
    let cases = [
        (
            "ann@example.com",
            "Ann <Ann@Example.com>",
            "s/ann@example.com | same | same",
        ),
        (
            "bounce@example.com",
            "ann@example.com",
            "s/ann@example.com | ann@example.com | same",
        ),
        (
            "bounce@x.com",
            "ann@example.com",
            "s/ann@example.com | ann@example.com | same",
        ),
        (
            "ann@example.com",
            "Jo <jo@x.com>",
            "s/notifications@example.com | N | \"Jo\" <N>",
        ),
        (
            "jo@x.com",
            "Jo <jo@x.com>",
            "s/notifications@example.com | N | \"Jo\" <N>",
        ),
        ("<>", "ann@example.com", "s/ann@example.com |  | same"),
    ];
    for (sender, from, expected) in cases {
        let got = shown(route(&policy, sender, from, Caller::default()), sender);
        assert_eq!(
            got.replace(N, "N")
                .replace("s/N", "s/notifications@example.com"),
            expected,
            "{sender} / {from}"
        );
    }
    policy.default_from = None;
    policy.last_resort = true;
    let refused = route(&policy, "jo@x.com", "jo@x.com", Caller::default());
    assert!(matches!(
        refused,
        Decision::Refused(Refusal {
            why: NotRouted::NoIdentity(_) | NotRouted::NoMailbox(_),
            ..
        })
    ));
    let (report, identity) = {
        policy.default_from = Address::parse(N).ok();
        policy.report_route(|_| true).unwrap()
    };
    assert_eq!(
        (report.server.as_str(), identity.as_str()),
        ("s/notifications@example.com", N)
    );
}

#[test]
fn the_table_of_encapsulation() {
    let policy = policy("n: N", Some(N), &[Key::Header]);
    let cases = [
        ("John Doe <john@x.com>", "\"John Doe\" <N>"),
        ("John.Doe+tag@X.com", "\"John.Doe+tag\" <N>"),
        ("\"\" <john@x.com>", "\"john\" <N>"),
        ("\" \" <john@x.com>", "\"john\" <N>"),
        ("john@x.com (John Doe)", "\"john\" <N>"),
        ("\"Doe, John\" <john@x.com>", "\"Doe, John\" <N>"),
        (
            "\"John \\\"JD\\\" Doe\" <j@x.com>",
            "\"John \\\"JD\\\" Doe\" <N>",
        ),
        ("\"a\\\\b\" <j@x.com>", "\"a\\\\b\" <N>"),
        ("José <jose@x.com>", "=?utf-8?B?Sm9zw6k=?= <N>"),
        ("a@x.com, b@y.com", "\"a\" <N>"),
        ("Team: a@x.com, b@y.com;", "\"a\" <N>"),
        ("@x.com", "N"),
        ("nobody:;", "N"),
    ];
    for (from, expected) in cases {
        let Decision::Route(route) = route(&policy, "bounce@other.org", from, Caller::default())
        else {
            panic!("{from} is refused");
        };
        assert_eq!(
            route.plan.from.unwrap().to_string(),
            expected.replace('N', N),
            "{from}"
        );
    }
}

#[test]
fn pins_and_restrictions() {
    let policy = policy(
        "n: N; campaigns: -; d: example.com",
        Some(N),
        &[Key::Envelope, Key::Header],
    );
    let pinned = Caller {
        pinned: Some("campaigns"),
        ..Caller::default()
    };
    let decision = route(&policy, "any@where.org", "\"C\" <any@where.org>", pinned);
    assert_eq!(shown(decision, "any@where.org"), "campaigns | same | same");
    let pinned = Caller {
        pinned: Some("d"),
        ..Caller::default()
    };
    let decision = route(&policy, "any@where.org", "\"C\" <any@where.org>", pinned);
    assert_eq!(
        shown(decision, "any@where.org"),
        format!("d | {N} | \"C\" <{N}>")
    );
    let own = Address::parse("bills@example.com").unwrap();
    let with_own = Caller {
        default_from: Some(&own),
        ..Caller::default()
    };
    let decision = route(&policy, "any@where.org", "\"C\" <any@where.org>", with_own);
    assert_eq!(
        shown(decision, "any@where.org"),
        "d | bills@example.com | \"C\" <bills@example.com>"
    );
    let only = ["d".to_owned()];
    let restricted = Caller {
        servers: Some(&only),
        ..Caller::default()
    };
    let decision = route(&policy, "any@where.org", "x@where.org", restricted);
    assert_eq!(
        shown(decision, "any@where.org"),
        format!("d | {N} | \"x\" <{N}>")
    );
}

#[test]
fn mismatches_are_kept_or_rejected_when_said_so() {
    let mut policy = policy("d: example.com", Some(N), &[Key::Envelope]);
    let decide = |policy: &Policy, from| {
        shown(
            route(policy, "b@example.com", from, Caller::default()),
            "b@example.com",
        )
    };
    assert_eq!(
        decide(&policy, "t@two.org"),
        format!("d | same | \"t\" <{N}>")
    );
    policy.on_mismatch = OnMismatch::Keep;
    assert_eq!(decide(&policy, "t@two.org"), "d | same | same");
    assert_eq!(
        decide(&policy, "not an address"),
        format!("d | same | \"not an address\" <{N}>")
    );
    policy.on_mismatch = OnMismatch::Reject;
    assert_eq!(decide(&policy, "t@two.org"), "refused");
    assert_eq!(decide(&policy, "j@example.com"), "d | same | same");
}

#[test]
fn the_null_sender_stays_or_becomes_the_identity() {
    let mut policy = policy("n: N", Some(N), &[Key::Envelope, Key::Header]);
    assert_eq!(
        shown(route(&policy, "", "x@y.z", Caller::default()), ""),
        format!("n | same | \"x\" <{N}>")
    );
    policy.null_sender = NullSender::Identity;
    assert_eq!(
        shown(route(&policy, "", "x@y.z", Caller::default()), ""),
        format!("n | {N} | \"x\" <{N}>")
    );
}

#[test]
fn mail_is_refused_early_only_where_no_header_can_help() {
    let sender = ReversePath::parse("q@two.org").unwrap();
    let refuses = |keys: &[Key]| {
        policy("a: ann@one.org", None, keys).refuses_at_mail(&sender, Caller::default())
    };
    let refused = refuses(&[Key::Envelope]).unwrap().to_string();
    assert!(refused.contains("q@two.org"), "{refused}");
    assert!(refuses(&[Key::Envelope, Key::Header]).is_none());
}

#[test]
fn reports_go_through_the_default_server() {
    let (route, from) = policy("d: other.org; n: N", Some(N), &[Key::Header])
        .report_route(|_| true)
        .unwrap();
    assert_eq!((route.server.as_str(), from.as_str()), ("n", N));
    let (route, from) = policy("d: other.org; n: N", Some(N), &[Key::Header])
        .report_route(|server| server != "n")
        .unwrap();
    assert_eq!(
        (route.server.as_str(), from.as_str()),
        ("d", "d@servers.test"),
        "through a server that works"
    );
    assert_eq!(route.plan.from.unwrap().address, from);
    let (route, _) = policy("d: other.org; n: N", Some(N), &[Key::Header])
        .report_route(|_| false)
        .unwrap();
    assert_eq!(route.server, "n", "if none works, the default server");
    let (route, from) = policy("d: other.org", None, &[Key::Header])
        .report_route(|_| true)
        .unwrap();
    assert_eq!(
        (route.server.as_str(), from.as_str()),
        ("d", "d@servers.test")
    );
}

proptest! {
    #[test]
    fn each_recipient_takes_one_route(to in prop::collection::vec(0usize..4, 1..12), filters in prop::collection::vec(0usize..5, 3)) {
        let mut policy = policy("a: example.com; b: example.com; c: example.com", None, &[Key::Envelope]);
        let choices = ["r0.test", "r1.test", "r0.test, r2.test", "x@r3.test", ""];
        for (server, choice) in policy.servers.iter_mut().zip(filters) {
            server.to = Filter::parse(choices[choice]).unwrap();
        }
        let recipients: Vec<String> = to.iter().map(|place| format!("x@r{place}.test")).collect();
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let all = addresses(&recipients);
        let path = ReversePath::parse("a@example.com").unwrap();
        let decisions = policy.decide_each(&path, &Author::Missing, Caller::default(), all.iter());
        let mut seen: Vec<usize> = decisions.iter().flat_map(|(_, places)| places.clone()).collect();
        seen.sort();
        prop_assert_eq!(seen, (0..all.len()).collect::<Vec<_>>());
        for (decision, places) in &decisions {
            for place in places {
                let caller = Caller { recipient: Some(&all[*place]), ..Caller::default() };
                let alone = policy.decide(&path, &Author::Missing, caller);
                let is_same = match (decision, &alone) {
                    (Decision::Refused(_), Decision::Refused(_)) => true,
                    (one, other) => one == other,
                };
                prop_assert!(is_same, "{:?} {:?}", decision, alone);
            }
        }
    }

    /// Every message is sent as an address that the chosen server admits, unless the server is pinned or
    /// the last resort.
    #[test]
    fn what_leaves_is_admitted(
        servers in prop::sample::select(vec!["d: example.com; n: N", "u: a@one.org; n: N; d: two.org", "n: N; x: -"]),
        sender in prop::sample::select(vec!["", "a@one.org", "b@two.org", "c@example.com", "d@else.net"]),
        from in prop::sample::select(vec!["a@one.org", "B <b@two.org>", "c@example.com", "d@else.net, a@one.org", "junk", "g:;"]),
        envelope_first in any::<bool>(),
    ) {
        let keys = if envelope_first { [Key::Envelope, Key::Header] } else { [Key::Header, Key::Envelope] };
        let policy = policy(servers, Some(N), &keys);
        if let Decision::Route(route) = route(&policy, sender, from, Caller::default()) {
            let server = policy.servers.iter().find(|server| server.name == route.server).unwrap();
            if let Some(address) = route.plan.envelope_sender.address() {
                prop_assert!(server.admits(address));
            }
            let author = Author::of_value(from.as_bytes());
            let from = route.plan.from.as_ref().or(author.mailbox()).expect("somebody is the author");
            prop_assert!(server.admits(&from.address));
        }
    }
}

#[test]
fn the_users_default_sender_counts_before_the_listeners() {
    let address = |text: &str| Some(Address::parse(text).unwrap());
    let mut policy = policy("n: N", Some(N), &[Key::Header]);
    let users = ["own", "none"].map(|name| {
        let default_from = address("user@example.com").filter(|_| name == "own");
        let rule = UserRule {
            default_from,
            ..UserRule::default()
        };
        (name.to_owned(), rule)
    });
    policy.users = users.into();
    let rule = ListenerRule {
        default_from: address("listener@example.com"),
        ..ListenerRule::default()
    };
    policy.listeners = [("here".to_owned(), rule)].into();
    let sender = |user, listener| {
        let caller = policy.caller(user, listener);
        policy.default_from(&caller).map(ToString::to_string)
    };
    assert_eq!(sender("own", "here").as_deref(), Some("user@example.com"));
    assert_eq!(
        sender("none", "here").as_deref(),
        Some("listener@example.com")
    );
    assert_eq!(sender("none", "there").as_deref(), Some(N));
    assert_eq!(sender("", "").as_deref(), Some(N));
}
