//! The conversation of IMAP up to the sign-in: no panic, and the same result however the input is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::incoming::imap::ImapMachine;
use mailferry_fuzz::{reading, same_however_cut};

fuzz_target!(|input: &[u8]| {
    if let [setup, piece, input @ ..] = input {
        same_however_cut(
            || ImapMachine::new(reading(*setup)),
            input,
            usize::from(*piece),
        );
    }
});
