//! The configuration of Postfix (`main.cf` and its maps), as answers for `setup`. Pure: files are read by an argument.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::imported::Imported;
use crate::message::Address;

/// The map types whose source is a text file with `key value` lines (postfix's DATABASE_README).
const TEXT: [&str; 6] = ["hash", "btree", "lmdb", "cdb", "texthash", "dbm"];

/// The settings that have no counterpart, with the reason.
const LEFT: [(&str, &str); 6] = [
    (
        "virtual_alias_maps",
        "mailferry only sends on; recipients are not rewritten",
    ),
    ("alias_maps", "mailferry delivers nothing on this machine"),
    (
        "transport_maps",
        "add `to_filter` to a server for routing by recipient",
    ),
    (
        "header_checks",
        "mailferry changes only what routing requires",
    ),
    (
        "smtp_fallback_relay",
        "add a [[server]] for it, and `fallback` to the others",
    ),
    ("content_filter", "mailferry has no filters"),
];

/// Reads a configuration. `read` returns the text of a file.
pub(super) fn postfix(
    main: &str,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Imported, String> {
    let settings = settings(main);
    let value = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let mut imported = Imported::default();
    let passwords = maps(value("smtp_sasl_password_maps"), read, &mut imported);
    let by_sender = maps(
        value("sender_dependent_relayhost_maps"),
        read,
        &mut imported,
    );
    let usual = user_at(&passwords, value("relayhost"));
    if let Some(mailbox) = relay("relayhost", value("relayhost"), usual, &mut imported) {
        imported.default_from = Some(mailbox.clone());
        imported.takes(&mailbox, None);
    }
    for (sender, host) in &by_sender {
        let of_sender = passwords.iter().find(|(key, _)| key == sender);
        let user = of_sender.map(|(_, login)| login.as_str());
        let user = user.or_else(|| user_at(&passwords, host).map(|(_, login)| login));
        let user = user.map(|login| ("", login));
        if let Some(mailbox) = relay(sender, host, user, &mut imported) {
            imported.takes(&mailbox, Some(sender.trim_start_matches('@')));
        }
    }
    for name in [
        "smtp_generic_maps",
        "sender_canonical_maps",
        "canonical_maps",
    ] {
        let entries = maps(value(name), read, &mut imported);
        rewritten(name, &entries, &mut imported);
    }
    networks(value("mynetworks"), &mut imported);
    for (name, why) in LEFT.iter().filter(|(name, _)| !value(name).is_empty()) {
        imported.left.push(format!("{name}: {why}"));
    }
    if !passwords.is_empty() {
        let why = "Microsoft 365 takes no passwords; mailferry signs in with tokens";
        imported
            .left
            .push(format!("smtp_sasl_password_maps, the passwords: {why}"));
    }
    Ok(imported)
}

/// Returns the settings of `main.cf`: a line that begins with a blank continues the one before (postconf(5)), and `$name`
/// stands for another setting.
fn settings(text: &str) -> BTreeMap<String, String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        match (line.starts_with([' ', '\t']), lines.last_mut()) {
            (true, Some(last)) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.trim().to_owned()),
        }
    }
    let pair = |line: &String| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    let settings: BTreeMap<String, String> = lines.iter().filter_map(pair).collect();
    let expanded = |value: &String| {
        let mut value = value.clone();
        for (name, other) in &settings {
            value = value
                .replace(&format!("${{{name}}}"), other)
                .replace(&format!("${name}"), other);
        }
        value
    };
    settings
        .iter()
        .map(|(name, value)| (name.clone(), expanded(value)))
        .collect()
}

/// Returns the entries of lookup tables, such as `hash:/etc/postfix/sasl_passwd`.
fn maps(
    value: &str,
    read: &dyn Fn(&str) -> Result<String, String>,
    imported: &mut Imported,
) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    for table in value.split([',', ' ']).filter(|table| !table.is_empty()) {
        let Some((kind, file)) = table.split_once(':') else {
            continue;
        };
        if !TEXT.contains(&kind) {
            imported
                .left
                .push(format!("{table}: tables of the type {kind} are not read"));
            continue;
        }
        match read(file) {
            Ok(text) => entries.extend(text.lines().filter_map(entry)),
            Err(error) => imported.left.push(format!("{table}: {error}")),
        }
    }
    entries
}

fn entry(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (key, value) = line.split_once(char::is_whitespace)?;
    (!line.starts_with('#')).then(|| (key.to_owned(), value.trim().to_owned()))
}

/// Returns the entry with the login for a relay, such as `[smtp.office365.com]:587`.
fn user_at<'p>(passwords: &'p [(String, String)], relay: &str) -> Option<(&'p str, &'p str)> {
    let found = passwords.iter().find(|(key, _)| key == relay);
    let found = found.or_else(|| passwords.iter().find(|(key, _)| host(key) == host(relay)));
    found.map(|(key, login)| (key.as_str(), login.as_str()))
}

