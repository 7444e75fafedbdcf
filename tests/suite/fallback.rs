//! `fallback`: another server takes over the mail of a server that cannot be used for long.

use crate::support::{Lab, Plan, SERVER, Smarthost, USUAL, id_of};

fn message(field: &str) -> String {
    format!(
        "From: Notifications <notifications@example.com>\r\n{field}Subject: Hello\r\n\r\nHello\r\n"
    )
}

#[test]
fn another_server_takes_over_during_a_long_fault_and_gives_the_mail_back() {
    let smarthost = Smarthost::start(|_, _| None);
    let main = SERVER.replace(
        "oauth = \"contoso\"",
        "oauth = \"contoso\"\nfallback = \"smarthost\"\nfallback_after = \"1s\"",
    );
    let other = smarthost.server("smarthost").replace(
        "auth = \"none\"",
        "auth = \"none\"\naddress = \"relay@example.net\"\nfrom_filter = \"example.net\"",
    );
    // Longer than the interval at which mail is moved; shorter holds end before.
    let usual = USUAL.replace("back_off = [\"1s\", \"2s\"]", "back_off = [\"8s\", \"8s\"]");
    let lab = Lab::with(Plan {
        configuration: usual + &main + &other,
        ..Plan::default()
    });
    lab.fault(r#"{"stage":"connect","action":{"reply":"421 4.3.2 down"},"times":1000000}"#);
    let mut client = lab.client();
    let sender = "notifications@example.com";
    let bulk = id_of(&client.send(sender, &["bulk@b.c"], &message("Precedence: bulk\r\n")));
    id_of(&client.send(sender, &["to@b.c"], &message("")));
    let seen = lab.wait_for("the fallback", || {
        let seen = smarthost.seen();
        (!seen.contents.is_empty()).then_some(seen)
    });
    // From becomes what it would be for a user of that server.
    assert!(
        seen.contents[0].contains("From: \"Notifications\" <relay@example.net>"),
        "{}",
        seen.contents[0]
    );
    assert!(seen.commands.iter().any(|it| it.contains("<to@b.c>")));
    assert!(
        !seen.commands.iter().any(|it| it.contains("<bulk@b.c>")),
        "bulk mail waits"
    );
    lab.logged(&["rerouted", "server=\"smarthost\""]);
    assert!(
        lab.stdout(&["servers"])
            .contains("its mail goes through smarthost")
    );
    assert!(
        lab.stdout(&["queue", "show", &bulk])
            .contains("421 4.3.2 down")
    );
    // The fault is over: all mail takes the usual way again.
    lab.state().script.clear();
    assert_eq!(lab.delivered(1)[0].recipients, ["bulk@b.c"]);
    id_of(&client.send(sender, &["next@b.c"], &message("")));
    assert_eq!(lab.delivered(2)[1].recipients, ["next@b.c"]);
    lab.empties();
    assert_eq!(smarthost.seen().contents.len(), 1);
}

#[test]
fn what_an_operator_holds_is_not_taken_over() {
    let smarthost = Smarthost::start(|_, _| None);
    let main = SERVER.replace(
        "oauth = \"contoso\"",
        "oauth = \"contoso\"\nfallback = \"smarthost\"\nfallback_after = \"0s\"",
    );
    let lab = Lab::with(Plan {
        configuration: USUAL.to_owned() + &main + &smarthost.server("smarthost"),
        ..Plan::default()
    });
    lab.stdout(&["hold", "notifications"]);
    let mut client = lab.client();
    id_of(&client.send("notifications@example.com", &["to@b.c"], &message("")));
    assert!(!lab.stdout(&["servers"]).contains("goes through"));
    lab.stdout(&["release", "notifications"]);
    assert_eq!(lab.delivered(1).len(), 1);
    lab.empties();
    assert!(smarthost.seen().contents.is_empty());
}
