//! What the parts of the demo share.

use std::time::Duration;

/// How long a message may take to arrive.
pub(super) const ARRIVAL: Duration = Duration::from_secs(20);

/// The password of all users.
pub(super) const PASSWORD: &str = "demo";

/// The result of a step of the demo.
pub(super) type DemoResult<T> = Result<T, Box<dyn std::error::Error>>;