/// Returns the host of a next hop: `[smtp.office365.com]:587`.
fn host(hop: &str) -> &str {
    let hop = hop.trim_start_matches('[');
    hop.split([']', ':']).next().unwrap_or_default()
}

/// Returns the mailbox that signs in at a relay, if the relay is Microsoft's.
fn relay(
    what: &str,
    hop: &str,
    login: Option<(&str, &str)>,
    imported: &mut Imported,
) -> Option<Address> {
    if hop.is_empty() {
        return None;
    }
    if !imported.is_at_microsoft(host(hop)) {
        let left = format!(
            "{what}: {} is not Microsoft 365; add a [[server]] for it",
            host(hop)
        );
        imported.left.push(left);
        return None;
    }
    // The password may contain colons, the user may not.
    let user = login.and_then(|(_, login)| login.split(':').next());
    let mailbox = user.and_then(|user| Address::parse(user).ok());
    if mailbox.is_none() {
        let left = format!(
            "{what}: smtp_sasl_password_maps has no mailbox for {}",
            host(hop)
        );
        imported.left.push(left);
    }
    mailbox
}

/// Carries over rewriting to a single address, which becomes the default sender.
fn rewritten(name: &str, entries: &[(String, String)], imported: &mut Imported) {
    for (from, to) in entries {
        let is_default = Address::parse(to).ok().filter(|to| {
            let default = imported.default_from.get_or_insert_with(|| to.clone());
            *default == *to
        });
        if is_default.is_none() {
            imported.left.push(format!(
                "{name}, {from} to {to}: mailferry rewrites to one default sender for each user or listener (`default_from`)"
            ));
        }
    }
}

fn networks(value: &str, imported: &mut Imported) {
    for network in value
        .split([',', ' '])
        .filter(|network| !network.is_empty())
    {
        let bare = network.replace(['[', ']'], "");
        let single = || bare.parse::<IpAddr>().ok().map(IpNet::from);
        match bare.parse::<IpNet>().ok().or_else(single) {
            Some(network) => imported.networks.push(network),
            None => imported
                .left
                .push(format!("mynetworks, {network}: it is not a network")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "\
# comment
myhostname = host.example.com
mydomain = example.com
relayhost = [smtp.office365.com]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
sender_dependent_relayhost_maps =
    hash:/etc/postfix/relays
smtp_generic_maps = lmdb:/etc/postfix/generic, regexp:/etc/postfix/more
mynetworks = 127.0.0.0/8 [::1]/128, 192.0.2.7
alias_maps = hash:/etc/aliases
";

    fn file(name: &str) -> Result<String, String> {
        Ok(match name {
            "/etc/postfix/sasl_passwd" => {
                "[smtp.office365.com]:587 notifications@example.com:p:w\n# x\nsales@example.com sales@example.com:secret\n"
            }
            "/etc/postfix/relays" => {
                "sales@example.com [smtp.office365.com]:587\n@shop.example [smtp.office365.com]:587\nx@y.z [mail.y.z]\n"
            }
            "/etc/postfix/generic" => {
                "root@host.example.com notifications@example.com\n@host.example.com notifications@example.com\na@host.example.com b@example.com\n"
            }
            other => return Err(format!("no {other}")),
        }
        .to_owned())
    }

    #[test]
    fn relays_and_maps_are_taken_over() {
        let imported = postfix(MAIN, &file).unwrap();
        let [notifications, sales] = ["notifications@example.com", "sales@example.com"]
            .map(|it| Address::parse(it).unwrap());
        assert_eq!(imported.mailboxes, [notifications.clone(), sales.clone()]);
        assert_eq!(
            imported.filters,
            [(notifications.clone(), "shop.example".to_owned())]
        );
        assert_eq!(imported.default_from, Some(notifications.clone()));
        assert_eq!(imported.networks.len(), 3);
        let ways: Vec<String> = imported
            .ways
            .iter()
            .map(|(sender, mailbox)| format!("{sender} {mailbox}"))
            .collect();
        assert_eq!(
            ways,
            [
                "notifications@example.com notifications@example.com",
                "sales@example.com sales@example.com",
                "somebody@shop.example notifications@example.com"
            ]
        );
        let left = imported.left.join("\n");
        for part in [
            "x@y.z: mail.y.z is not Microsoft 365",
            "regexp:/etc/postfix/more: tables of the type regexp are not read",
            "smtp_generic_maps, a@host.example.com to b@example.com",
            "alias_maps: mailferry delivers nothing",
            "the passwords",
        ] {
            assert!(left.contains(part), "no {part:?} in:\n{left}");
        }
        assert!(!left.contains("secret") && !left.contains("p:w"), "{left}");
    }
}
