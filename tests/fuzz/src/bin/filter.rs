//! A from_filter: printed and parsed again, it admits the same addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::message::{Address, mailbox};
use mailferry::observe::mask::mask;
use mailferry::routing::Filter;

fuzz_target!(|text: &str| {
    let _ = mailbox::parse_list(text);
    let _ = mask(text);
    let Ok(Some(filter)) = Filter::parse(text) else {
        return;
    };
    let again = Filter::parse(&filter.to_string());
    if let Ok(Some(again)) = again {
        for part in text.split(',') {
            if let Ok(address) = Address::parse(part.trim()) {
                assert_eq!(filter.admits(&address), again.admits(&address));
            }
        }
    }
});
