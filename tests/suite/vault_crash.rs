//! kill -9 at every step between a token response and the first use of the token, by strace: before
//! each system call that writes the account, then before and after AUTH. Whenever it ends,
//! the next run has a working refresh token, and the message that waited for it arrives.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::support::{Lab, PROGRAM, Plan, USUAL, admitted, by_refresh_token, have, id_of};

const TOKENS: &str = "data/tokens";
const ACCOUNT: &str = "contoso%2Fnotifications%40example.com";

/// A system call on the account's files: its name, and which of its thread's it is.
type Step = (String, usize);

fn lab(rotates: bool) -> Lab {
    let lab = Lab::stopped(Plan {
        configuration: USUAL.to_owned() + &by_refresh_token(),
        rotates,
        ..Plan::default()
    });
    lab.write_private("refresh", "refresh-notifications@example.com");
    lab
}

/// What an account is written to before it takes its place; no other system call is looked at.
fn new_file(lab: &Lab) -> PathBuf {
    lab.path(TOKENS).join(format!("{ACCOUNT}.new"))
}

/// The program, strace beside it.
fn start(lab: &mut Lab, more: &[&str]) {
    let [trace, file] = [lab.path("trace"), new_file(lab)].map(|path| path.display().to_string());
    let strace = ["strace", "-D", "-f", "-qq", "-o", &trace, "-P", &file];
    let serve = lab.prefixed(&[&strace[..], more, &[PROGRAM]].concat(), &["serve"]);
    lab.start_by(serve);
}

/// The steps of one undisturbed run.
fn steps() -> Vec<Step> {
    let mut lab = lab(false);
    start(&mut lab, &[]);
    id_of(&lab.send("notifications@example.com", &admitted("first")));
    lab.delivered(1);
    lab.kill();
    let trace = lab.wait_for("trace", || {
        let trace = std::fs::read_to_string(lab.path("trace")).ok()?;
        trace.contains("rename").then_some(trace)
    });
    let mut counts = HashMap::new();
    let names = trace.lines().filter_map(|line| {
        let (_thread, call) = line.split_once(' ')?;
        Some(call.trim_start().split_once('(')?.0.to_owned())
    });
    names
        .map(|name| {
            let count = counts.entry(name.clone()).or_insert(0);
            *count += 1;
            (name, *count)
        })
        .collect()
}

/// The next run has a sign-in that works, with nobody's help, and what was promised arrives.
fn recovers(lab: &mut Lab, when: &str) {
    lab.start();
    let arrived = lab.delivered(1);
    lab.empties();
    assert_eq!(arrived.len(), 1, "once: {when}");
    // A new token, by the refresh token that is kept now.
    let test = lab.run(&["test", "notifications"]);
    let said = String::from_utf8_lossy(&test.stdout).into_owned();
    assert!(test.status.success(), "{when}:\n{said}");
}

#[test]
fn a_kill_at_any_step_leaves_a_working_refresh_token() {
    if !have("strace", &["strace"]) {
        return;
    }
    let steps = steps();
    assert!(steps.len() >= 4, "create, write, sync, rename: {steps:?}");
    let names: Vec<&str> = steps.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names.contains(&"write") && names.contains(&"fsync"),
        "{names:?}"
    );
    for (name, count) in &steps {
        let when = format!("before {name} {count}");
        // As Entra has it: the token that was used stays good.
        let mut lab = lab(false);
        let inject = format!("inject={name}:signal=KILL:when={count}");
        start(&mut lab, &["-e", &inject]);
        // Which thread gets there first may vary; the run may end while the message is given over.
        let _ =
            std::panic::catch_unwind(|| lab.send("notifications@example.com", &admitted(&when)));
        lab.ended();
        recovers(&mut lab, &when);
    }
}

#[test]
fn a_kill_before_and_after_the_first_use_loses_no_rotated_token() {
    for stage in ["auth", "mail", "final_dot"] {
        // A provider that is stricter than Entra: what was used is worthless.
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
