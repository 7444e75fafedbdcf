//! The names of this machine's users in recipients, and the addresses that `/etc/aliases` gives them (aliases(5)). Pure.

use std::collections::HashMap;

use super::message;
use crate::message::Address;

/// The name whose addresses get the mail of names without an entry, as msmtp has it.
const DEFAULT: &str = "default";

/// How often a name may lead to another name.
const DEPTH: usize = 10;

/// The addresses and names that each name stands for.
#[derive(Debug, Default)]
pub(super) struct Aliases(HashMap<String, Vec<String>>);

impl Aliases {
    /// Reads the text of the file. Programs, files and included lists are not addresses, and are left out.
    pub(super) fn parse(text: &str) -> Self {
        let mut all: HashMap<String, Vec<String>> = HashMap::new();
        let mut last = String::new();
        for line in text.lines() {
            let is_continued = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let values = match line.split_once(':') {
                Some((name, values)) if !is_continued => {
                    last = name.trim().trim_matches('"').to_lowercase();
                    values
                }
                _ => line,
            };
            let values = values
                .split(',')
                .map(|value| value.trim().trim_matches('"'));
            let values =
                values.filter(|value| !value.is_empty() && !value.starts_with(['|', '/', ':']));
            let values = values.map(|value| value.trim_start_matches('\\').to_owned());
            all.entry(last.clone()).or_default().extend(values);
        }
        Self(all)
    }

    /// Returns the recipients with users of this machine, `host`, replaced by their addresses; each recipient once.
    pub(super) fn applied(&self, recipients: Vec<Address>, host: &str) -> Vec<Address> {
        let mut all = Vec::new();
        for recipient in recipients {
            self.add(&recipient, host, DEPTH, &mut all);
        }
        all
    }

    fn add(&self, recipient: &Address, host: &str, depth: usize, all: &mut Vec<Address>) {
        let found = match recipient.as_str().rsplit_once('@') {
            Some((name, domain)) if domain.eq_ignore_ascii_case(host) => self.of(name, host),
            _ => Vec::new(),
        };
        match Some(found).filter(|found| depth > 0 && !found.is_empty()) {
            Some(addresses) => {
                for address in addresses {
                    // A user who also keeps the mail names itself.
                    let next = if address == *recipient { 0 } else { depth - 1 };
                    self.add(&address, host, next, all);
                }
            }
            None if all.contains(recipient) => {}
            None => all.push(recipient.clone()),
        }
    }

    /// Returns the addresses of a name; none if the file has none that can be read.
    fn of(&self, name: &str, host: &str) -> Vec<Address> {
        let found = self.0.get(&name.to_lowercase());
        let values = found.or_else(|| self.0.get(DEFAULT)).into_iter().flatten();
        values
            .filter_map(|value| message::address(value, host))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "# comment\npostmaster:    root\nroot: jane@example.com,\n\tops@example.com\nLoop: loop2\nloop2: loop\n\
                        cron: \"|/usr/bin/filter\"\nboth: \\both, x@y.z\n";

    fn applied(file: &str, recipients: &[&str]) -> Vec<String> {
        let recipients = recipients.iter().map(|it| Address::parse(it).unwrap());
        let found = Aliases::parse(file).applied(recipients.collect(), "host.test");
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_user_of_this_machine_gets_the_addresses_of_the_file() {
        let both = ["jane@example.com", "ops@example.com"];
        assert_eq!(applied(FILE, &["root@host.test"]), both);
        assert_eq!(
            applied(FILE, &["Postmaster@HOST.test", "root@host.test"]),
            both
        );
        assert_eq!(applied(FILE, &["root@other.test"]), ["root@other.test"]);
        assert_eq!(applied(FILE, &["nobody@host.test"]), ["nobody@host.test"]);
        assert_eq!(applied(FILE, &["cron@host.test"]), ["cron@host.test"]);
        assert_eq!(
            applied(FILE, &["both@host.test"]),
            ["both@host.test", "x@y.z"]
        );
        let with_default = format!("{FILE}default: all@example.com\n");
        assert_eq!(
            applied(&with_default, &["nobody@host.test"]),
            ["all@example.com"]
        );
        // A circle ends.
        assert_eq!(applied(FILE, &["loop@host.test"]).len(), 1);
    }

    proptest! {
        #[test]
        fn every_recipient_gets_somewhere(file in "([a-c]{1,2}: ?[a-c@ ,.]{0,8}\n){0,6}", name in "[a-c]{1,2}") {
            let found = applied(&file, &[&format!("{name}@host.test")]);
            prop_assert!(!found.is_empty(), "{file:?}");
        }
    }
}
