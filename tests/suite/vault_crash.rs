//! kill -9 at every step between a token response and the first use of the token, with strace: after each
//! system call that writes the account, then before and after AUTH. Whenever the program is killed, the
//! next run has a working refresh token, and the waiting message arrives.

use std::path::PathBuf;
use std::thread;

use crate::support::{Lab, Plan, Smtp, USUAL, admitted, by_refresh_token, have, id_of};

const TOKENS: &str = "data/tokens";
const ACCOUNT: &str = "contoso%2Fnotifications%40example.com";

fn lab(rotates: bool) -> Lab {
    let lab = Lab::stopped(Plan {
        configuration: USUAL.to_owned() + &by_refresh_token(),
        rotates,
        ..Plan::default()
    });
    lab.write_private("refresh", "refresh-notifications@example.com");
    lab
}

/// Returns the path of an account's new file, which replaces the old file once it is written. strace watches
/// only the system calls on the new file.
fn new_file(lab: &Lab) -> PathBuf {
    lab.path(TOKENS).join(format!("{ACCOUNT}.new"))
}

/// Starts the program. After each system call on the new file the whole process stops, whichever thread
/// made the call.
fn start(lab: &mut Lab) {
    lab.start_with_faults(&new_file(lab), "%file,%desc:signal=STOP");
}

/// Returns the names of the system calls after which the program has stopped so far.
fn calls(lab: &Lab) -> Vec<String> {
    let trace = std::fs::read_to_string(lab.path("trace")).unwrap_or_default();
    let count = trace.matches("--- SIGSTOP {").count();
    let names = trace.lines().filter_map(|line| {
        let (_thread, call) = line.split_once(' ')?;
        let (name, _) = call.trim_start().split_once('(')?;
        name.bytes()
            .all(|b| b.is_ascii_lowercase())
            .then(|| name.to_owned())
    });
    names.take(count).collect()
}

/// True if the program is stopped.
fn is_stopped(lab: &Lab) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", lab.id())).unwrap_or_default();
    let after_name = state.rsplit_once(") ").map(|(_, rest)| rest);
    after_name.is_some_and(|rest| rest.starts_with(['T', 't']))
}

/// Sends a message, and lets the program go on after each system call until it has made `most` calls or the
/// message has arrived. Returns the calls.
fn run_until(lab: &Lab, most: usize) -> Vec<String> {
    let address = lab.address;
    thread::spawn(move || {
        let mut client = Smtp::connect(address);
        client.expect("EHLO test", "250");
        client.expect("AUTH PLAIN AGVycABsb2Fk", "235");
        client.send(
            "notifications@example.com",
            &["someone@example.net"],
            &admitted("kept"),
        );
    });
    lab.wait_for("system call", || {
        let calls = calls(lab);
        if calls.len() >= most || lab.state().stats().messages > 0 {
            return Some(calls);
        }
        if is_stopped(lab) {
            lab.signal("CONT");
        }
        None
    })
}

/// Checks that the next run signs in without anybody's help, and that the promised message arrives.
fn recovers(lab: &mut Lab, when: &str) {
    lab.start();
    let arrived = lab.delivered(1);
    lab.empties();
    assert_eq!(arrived.len(), 1, "once: {when}");
    // The connection test requests a new token with the refresh token that is stored now.
    let test = lab.run(&["test", "notifications"]);
    let said = String::from_utf8_lossy(&test.stdout).into_owned();
    assert!(test.status.success(), "{when}:\n{said}");
}

#[test]
fn a_kill_at_any_step_leaves_a_working_refresh_token() {
    if !have("strace", &["strace"]) {
        return;
    }
    let mut undisturbed = lab(false);
    start(&mut undisturbed);
    let steps = run_until(&undisturbed, usize::MAX);
    drop(undisturbed);
    for name in ["openat", "write", "fsync", "rename"] {
        assert!(steps.iter().any(|step| step == name), "{name}: {steps:?}");
    }
    for count in 1..=steps.len() {
        // As with Entra: a used refresh token stays valid.
        let mut lab = lab(false);
        start(&mut lab);
        let made = run_until(&lab, count);
        lab.kill();
        recovers(&mut lab, &format!("after {made:?}"));
    }
}

#[test]
fn a_kill_before_and_after_the_first_use_loses_no_rotated_token() {
    for stage in ["auth", "mail", "final_dot"] {
        // A provider that is stricter than Entra: a used refresh token is no longer valid.
        let mut lab = lab(true);
        lab.fault(&format!(
            r#"{{"stage":"{stage}","action":{{"stall":60000}}}}"#
        ));
        lab.start();
        id_of(&lab.send("notifications@example.com", &admitted(stage)));
        lab.wait_for("token request", || {
            let at_work = lab.state().stats();
            (at_work.token_requests > 0 && at_work.connections > 0 && lab.state().script.is_over())
                .then_some(())
        });
        lab.kill();
        recovers(&mut lab, stage);
    }
}
