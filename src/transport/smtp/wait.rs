//! How long a server asks us to wait before the next attempt. SMTP has no field for this time;
//! servers that greylist state it in the text: "try again in 5 minutes", "come back in 00:04:58". Pure.

use std::time::Duration;

use crate::transport::answer::Answer;

/// The longest wait that is accepted. If a server asks for more, the normal retry schedule applies.
const MOST: Duration = Duration::from_secs(3_600);

/// Units of time: the first letters of their names, and their lengths in seconds.
const UNITS: [(&str, u64); 3] = [("sec", 1), ("min", 60), ("hour", 3_600)];

/// Returns how long the reply asks us to wait, at most [`MOST`]. `None` if the reply is not transient, or
/// states no time or a longer one.
pub(super) fn asked_for(answer: &Answer) -> Option<Duration> {
    if !answer.is_transient() {
        return None;
    }
    let text = answer.text.to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut after_in = words.windows(3).filter(|words| words[0] == "in");
    let asked = after_in.find_map(|words| clock(words[1]).or_else(|| number(words[1], words[2])));
    let asked = asked.or_else(|| match words[..] {
        [.., "in", last] => clock(last),
        _ => None,
    });
    asked.filter(|wait| *wait <= MOST)
}

/// Parses a time such as `300 seconds` or `5 min`.
fn number(number: &str, unit: &str) -> Option<Duration> {
    let (_, seconds) = UNITS.iter().find(|(name, _)| unit.starts_with(name))?;
    let number: u64 = number.parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(*seconds)?))
}

/// Parses a time such as `00:04:58`.
fn clock(text: &str) -> Option<Duration> {
    let text = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let parts: Vec<u64> = text
        .split(':')
        .map_while(|part| part.parse().ok())
        .collect();
    match parts[..] {
        [hours @ 0..=23, minutes @ 0..=59, seconds @ 0..=59] => {
            Some(Duration::from_secs(3_600 * hours + 60 * minutes + seconds))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(code: u16, text: &str) -> Option<u64> {
        asked_for(&Answer::new(code, "", text.to_owned())).map(|wait| wait.as_secs())
    }

    #[test]
    fn reads_what_greylisting_servers_say() {
        for (text, expected) in [
            ("Greylisted, please try again in 300 seconds", Some(300)),
            (
                "Greylisting in action, please come back in 00:04:58",
                Some(298),
            ),
            ("come back in 00:04:58.", Some(298)),
            ("Try again in 5 minutes.", Some(300)),
            ("retry in 1 hour", Some(3_600)),
            ("retry in 2 hours", None),
            ("Greylisted, see http://postgrey.example/help", None),
            ("busy in 5 places, in time", None),
            ("", None),
        ] {
            assert_eq!(seconds(451, text), expected, "{text}");
        }
        assert_eq!(seconds(550, "try again in 5 minutes"), None, "permanent");
    }

    proptest! {
        #[test]
        fn no_text_is_waited_for_longer_than_allowed(text in ".{0,80}") {
            let text = format!("in {text}");
            prop_assert!(seconds(450, &text).is_none_or(|wait| wait <= MOST.as_secs()));
        }
    }
}
