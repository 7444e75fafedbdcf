//! Odoo's outgoing mail servers and system parameters, as answers for `setup`: exported as CSV, or read by
//! [`super::odoo_api`]. Pure.

use std::collections::HashMap;

use super::imported::Imported;
use crate::message::Address;

/// The columns, by their names in Odoo's database and in its English export.
const COLUMNS: [(&str, &[&str]); 9] = [
    ("name", &["name", "description"]),
    ("host", &["smtp_host", "smtp server"]),
    ("user", &["smtp_user", "username"]),
    ("filter", &["from_filter", "from filtering", "from filter"]),
    ("order", &["sequence", "priority"]),
    ("active", &["active"]),
    ("key", &["key"]),
    ("value", &["value"]),
    (
        "default_from",
        &["default_from", "default from alias", "default from"],
    ),
];

/// The system parameters that say something about senders; all others do not concern mailferry.
pub(super) const PARAMETERS: [&str; 3] = [
    "mail.default.from",
    "mail.catchall.domain",
    "mail.bounce.alias",
];

/// The cells of a server, by the names of [`COLUMNS`].
pub(super) type Row = HashMap<&'static str, String>;

/// Reads exported files: each has the outgoing mail servers or the system parameters.
pub(super) fn odoo(files: &[String]) -> Result<Imported, String> {
    let (mut servers, mut parameters, mut domains) = (Vec::new(), HashMap::new(), Vec::new());
    for text in files {
        let rows = rows(text)?;
        let has = |column: &str| rows.first().is_some_and(|row| row.contains_key(column));
        if has("key") && has("value") {
            let pairs = rows.into_iter();
            parameters.extend(
                pairs.filter_map(|mut row| Some((row.remove("key")?, row.remove("value")?))),
            );
        } else if has("default_from") {
            domains.extend(rows);
        } else if has("host") {
            servers.extend(rows);
        } else {
            return Err(
                "the file has neither the columns of outgoing mail servers (SMTP Server, Username, From Filtering) nor those of system \
                 parameters (Key, Value) or alias domains (Name, Default From Alias)"
                    .to_owned(),
            );
        }
    }
    Ok(imported(servers, &parameters, domains))
}

/// Returns what these servers, parameters and alias domains say. Since version 17, Odoo has the domains in place of two of
/// the parameters.
pub(super) fn imported(
    mut servers: Vec<Row>,
    parameters: &HashMap<String, String>,
    mut domains: Vec<Row>,
) -> Imported {
    let order = |row: &Row| row.get("order").and_then(|order| order.parse::<i64>().ok());
    servers.sort_by_key(|row| order(row).unwrap_or(i64::MAX));
    let mut imported = Imported::default();
    servers.iter().for_each(|row| server(row, &mut imported));
    default_from(parameters, &mut imported);
    domains.sort_by_key(|row| order(row).unwrap_or(i64::MAX));
    domains.iter().for_each(|row| domain(row, &mut imported));
    if imported.default_from.is_none() {
        imported.left.push(
            "the default sender: there is none in these files; name it by --default-from (Odoo 17 and later: export Alias Domains too)".to_owned(),
        );
    }
    imported
}

fn rows(text: &str) -> Result<Vec<Row>, String> {
    // Excel and Odoo put a byte order mark at the start.
    let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let known = |header: &str| {
        let header = header.trim().to_lowercase();
        let found = COLUMNS
            .iter()
            .find(|(_, names)| names.contains(&header.as_str()));
        found.map(|(column, _)| *column)
    };
    let headers = reader.headers().map_err(|error| error.to_string())?;
    let columns: Vec<Option<&'static str>> = headers.iter().map(known).collect();
    let row = |record: csv::StringRecord| {
        let cells = columns.iter().zip(record.iter());
        let cells = cells.filter_map(|(column, cell)| Some(((*column)?, cell.trim().to_owned())));
        cells.collect()
    };
    let records = reader.records().map(|record| record.map(row));
    records
        .collect::<Result<_, _>>()
        .map_err(|error: csv::Error| error.to_string())
}

