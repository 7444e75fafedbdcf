//! Servers, or devices on the way to them, that break the protocol: a message counts as delivered only if its
//! content was accepted, and no message is lost.

use crate::support::{Asked, Lab, Plan, Smarthost, USUAL, admitted, id_of};

/// Starts a laboratory in which the program sends through this server and retries after one second.
fn lab(server: &Smarthost) -> Lab {
    Lab::with(Plan {
        configuration: USUAL.to_owned() + &server.server("main"),
        ..Plan::default()
    })
}

fn send(lab: &Lab) -> String {
    id_of(&lab.send("notifications@example.com", &admitted("held on to")))
}

/// Checks that a message is delivered, and that the server receives it once.
fn delivers_once(server: &Smarthost) {
    let lab = lab(server);
    let id = send(&lab);
    lab.logged(&["event=\"delivered\"", &id, "250 2.0.0 taken"]);
    assert_eq!(server.seen().contents.len(), 1);
}

#[test]
fn nothing_but_354_goes_on_after_data() {
    let server = Smarthost::start(|asked, seen| {
        let is_first = seen.connections == 1;
        (asked == Asked::Command("DATA") && is_first).then_some("250 2.0.0 ok")
    });
    let lab = lab(&server);
    let id = send(&lab);
    let deferred = lab.logged(&["event=\"deferred\"", &id]);
    assert!(
        deferred.contains("unexpected reply: 250 2.0.0 ok"),
        "{deferred}"
    );
    lab.logged(&["event=\"delivered\"", &id, "250 2.0.0 taken"]);
    let seen = server.seen();
    assert_eq!((seen.contents.len(), seen.connections), (1, 2));
}

#[test]
fn a_server_that_is_a_reply_ahead_is_noticed() {
    let server = Smarthost::start(|asked, seen| match asked {
        Asked::Command(line) if line.starts_with("EHLO") && seen.connections == 1 => {
            Some("250-smarthost\r\n250 PIPELINING\r\n250 stray")
        }
        _ => None,
    });
    delivers_once(&server);
}

#[test]
fn a_reply_that_comes_late_is_noticed_at_data() {
    let server = Smarthost::start(|asked, seen| match asked {
        // The server sends one 250 too many, as if a reply from before MAIL arrived late.
        Asked::Command(line) if line.starts_with("MAIL") && seen.connections == 1 => {
            Some("250 stray\r\n250 2.1.0 ok")
        }
        _ => None,
    });
    delivers_once(&server);
}

#[test]
fn an_invalid_reply_to_the_final_dot_leaves_the_message_uncertain() {
    let server = Smarthost::start(|asked, seen| match asked {
        Asked::FinalDot(_) if seen.connections == 1 => Some("354 go on"),
        _ => None,
    });
    let lab = lab(&server);
    let id = send(&lab);
    lab.logged(&["event=\"deferred\"", &id, "uncertain=true", "354 go on"]);
    lab.logged(&["event=\"delivered\"", &id, "250 2.0.0 taken"]);
    assert_eq!(server.seen().contents.len(), 2);
}

#[test]
fn a_goodbye_behind_the_answer_does_not_put_it_in_doubt() {
    let server = Smarthost::start(|asked, _| match asked {
        Asked::FinalDot(_) => Some("250 2.0.0 taken\r\n421 4.4.2 closing"),
        _ => None,
    });
    let lab = lab(&server);
    for _ in 0..2 {
        let id = send(&lab);
        lab.logged(&["event=\"delivered\"", &id]);
    }
    lab.empties();
    let seen = server.seen();
    assert_eq!((seen.contents.len(), seen.connections), (2, 2));
}
