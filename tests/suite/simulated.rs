//! The program in simulated time: hours and months of a server's life in seconds. Everything is real except
//! the clock by which the program decides, for example when to retry. The stand-ins, which the program
//! reaches through its sockets, use real time.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use mailferry::base::{Simulation, Timestamp};
use mailferry::config::{self, Secrets};
use mailferry::daemon::{Daemon, Root};
use mailferry::sandbox::{Fault, FaultAction, FaultAnswer, FaultStage};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::runtime::Runtime;

use crate::support::{Lab, Plan, SERVER, USUAL, admitted, by_refresh_token, id_of, seed};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The number of tasks that wait for the clock while nothing happens: the scheduler, and the task that renews
/// tokens.
const LOOPS: usize = 2;

struct Life {
    lab: Lab,
    time: Arc<Simulation>,
    daemon: Daemon,
    _runtime: Runtime,
}

impl Life {
    /// Starts the program with a server that has a refresh token for its mailbox.
    fn begin() -> Self {
        Self::with(|server| server)
    }

    /// Starts the program with the same server, after `change` has changed the server's table.
    fn with(change: impl Fn(String) -> String) -> Self {
        let secret = USUAL.replace("{ env = \"TEST_SECRET\" }", "{ file = \"secret\" }");
        let usual = secret.replace(
            "retry = [\"1s\"]\nback_off = [\"1s\", \"2s\"]\nuncertain_pause = \"1s\"\n",
            "",
        );
        let lab = Lab::stopped(Plan {
            configuration: usual + &change(by_refresh_token()),
            mailboxes: vec!["notifications@example.com", "jane@example.com"],
            ..Plan::default()
        });
        lab.write_private("secret", "sandbox-secret");
        lab.write_private("refresh", "refresh-notifications@example.com");
        Self::on(lab, Simulation::new(Timestamp::now()))
    }

    fn on(mut lab: Lab, time: Arc<Simulation>) -> Self {
        let config = config::load(&lab.path("mailferry.toml"), Secrets::Read).expect("loads");
        let runtime = Runtime::new().expect("a runtime");
        let started = runtime.block_on(Daemon::start(config, time.clock(), Root::Allowed));
        let daemon = started.expect("starts");
        lab.address = daemon.addresses()[0];
        Self {
            lab,
            time,
            daemon,
            _runtime: runtime,
        }
    }

    /// Lets this much time pass, in steps. Waits after each step until no work is in progress.
    fn pass(&self, time: Duration, step: Duration) {
        let steps = time.as_millis() / step.as_millis();
        for _ in 0..steps {
            self.time.advance(step);
            self.settle();
        }
    }

    fn settle(&self) {
        self.lab.wait_for("quiet", || {
            // The program writes results after a short delay in simulated time.
            self.time.advance(Duration::from_millis(2));
            (self.time.sleepers() >= LOOPS && self.daemon.is_quiet()).then_some(())
        });
    }

    fn send(&self, subject: &str) {
        id_of(
            &self
                .lab
                .send("notifications@example.com", &admitted(subject)),
        );
    }

    /// Stops the program, and starts it again after this long.
    fn again_after(self, away: Duration) -> Self {
        let Self {
            lab,
            time,
            daemon,
            _runtime: runtime,
        } = self;
        runtime.block_on(daemon.stop());
        drop(runtime);
        time.advance(away);
        Self::on(lab, time)
    }

    /// Makes every attempt fail at this stage until the script is cleared.
    fn cut_off(&self, stage: FaultStage) {
        let busy = "451 4.3.2 Busy".to_owned();
        self.lab.state().script.add([Fault {
            stage,
            action: FaultAction::Reply(busy),
            times: u32::MAX,
            matches: None,
        }]);
    }

    fn asked(&self) -> u64 {
        self.lab.state().stats().token_requests
    }
}

