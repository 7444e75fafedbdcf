//! A delivery report: whatever arrives, what is read of it has limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::message::{DeliveryReport, may_be_report};

fuzz_target!(|input: &[u8]| {
    let may_be = may_be_report(input);
    if let Some(report) = DeliveryReport::parse(input) {
        assert!(may_be);
        assert!(report.failed.iter().all(|it| !it.addresses.is_empty()));
        let diagnostics = report.failed.iter().map(|it| &it.diagnostic);
        assert!(diagnostics.clone().all(|it| it.len() <= 1_000));
        assert!(diagnostics.clone().all(|it| !it.contains(char::is_control)));
        assert!(report.original_ids.iter().all(|id| id.len() <= 1_000));
    }
});
