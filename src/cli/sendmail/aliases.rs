//! The users of this machine as recipients, and the addresses that `/etc/aliases` gives them (aliases(5)). Pure.

use std::collections::HashMap;

use crate::message::Address;

/// The name whose addresses get the mail of names without an entry, as msmtp has it.
const DEFAULT: &str = "default";

/// This machine: its name, and the addresses of its users.
#[derive(Debug, Default)]
pub(super) struct Machine {
    host: String,
    aliases: HashMap<String, Vec<String>>,
}

impl Machine {
    /// Takes the machine's name, and the text of the file with aliases. Programs, files and included lists in it are not
    /// addresses, and are left out.
    pub(super) fn new(host: String, aliases: &str) -> Self {
        let mut all: HashMap<String, Vec<String>> = HashMap::new();
        let mut last = None;
        for line in aliases.lines() {
            let is_continued = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let values = match (line.split_once(':'), &last) {
                (Some((name, values)), _) if !is_continued => {
                    last = Some(name.trim().trim_matches('"').to_lowercase());
                    values
                }
                (_, Some(_)) if is_continued => line,
                _ => continue,
            };
            let name = last.clone().unwrap_or_default();
            all.entry(name).or_default().extend(addresses(values));
        }
        Self { host, aliases: all }
    }

    /// Reads an address, with or without a name. A name without a domain is a user of this machine, who may have several
    /// addresses. Empty if it is neither.
    pub(super) fn addresses(&self, text: &str) -> Vec<Address> {
        let bare = bare(text);
        match bare.contains('@') {
            true => Address::parse(bare).into_iter().collect(),
            false => {
                let mut all = Vec::new();
                self.add(bare, &mut HashMap::new(), &mut all);
                all
            }
        }
    }

    /// Reads an address; a name without a domain is a user of this machine, without aliases.
    pub(super) fn address(&self, text: &str) -> Option<Address> {
        let bare = bare(text);
        match bare.contains('@') {
            true => Address::parse(bare).ok(),
            false => Address::parse(&format!("{bare}@{}", self.host)).ok(),
        }
    }

    /// Adds the addresses of a user. `seen` has the names so far, with true if their mail goes somewhere already. Returns
    /// true if this name's mail does.
    fn add(&self, name: &str, seen: &mut HashMap<String, bool>, all: &mut Vec<Address>) -> bool {
        let key = name.to_lowercase();
        if let Some(is_added) = seen.get(&key) {
            return *is_added;
        }
        seen.insert(key.clone(), false);
        let values = self.aliases.get(&key);
        let values = values.or_else(|| self.aliases.get(DEFAULT));
        let mut goes = false;
        for value in values.into_iter().flatten() {
            goes |= match value.contains('@') {
                true => push(all, Address::parse(value).ok()),
                // A user who also keeps the mail names itself.
                false if value.eq_ignore_ascii_case(name) => push(all, self.address(name)),
                false => self.add(value, seen, all),
            };
        }
        if !goes {
            goes = push(all, self.address(name));
        }
        seen.insert(key, goes);
        goes
    }
}

/// Adds an address, if there is one and it is not there yet. Returns true if there is one.
fn push(all: &mut Vec<Address>, new: Option<Address>) -> bool {
    let is_there = new.is_some();
    let new = new.filter(|new| !all.contains(new));
    all.extend(new);
    is_there
}

/// Returns the address in `Name <address>`.
fn bare(text: &str) -> &str {
    let bare = match text.rsplit_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => text,
    };
    bare.trim()
}

/// Returns the addresses and names in a list. A value in quotes may contain commas.
fn addresses(values: &str) -> Vec<String> {
    let mut is_quoted = false;
    let parts = values.split(|letter| {
        is_quoted ^= letter == '"';
        letter == ',' && !is_quoted
    });
    let parts = parts.map(|part| part.trim().trim_matches('"').trim_start_matches('\\'));
    let parts = parts.filter(|part| !part.is_empty() && !part.starts_with(['|', '/', ':']));
    parts.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "# comment\npostmaster:    root\nroot: jane@example.com,\n\tops@example.com\nLoop: loop2\nloop2: loop\n\
                        cron: \"|/usr/bin/filter a, b\"\nboth: \\both, x@y.z\nno alias\n";

    fn of(file: &str, name: &str) -> Vec<String> {
        let found = Machine::new("host.test".to_owned(), file).addresses(name);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_user_of_this_machine_gets_the_addresses_of_the_file() {
        let both = ["jane@example.com", "ops@example.com"];
        assert_eq!(of(FILE, "root"), both);
        assert_eq!(of(FILE, "Postmaster"), both);
        assert_eq!(of(FILE, "nobody"), ["nobody@host.test"]);
        assert_eq!(of(FILE, "cron"), ["cron@host.test"]);
        assert_eq!(of(FILE, "both"), ["both@host.test", "x@y.z"]);
        // An address with its domain is meant as it is.
        assert_eq!(of(FILE, "root@host.test"), ["root@host.test"]);
        let with_default = format!("{FILE}default: all@example.com\n");
        assert_eq!(of(&with_default, "nobody"), ["all@example.com"]);
        let with_team = format!("{FILE}team: root, postmaster\n");
        assert_eq!(of(&with_team, "team"), both);
        // A circle ends.
        assert_eq!(of(FILE, "loop").len(), 1);
    }

    #[test]
    fn names_that_name_each_other_take_no_time() {
        let names: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
        let all = names.join(", ");
        let file: String = names
            .iter()
            .map(|name| format!("{name}: {all}\n"))
            .collect();
        assert!(!of(&file, "n0").is_empty());
    }

    proptest! {
        #[test]
        fn every_recipient_gets_somewhere(file in "([a-c]{1,2}: ?[a-c@ ,.\"]{0,8}\n){0,6}", name in "[a-c]{1,2}") {
            prop_assert!(!of(&file, &name).is_empty(), "{file:?}");
        }
    }
}
