//! The commands in the text of a remedy, for a person to copy. Pure.

/// The beginnings of PowerShell commands that remedies contain.
const VERBS: [&str; 7] = [
    "Set-", "Add-", "New-", "Get-", "Remove-", "Enable-", "Test-",
];

/// The ends of a command within a sentence.
const ENDS: [&str; 7] = ["\n", "`", ", ", "; ", ") ", "),", ")."];

/// Returns the PowerShell commands and the commands of mailferry that a text contains, in order.
pub(crate) fn commands(text: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    let mut rest = text;
    while let Some((start, is_quoted)) = next(rest) {
        let from = &rest[start..];
        let ends = ENDS.iter().filter_map(|end| from.find(end));
        let end = if is_quoted {
            from.find('`')
        } else {
            ends.min()
        };
        let end = end.unwrap_or(from.len());
        let command = from[..end].trim().trim_end_matches(['.', ',', ';', ')']);
        // A name without arguments is only mentioned.
        if command.contains(' ') && !commands.contains(&command) {
            commands.push(command);
        }
        rest = &from[end.max(1).min(from.len())..];
    }
    commands
}

/// Returns the position of the next command, and whether it is within back quotes.
fn next(text: &str) -> Option<(usize, bool)> {
    let is_start = |at: usize| {
        let before = text[..at].chars().next_back();
        let is_word = before.is_none_or(|letter| letter.is_whitespace() || "(`".contains(letter));
        is_word
            && text[at..]
                .split('-')
                .nth(1)
                .is_some_and(|noun| noun.starts_with(|letter: char| letter.is_ascii_uppercase()))
    };
    let powershell = VERBS.iter().filter_map(|verb| {
        let mut found = text.match_indices(verb);
        let (at, _) = found.find(|(at, _)| is_start(*at))?;
        Some((at, false))
    });
    let own = text.find("`mailferry ").map(|at| (at + 1, true));
    powershell.chain(own).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_are_found_in_sentences() {
        let text = "550 5.7.60 SMTP; a@x.com may not send as b@x.com: run Add-RecipientPermission -Identity b@x.com -Trustee a@x.com \
                    -AccessRights SendAs, or take b@x.com out of from_filter";
        assert_eq!(
            commands(text),
            ["Add-RecipientPermission -Identity b@x.com -Trustee a@x.com -AccessRights SendAs"]
        );
        let text = "give it the right to read (Add-MailboxPermission -Identity a@x.com -User b -AccessRights FullAccess); then run \
                    `mailferry test a`";
        assert_eq!(
            commands(text),
            [
                "Add-MailboxPermission -Identity a@x.com -User b -AccessRights FullAccess",
                "mailferry test a"
            ]
        );
        let text = "New-ServicePrincipal -AppId 1 -ObjectId 2\nSet-CASMailbox a@x.com -SmtpClientAuthenticationDisabled $false\n";
        assert_eq!(commands(text).len(), 2);
        assert!(commands("a Pre-Set-Thing x, Set-up y").is_empty());
    }

    proptest! {
        #[test]
        fn every_command_is_a_part_of_the_text(text in "(Set-A |New-|`mailferry |[a-z)`,. \né]){0,40}") {
            for command in commands(&text) {
                prop_assert!(text.contains(command));
            }
        }
    }
}
