//! Groups errors that have the same cause: the same reply, apart from addresses, hosts and numbers. Pure.

/// The maximum number of characters of a cause.
const MOST: usize = 160;

/// Returns the part of an error text that is the same for all errors with one cause. Replaces addresses, host
/// names in brackets, and tokens with several digits by `…`.
pub(crate) fn cause(text: &str) -> String {
    let mut cause = String::new();
    let mut words = text.split_whitespace().enumerate();
    words.try_for_each(|(place, word)| {
        let word = if place < 2 { word } else { constant(word) };
        let is_repeated = word == "…" && cause.ends_with('…');
        if !is_repeated {
            if !cause.is_empty() {
                cause.push(' ');
            }
            cause.push_str(word);
        }
        (cause.chars().count() < MOST).then_some(())
    });
    match cause.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &cause[..end]),
        None => cause,
    }
}

/// Returns a word, or `…` if it differs from one error to the next.
fn constant(word: &str) -> &str {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let is_code = word.starts_with("AADSTS");
    let varies = word.contains('@') || word.contains("Hostname=") || word.starts_with('<');
    if varies || (digits >= 3 && !is_code) {
        "…"
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replies_that_differ_only_in_names_have_one_cause() {
        let one = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient jane@example.com not found [Hostname=AM0PR01MB1.eurprd01.prod.outlook.com]";
        let two = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient <tom@example.org> not found [Hostname=VI1PR02MB7.eurprd02.prod.outlook.com]";
        assert_eq!(cause(one), cause(two));
        assert!(
            cause(one)
                .starts_with("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient … not found")
        );
        let throttled =
            cause("432 4.3.2 Concurrent connections limit exceeded 2026-11-26T10:00:00Z 08DE2");
        assert_eq!(
            throttled,
            "432 4.3.2 Concurrent connections limit exceeded …"
        );
        assert!(
            cause("invalid_client: AADSTS7000215: Invalid client secret").contains("AADSTS7000215")
        );
    }

    proptest! {
        #[test]
        fn a_cause_is_bounded_and_stable(text in "\\PC{0,600}") {
            let once = cause(&text);
            prop_assert!(once.chars().count() <= MOST + 1);
            prop_assert_eq!(cause(&text), once);
        }
    }
}
