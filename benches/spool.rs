//! Measures how many messages our listener accepts durably. One run compares two spools: SQLite with group
//! commit, and a file for each message, with an fsync of the file and of the folder.
//!
//! `cargo bench --bench spool`

mod common;
#[path = "common/relay.rs"]
mod relay;

use mailferry::door::Listener;

use common::{Load, median, send, verdict};

const ROUNDS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let files = folder.path().join("files");
    std::fs::create_dir(&files).expect("a folder");
    let (sqlite, each) = runtime.block_on(async {
        let sqlite = relay::listen(relay::sqlite(&folder.path().join("sqlite")));
        (sqlite, relay::listen(relay::Bare::file_each(&files)))
    });
    for (sessions, messages, wanted) in [(16, 6_000, 4.0), (1, 1_500, 1.5)] {
        let rate = |listener: &Listener| {
            let load = Load {
                servers: vec![listener.address().expect("an address")],
                sessions,
                messages,
                size: 4_096,
                kept: true,
                pipelining: true,
                users: 0,
            };
            messages as f64 / runtime.block_on(send(load)).as_secs_f64()
        };
        let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (our, their) = (rate(&sqlite), rate(&each));
            ratios.push(our / their);
            ours.push(our);
            theirs.push(their);
        }
        println!(
            "  {sessions} sessions: SQLite {:.0}/s, a file each {:.0}/s (medians of {ROUNDS})",
            median(ours),
            median(theirs)
        );
        let ratio = median(ratios);
        verdict(
            &format!("accepted durably at {sessions} kept sessions, 4 KiB, ratio"),
            format!("{ratio:.2}"),
            &format!(">= {wanted}"),
            ratio >= wanted,
        );
    }
}