/// Returns the faults of an outage, including responses from network devices such as proxies.
fn outage() -> Vec<FaultAction> {
    let reply = |text: &str| FaultAction::Reply(text.to_owned());
    vec![
        reply("503 <html>Service unavailable</html>"),
        reply("200 <html>Sign in to the guest network</html>"),
        reply("400 <html>Bad request</html>"),
        reply(r#"500 {"error":"server_error"}"#),
        reply(r#"400 {"error":"temporarily_unavailable","error_codes":[90033]}"#),
        reply(r#"200 {"access_token":"#),
        FaultAction::Answer(FaultAnswer::Throttle(45)),
        FaultAction::Answer(FaultAnswer::Cut),
        FaultAction::Drop,
    ]
}

#[test]
fn an_outage_of_an_hour_loses_nothing_and_ends_by_itself() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let life = Life::begin();
    life.send("before");
    life.lab.delivered(1);
    life.pass(40 * MINUTE, MINUTE);
    assert_eq!(life.asked(), 1, "seed {seed}");
    let kinds = outage();
    for minute in 0..70 {
        let action = kinds.choose(&mut random).expect("some").clone();
        life.lab.state().script.clear();
        life.lab.state().script.add([Fault {
            stage: FaultStage::Token,
            action,
            times: u32::MAX,
            matches: None,
        }]);
        if minute % 5 == 0 {
            life.send(&format!("minute {minute}"));
        }
        life.pass(MINUTE, Duration::from_secs(5));
    }
    let (asked, arrived) = (life.asked(), life.lab.state().stats().messages);
    assert!(asked > 10, "it goes on trying: {asked}, seed {seed}");
    assert!(asked < 100, "but makes no storm: {asked}, seed {seed}");
    // The stored token is used until it expires, in the twentieth minute of the outage.
    assert_eq!(arrived, 5, "seed {seed}");
    life.lab.state().script.clear();
    // One hour (the last wait of the retry schedule) plus its jitter.
    life.pass(70 * MINUTE, Duration::from_secs(5));
    let delivered = life.lab.delivered(15);
    for minute in (0..70).step_by(5) {
        let subject = format!("Subject: minute {minute}\r\n");
        let copies = delivered
            .iter()
            .filter(|message| message.text.contains(&subject));
        assert_eq!(copies.count(), 1, "{subject}, seed {seed}");
    }
    assert_eq!(delivered.len(), 15, "no report among them, seed {seed}");
}

#[test]
fn an_outage_of_a_week_uses_up_nothing_of_the_mailboxs_day() {
    let most = "recipients_per_day = 60";
    let life = Life::with(|server| server.replace("recipients_per_day = 0", most));
    let text = std::fs::read_to_string(life.lab.path("mailferry.toml")).expect("reads");
    let text = text.replace("grace = \"20s\"", "grace = \"20s\"\nexpire_after = \"10d\"");
    life.lab.write("mailferry.toml", &text);
    let life = life.again_after(MINUTE);
    life.cut_off(FaultStage::Connect);
    let recipients: Vec<String> = (0..50).map(|number| format!("to{number}@b.c")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut client = life.lab.client();
    id_of(&client.send(
        "notifications@example.com",
        &recipients,
        &admitted("all week"),
    ));
    life.pass(7 * 24 * HOUR, 10 * MINUTE);
    let stats = life.lab.state().stats();
    assert!(stats.connections > 100, "it was tried: {stats:?}");
    assert_eq!(stats.messages, 0);
    life.lab.state().script.clear();
    // The longest pause of a server plus its jitter.
    life.pass(20 * MINUTE, MINUTE);
    let delivered = life.lab.state().delivered();
    let mut all = delivered.iter().filter(|it| it.recipients.len() == 50);
    assert!(all.next().is_some(), "{delivered:?}");
}

#[test]
fn a_token_is_at_hand_while_it_is_used_and_asked_for_no_more_when_it_is_not() {
    let life = Life::begin();
    life.send("the one of today");
    life.lab.delivered(1);
    life.pass(26 * HOUR, 5 * MINUTE);
    let in_use = life.asked();
    assert!((15..=40).contains(&in_use), "{in_use}");
    life.pass(24 * HOUR, 5 * MINUTE);
    assert!(life.asked() <= in_use + 1, "{}", life.asked());
}

#[test]
fn a_sign_in_that_nobody_uses_is_exercised_before_it_dies() {
    let life = Life::begin();
    life.settle();
    life.pass(29 * 24 * HOUR, 6 * HOUR);
    assert_eq!(life.asked(), 0);
    life.pass(89 * 24 * HOUR, 6 * HOUR);
    assert_eq!(life.asked(), 3);
}

#[test]
fn a_provider_that_asks_for_a_pause_gets_it() {
    let life = Life::begin();
    life.lab
        .fault(r#"{"stage":"token","action":{"answer":{"throttle":600}}}"#);
    life.send("patient");
    life.settle();
    life.pass(9 * MINUTE, Duration::from_secs(5));
    assert_eq!(life.asked(), 1);
    // The message's third attempt comes after 24 minutes at the latest; the next token is due after 50
    // minutes.
    life.pass(30 * MINUTE, Duration::from_secs(30));
    life.lab.delivered(1);
    assert_eq!(life.asked(), 2);
}

#[test]
fn a_server_that_greylists_is_tried_again_when_it_says_so() {
    let life = Life::begin();
    life.lab.fault(
        r#"{"stage":"rcpt","action":{"reply":"450 4.7.1 Greylisted, please try again in 10 minutes"}}"#,
    );
    life.send("new here");
    life.settle();
    life.pass(9 * MINUTE, Duration::from_secs(20));
    assert_eq!(life.lab.state().stats().messages, 0);
    life.pass(2 * MINUTE, Duration::from_secs(20));
    life.lab.delivered(1);
}

#[test]
fn a_mailbox_keeps_its_pace_in_bursts_and_loses_no_time() {
    const SESSIONS: usize = 3;
    let pace =
        |server: String| server.replace("messages_per_minute = 0", "messages_per_minute = 30");
    let life = Life::with(pace);
    let mut client = life.lab.client();
    for number in 0..90 {
        let message = admitted(&format!("campaign {number}"));
        id_of(&client.send(
            "notifications@example.com",
            &["someone@example.net"],
            &message,
        ));
    }
    for burst in 1..=3 {
        life.lab.delivered(burst * 30);
        if burst < 3 {
            // All workers wait until the minute is over, plus one second for the transmission.
            life.lab.wait_for("rest", || {
                (life.time.sleepers() >= LOOPS + SESSIONS).then_some(())
            });
            assert_eq!(life.lab.state().stats().messages, burst * 30);
            life.time.advance(Duration::from_secs(60));
            assert_eq!(life.lab.state().stats().messages, burst * 30);
            life.time.advance(Duration::from_secs(1));
        }
    }
}

#[test]
fn a_mailbox_whose_day_is_used_up_is_held_until_it_has_room() {
    let day = |server: String| server.replace("recipients_per_day = 0", "recipients_per_day = 5");
    let life = Life::with(day);
    for number in 0..6 {
        life.send(&format!("number {number}"));
    }
    life.lab.delivered(5);
    life.settle();
    life.pass(23 * HOUR, 10 * MINUTE);
    assert_eq!(life.lab.state().stats().messages, 5);
    life.pass(2 * HOUR, 10 * MINUTE);
    life.lab.delivered(6);
}

#[test]
fn who_waits_for_a_held_server_hears_of_it_through_one_that_works() {
    let life = Life::with(|server| server + &SERVER.replace("notifications", "jane"));
    life.lab
        .stdout(&["hold", "notifications", "--reason", "the mailbox moves"]);
    life.send("waits");
    let bulk = admitted("campaign").replace("Subject", "Precedence: bulk\r\nSubject");
    id_of(&life.lab.send("notifications@example.com", &bulk));
    life.pass(3 * HOUR, 10 * MINUTE);
    assert_eq!(life.lab.state().stats().messages, 0);
    life.pass(2 * HOUR, 10 * MINUTE);
    let warning = life.lab.delivered(1)[0].text.clone();
    for part in [
        "Subject: Delayed mail: your message has not been delivered yet",
        "From: \"Mail Delivery System\" <jane@example.com>",
        "the server is held: the mailbox moves",
        "Action: delayed",
        "Will-Retry-Until: ",
    ] {
        assert!(warning.contains(part), "{part:?} is not in\n{warning}");
    }
    life.pass(4 * 24 * HOUR, HOUR);
    assert_eq!(
        life.lab.state().stats().messages,
        1,
        "one delay notice, and none for the campaign"
    );
    life.pass(24 * HOUR, HOUR);
    let reports = life.lab.delivered(3);
    for report in &reports[1..] {
        assert!(report.text.contains("Action: failed"), "{}", report.text);
        assert!(
            report.text.contains("Given up after 0 attempts"),
            "{}",
            report.text
        );
    }
    let left = life.lab.stdout(&["queue", "list"]);
    assert!(left.contains("0 in the queue"), "{left}");
}

/// The clock is wrong at the start and corrected while mail is queued, or right at the start and then set
/// wrong.
#[test]
fn setting_the_clock_neither_expires_nor_delays_messages() {
    for (days, stage) in [
        (20_000, FaultStage::Token),
        (-20_000, FaultStage::Mail),
        (6, FaultStage::Mail),
        (-6, FaultStage::Token),
    ] {
        let life = Life::begin();
        life.cut_off(stage);
        life.send("before");
        life.pass(20 * MINUTE, Duration::from_secs(5));
        life.time.set(SignedDuration::from_hours(24 * days));
        life.send("after");
        life.pass(2 * HOUR, MINUTE);
        life.lab.state().script.clear();
        // One hour (the last wait of the retry schedule) plus its jitter.
        life.pass(70 * MINUTE, MINUTE);
        let arrived = life.lab.delivered(2);
        for subject in ["before", "after"] {
            let field = format!("Subject: {subject}\r\n");
            let copies = arrived.iter().filter(|m| m.text.contains(&field));
            assert_eq!(copies.count(), 1, "{subject}, {days} days");
        }
    }
}

#[test]
fn what_was_switched_off_for_a_week_tries_before_it_gives_up() {
    let life = Life::begin();
    life.cut_off(FaultStage::Mail);
    life.send("old");
    life.pass(10 * MINUTE, Duration::from_secs(5));
    let life = life.again_after(7 * 24 * HOUR);
    life.pass(10 * MINUTE, Duration::from_secs(5));
    life.lab.state().script.clear();
    life.pass(30 * MINUTE, Duration::from_secs(5));
    let reports = |lab: &Lab, count: u64| {
        let arrived = lab.delivered(count);
        let actions = ["Action: delayed", "Action: failed"];
        actions.map(|action| arrived.iter().filter(|m| m.text.contains(action)).count())
    };
    assert_eq!(reports(&life.lab, 2), [1, 0], "it is late, and arrives");
    life.cut_off(FaultStage::Mail);
    life.send("another");
    let life = life.again_after(7 * 24 * HOUR);
    life.pass(70 * MINUTE, Duration::from_secs(5));
    life.lab.state().script.clear();
    life.pass(70 * MINUTE, MINUTE);
    assert_eq!(reports(&life.lab, 4), [2, 1]);
}

#[test]
fn a_password_reset_does_not_wait_for_a_campaign() {
    let life = Life::with(|server| {
        // With several sessions the result would depend on which of them is already open.
        let pace = "messages_per_minute = 10\nsessions = 1";
        server.replace("messages_per_minute = 0", pace) + &SERVER.replace("notifications", "jane")
    });
    let mut client = life.lab.client();
    let mut send = |sender: &str, subject: &str, field: &str| {
        let message = admitted(subject).replace("Subject", &format!("{field}\r\nSubject"));
        let message = message.replace("notifications", sender);
        let to = ["someone@example.net"];
        id_of(&client.send(&format!("{sender}@example.com"), &to, &message));
    };
    for number in 0..40 {
        let subject = format!("campaign {number}");
        send("notifications", &subject, "Precedence: bulk");
    }
    life.lab.delivered(10);
    send("notifications", "reset", "X-Other: 1");
    send("notifications", "urgent", "X-Priority: 1");
    // Once this message has been sent, the two before it have reached their server's desk.
    send("jane", "another", "X-Other: 1");
    life.lab.delivered(11);
    life.lab
        .wait_for("rest", || (life.time.sleepers() > LOOPS).then_some(()));
    life.time.advance(Duration::from_secs(61));
    let arrived = life.lab.delivered(21);
    let place = |subject: &str| {
        let field = format!("Subject: {subject}\r\n");
        arrived
            .iter()
            .position(|message| message.text.contains(&field))
    };
    let (reset, urgent) = (place("reset"), place("urgent"));
    // One message of the campaign is being sent, and one more may finish before the new messages.
    assert!(urgent.is_some_and(|place| place < 14), "{urgent:?}");
    assert!(reset.is_some_and(|place| place < 14), "{reset:?}");
}
