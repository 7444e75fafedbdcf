//! A whole session: no panic, no limit broken, and the same result however the input is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry_fuzz::{Setup, talk, well_formed};

fuzz_target!(|input: &[u8]| {
    let [setup, cut, input @ ..] = input else {
        return;
    };
    let setup = Setup(*setup);
    let pieces = talk(setup, input, usize::from(*cut));
    well_formed(&pieces.replies);
    for message in &pieces.messages {
        let text = String::from_utf8_lossy(message).replace("\r\n", "");
        assert!(!text.contains(['\r', '\n']));
    }
    // Input after STARTTLS in the same piece is dropped. Without PIPELINING, a client that sends ahead is
    // disconnected. The result depends on the cut in both cases.
    let whole = talk(setup, input, usize::MAX);
    if !setup.bare_lf() && !whole.tls && !pieces.tls {
        assert_eq!(pieces, whole);
    }
});
