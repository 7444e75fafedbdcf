//! Other users of the same machine: the errors that they get, and the files that are hidden from them.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Lab, PROGRAM, Plan, admitted, have, id_of, skipped};

/// The beginning of a command that runs without the capabilities that let root read everything: root is then
/// like any other user.
const LIKE_OTHERS: [&str; 2] = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
}

#[test]
fn who_may_not_reach_the_control_socket_is_told_whose_command_it_is() {
    if !have("other_users::socket", &["setpriv"]) {
        return;
    }
    let lab = Lab::new();
    let socket_folder = lab.path("data");
    let by_another = |arguments: &[&str]| {
        let prefix = [&LIKE_OTHERS[..], &[PROGRAM]].concat();
        let Output { status, stderr, .. } =
            lab.prefixed(&prefix, arguments).output().expect("runs");
        (
            status.success(),
            String::from_utf8_lossy(&stderr).into_owned(),
        )
    };
    for command in [&["queue", "list"][..], &["servers"], &["web"]] {
        set_mode(&socket_folder, 0);
        let (succeeded, said) = by_another(command);
        set_mode(&socket_folder, 0o700);
        assert!(!succeeded, "{command:?}");
        for part in ["permission denied", "sudo -u "] {
            assert!(said.contains(part), "{command:?}: {said}");
        }
    }
}

#[test]
fn a_group_that_cannot_be_let_in_stops_no_mail() {
    if !have("other_users::group", &["setpriv"]) {
        return;
    }
    let control = "\n[control]\ngroup = \"nogroup\"\n";
    let plan = Plan::default();
    let mut lab = Lab::stopped(Plan {
        configuration: plan.configuration + control,
        ..Plan::default()
    });
    // As in a unit of systemd that forbids chown.
    let without_chown = ["setpriv", "--bounding-set=-chown", "--clear-groups"];
    let serve = lab.prefixed(&[&without_chown[..], &[PROGRAM]].concat(), &["serve"]);
    lab.start_by(serve);
    lab.logged(&["group_not_admitted", "nogroup", "systemctl edit mailferry"]);
    id_of(&lab.send("notifications@example.com", &admitted("goes")));
    lab.delivered(1);
    let socket = lab.path("data/spool/control.sock");
    let mode = socket.metadata().expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn commands_find_a_program_whose_socket_has_moved_in_the_configuration() {
    let lab = Lab::new();
    let file = lab.path("mailferry.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let moved = text + "\n[control]\nsocket = \"elsewhere.sock\"\n";
    std::fs::write(&file, moved).expect("writes");
    assert!(lab.stdout(&["servers"]).contains("notifications"));
    assert!(lab.stdout(&["reload"]).contains("[control]"));
}

#[test]
fn a_crash_leaves_no_core_with_secrets_in_it() {
    const TEST: &str = "other_users::core";
    if !have(TEST, &["prlimit"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // First find out, with a shell, whether this machine writes core dumps at all.
    let usual = Command::new("prlimit")
        .args(["--core=unlimited", "sh", "-c", "kill -s ABRT $$"])
        .current_dir(folder.path())
        .status();
    if !usual.expect("runs").core_dumped() {
        return skipped(TEST, "this machine writes no core dumps");
    }
    let mut lab = Lab::stopped(Plan::default());
    let serve = lab.prefixed(&["prlimit", "--core=unlimited", PROGRAM], &["serve"]);
    lab.start_by(serve);
    lab.signal("ABRT");
    assert!(!lab.ended().core_dumped());
}

#[test]
fn everything_in_the_data_folder_is_for_its_owner_only() {
    let mut lab = Lab::new();
    lab.fault(r#"{"stage":"connect","action":"drop","times":1000000}"#);
    let large = admitted("large") + &"x\r\n".repeat(100_000);
    id_of(&lab.send("notifications@example.com", &large));
    lab.queued(1);
    // The check includes files that the next start creates.
    lab.kill();
    lab.start();
    let mut folders = vec![lab.path("data")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("it is there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.path());
            match entry.path() {
                folder if folder.is_dir() => folders.push(folder),
                _ => files += 1,
            }
        }
    }
    assert!(files >= 4, "database, log, lock and content: {files}");
}
