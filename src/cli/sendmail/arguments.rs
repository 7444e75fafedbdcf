//! The command line of sendmail, as cron, PHP, mailx and git call it. Options that concern only other programs'
//! queues and configurations are accepted and have no effect. Pure.

use std::path::PathBuf;

/// The task that a program gives to sendmail.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Send the message on standard input.
    Send(Sending),
    /// Speak SMTP on standard input and output (`-bs`).
    Speak(Option<PathBuf>),
    /// Nothing: the queue is run, and aliases are read, without being asked (`-q`, `-bi`, `-I`).
    Nothing,
    /// Something that this program does by another command.
    Elsewhere(&'static str),
}

/// How to send the message on standard input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sending {
    /// The recipients on the command line.
    pub(super) to: Vec<String>,
    /// True if the header names recipients too (`-t`).
    pub(super) reads_header: bool,
    /// True if a line with a single dot does not end the message (`-i`, `-oi`).
    pub(super) ignores_dots: bool,
    /// The envelope sender (`-f`, `-r`).
    pub(super) from: Option<String>,
    /// The author's name, for a message without `From` (`-F`).
    pub(super) name: Option<String>,
    /// The file with the addresses of this machine's users (`-oA`).
    pub(super) aliases: Option<PathBuf>,
    /// The configuration file (`-C`).
    pub(super) config: Option<PathBuf>,
}

/// The options with a value, which may be joined to the option or follow it.
const WITH_VALUE: &str = "ABCFNOLRVXefhoprbdq";

/// The options whose value, if there is one, is joined to the option.
const JOINED: &str = "Aeobdq";

/// Reads the command line. The error says what is wrong.
pub(super) fn parse(arguments: &[String]) -> Result<Call, String> {
    let mut sending = Sending::default();
    let mut special = None;
    let mut all = arguments.iter();
    while let Some(argument) = all.next() {
        if argument == "--" {
            sending.to.extend(all.cloned());
            break;
        }
        let Some(letters) = argument.strip_prefix('-').filter(|it| !it.is_empty()) else {
            sending.to.push(argument.clone());
            continue;
        };
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            if !WITH_VALUE.contains(letter) {
                flag(letter, &mut sending, &mut special)?;
                continue;
            }
            let joined = rest.as_str().to_owned();
            let value = match joined.is_empty() && !JOINED.contains(letter) {
                true => all
                    .next()
                    .cloned()
                    .ok_or(format!("-{letter} needs a value"))?,
                false => joined,
            };
            option(letter, value, &mut sending, &mut special)?;
            break;
        }
    }
    match special {
        Some(Call::Speak(_)) => Ok(Call::Speak(sending.config)),
        Some(call) => Ok(call),
        None if sending.to.is_empty() && !sending.reads_header => Err(
            "there is no recipient; name one, or pass -t to read the recipients from the header"
                .to_owned(),
        ),
        None => Ok(Call::Send(sending)),
    }
}

fn flag(letter: char, sending: &mut Sending, special: &mut Option<Call>) -> Result<(), String> {
    match letter {
        't' => sending.reads_header = true,
        'i' => sending.ignores_dots = true,
        'I' => *special = Some(Call::Nothing),
        // Verbose; from a gateway; initial submission; "me too"; no aliases; keep From lines.
        'v' | 'G' | 'U' | 'm' | 'n' | 's' => {}
        other => return Err(format!("there is no option -{other}")),
    }
    Ok(())
}

fn option(
    letter: char,
    value: String,
    sending: &mut Sending,
    special: &mut Option<Call>,
) -> Result<(), String> {
    match (letter, value.as_str()) {
        ('f' | 'r', _) => sending.from = Some(value),
        ('F', _) => sending.name = Some(value),
        ('C', _) => sending.config = Some(value.into()),
        ('o', "i") | ('O', "IgnoreDots=true" | "IgnoreDots") => sending.ignores_dots = true,
        ('o', file) if file.starts_with("A/") => sending.aliases = Some(file[1..].into()),
        ('b', "m" | "") => {}
        ('b', "s") => *special = Some(Call::Speak(None)),
        ('b', "p") => *special = Some(Call::Elsewhere("mailferry queue list")),
        ('b', "d" | "D") => *special = Some(Call::Elsewhere("mailferry serve")),
        ('b', "i") | ('q', _) => *special = Some(Call::Nothing),
        ('b', mode) => return Err(format!("there is no mode -b{mode}")),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(line: &str) -> Result<Call, String> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&arguments)
    }

    fn sent(line: &str) -> Sending {
        match call(line) {
            Ok(Call::Send(sending)) => sending,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn programs_call_it_in_their_ways() {
        // cron (Debian, Vixie), PHP's mail(), bsd-mailx, git-send-email, and smartd.
        let cron = sent("-FCronDaemon -i -B8BITMIME -oem -odi root");
        assert_eq!(
            (cron.name.as_deref(), cron.ignores_dots),
            (Some("CronDaemon"), true)
        );
        assert_eq!(cron.to, ["root"]);
        let php = sent("-t -i");
        assert!(php.reads_header && php.ignores_dots && php.to.is_empty());
        let mailx = sent("-oi -om -f jo@x.com -- a@b.c -d@e.f");
        assert_eq!(mailx.to, ["a@b.c", "-d@e.f"]);
        let git = sent("-i -f jo@x.com a@b.c");
        assert_eq!(git.from.as_deref(), Some("jo@x.com"));
        let joined = sent("-ti -fjo@x.com -N failure -O DeliveryMode=b -h 3 a@b.c");
        assert_eq!(
            (joined.from.as_deref(), joined.reads_header),
            (Some("jo@x.com"), true)
        );
        assert_eq!(joined.to, ["a@b.c"]);
        assert_eq!(sent("-eq -Ac -p ESMTP:x a@b.c").to, ["a@b.c"]);
        assert!(!sent("a@b.c").ignores_dots);
        let aliases = sent("-oA/etc/mail/aliases root").aliases;
        assert_eq!(aliases, Some("/etc/mail/aliases".into()));
    }

    #[test]
    fn it_does_more_than_sending() {
        assert_eq!(call("-bs"), Ok(Call::Speak(None)));
        assert_eq!(call("-q30m"), Ok(Call::Nothing));
        assert_eq!(call("-bi"), Ok(Call::Nothing));
        assert_eq!(call("-bp"), Ok(Call::Elsewhere("mailferry queue list")));
        assert!(call("-i").unwrap_err().contains("recipient"));
        assert!(call("-f").unwrap_err().contains("needs a value"));
        assert!(call("-by a@b.c").is_err() && call("-9").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(arguments in prop::collection::vec("-?[ -~é]{0,6}", 0..8)) {
            let _ = parse(&arguments);
        }
    }
}