fn server(row: &Row, imported: &mut Imported) {
    let value = |column: &str| row.get(column).map(String::as_str).unwrap_or_default();
    let name = value("name");
    if matches!(value("active").to_lowercase().as_str(), "false" | "0") {
        return imported.left.push(format!("{name}: it is archived"));
    }
    if !imported.is_at_microsoft(value("host")) {
        let left = format!(
            "{name}: {} is not Microsoft 365; add a [[server]] for it",
            value("host")
        );
        return imported.left.push(left);
    }
    let Ok(mailbox) = Address::parse(value("user")) else {
        return imported
            .left
            .push(format!("{name}: its username is not an address"));
    };
    imported.takes(&mailbox, None);
    let parts = value("filter")
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let parts: Vec<&str> = parts.collect();
    for part in &parts {
        imported.takes(&mailbox, Some(part));
    }
    if parts.is_empty() {
        imported.left.push(format!(
            "{name}: it has no FROM Filtering, so Odoo sends mail of any sender through it as it is. Exchange refuses other senders than \
             {mailbox}; to try it, remove from_filter of the server"
        ));
    }
}

/// Carries over an alias domain: the first one's sender is the default for all mail.
fn domain(row: &Row, imported: &mut Imported) {
    let value = |column: &str| row.get(column).map(String::as_str).unwrap_or_default();
    let (name, from) = (value("name"), value("default_from"));
    let whole = match from.contains('@') {
        true => from.to_owned(),
        false => format!("{from}@{name}"),
    };
    match Address::parse(&whole) {
        Ok(_) if from.is_empty() => {}
        Ok(sender) if imported.default_from.is_none() => imported.default_from = Some(sender),
        Ok(sender) => imported.left.push(format!(
            "alias domain {name}: add a [[user]] with default_from = \"{sender}\", and let that company's server in Odoo sign in as it"
        )),
        Err(_) => imported.left.push(format!("alias domain {name}: {whole} is not an address")),
    }
}

/// Carries over `mail.default.from`, which is completed by `mail.catchall.domain`.
fn default_from(parameters: &HashMap<String, String>, imported: &mut Imported) {
    let value = |key: &str| {
        parameters
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let whole = match (value("mail.default.from"), value("mail.catchall.domain")) {
        (Some(from), _) if from.contains('@') => Some(from.to_owned()),
        (Some(from), Some(domain)) => Some(format!("{from}@{domain}")),
        _ => None,
    };
    imported.default_from = whole.and_then(|whole| Address::parse(&whole).ok());
    if let Some(bounce) = value(PARAMETERS[2]) {
        imported.left.push(format!(
            "mail.bounce.alias {bounce}: such an envelope sender leaves as it is if a from_filter admits it; otherwise `bounces` of a server \
             reads the reports"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: &str = "\u{feff}\"Priority\",\"Description\",\"SMTP Server\",\"SMTP Port\",\"Username\",\"From Filtering\",\"Active\"
\"20\",\"Sales\",\"smtp.office365.com\",\"587\",\"sales@example.com\",\"sales@example.com, shop.example\",\"True\"
\"10\",\"Notifications\",\"smtp.office365.com\",\"587\",\"notifications@example.com\",\"\",\"True\"
\"30\",\"Old\",\"smtp.office365.com\",\"587\",\"old@example.com\",\"\",\"False\"
\"40\",\"Campaigns\",\"smtp.sendgrid.net\",\"587\",\"apikey\",\"\",\"True\"
";
    const PARAMETERS_FILE: &str = "id,key,value\n1,mail.default.from,notifications\n2,mail.catchall.domain,example.com\n3,web.base.url,https://x\n4,mail.bounce.alias,bounce\n";

    #[test]
    fn servers_and_parameters_are_taken_over() {
        let imported = odoo(&[SERVERS.to_owned(), PARAMETERS_FILE.to_owned()]).unwrap();
        let [notifications, sales] = ["notifications@example.com", "sales@example.com"]
            .map(|it| Address::parse(it).unwrap());
        assert_eq!(imported.mailboxes, [notifications.clone(), sales.clone()]);
        assert_eq!(imported.default_from, Some(notifications));
        assert_eq!(imported.filters, [(sales, "shop.example".to_owned())]);
        let left = imported.left.join("\n");
        for part in [
            "Notifications: it has no FROM Filtering",
            "Old: it is archived",
            "Campaigns: smtp.sendgrid.net is not Microsoft 365",
            "mail.bounce.alias bounce",
        ] {
            assert!(left.contains(part), "no {part:?} in:\n{left}");
        }
        assert!(
            odoo(&["a,b\n1,2\n".to_owned()])
                .unwrap_err()
                .contains("SMTP Server")
        );
    }
}
