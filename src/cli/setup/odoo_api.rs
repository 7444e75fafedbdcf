//! Odoo's outgoing mail servers and system parameters, read through its external API, which is XML-RPC
//! (<https://www.odoo.com/documentation/18.0/developer/reference/external_api.html>). Nothing in Odoo changes.

use std::collections::{BTreeMap, HashMap};

use dxr::{FaultResponse, MethodCall, MethodResponse, Value};
use http::Request;
use url::{Host, Url};

use super::imported::Imported;
use super::odoo::{self, PARAMETERS, Row};
use crate::base::Secret;
use crate::base::http::{CLIENT, reasons, send};
use crate::base::secret::ExposeSecret;

/// The fields of `ir.mail_server` that are read, with the columns that they are. The passwords are not read.
const FIELDS: [(&str, &str); 6] = [
    ("name", "name"),
    ("smtp_host", "host"),
    ("smtp_user", "user"),
    ("from_filter", "filter"),
    ("sequence", "order"),
    ("active", "active"),
];

/// The fields of `mail.alias.domain`, with the columns that they are.
const DOMAIN_FIELDS: [(&str, &str); 3] = [
    ("name", "name"),
    ("default_from", "default_from"),
    ("sequence", "order"),
];

/// An Odoo, and a user who may read its settings.
pub(super) struct Odoo<'a> {
    /// Odoo's address.
    pub(super) url: &'a Url,
    /// The database's name.
    pub(super) database: &'a str,
    /// The login.
    pub(super) user: &'a str,
    /// The password, or an API key.
    pub(super) password: &'a Secret,
}

fn text(text: impl ToString) -> Value {
    Value::String(text.to_string())
}

fn texts<'t>(all: impl IntoIterator<Item = &'t str>) -> Value {
    Value::Array(all.into_iter().map(text).collect())
}

fn table<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Struct(BTreeMap::from(
        pairs.map(|(key, value)| (key.to_owned(), value)),
    ))
}

/// Formats a value as a cell of a table. Odoo writes `false` for a text that is empty.
fn cell(field: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(truth) if field == "active" => truth.to_string(),
        _ => String::new(),
    }
}

/// Returns records as rows of a table.
fn rows<const N: usize>(
    records: &[BTreeMap<String, Value>],
    fields: [(&str, &'static str); N],
) -> Vec<Row> {
    let rows = records.iter().map(|record| {
        let cell = |field| {
            record
                .get(field)
                .map_or_else(String::new, |value| cell(field, value))
        };
        Row::from_iter(fields.map(|(field, column)| (column, cell(field))))
    });
    rows.collect()
}

impl Odoo<'_> {
    /// Reads the servers and the parameters. Errors: Odoo cannot be reached, or refuses.
    pub(super) async fn read(&self) -> Result<Imported, String> {
        if !is_protected(self.url) {
            return Err("the password would be readable on the way; write an address that begins with https://".to_owned());
        }
        let user = self.authenticate().await?;
        let fields = table([
            ("fields", texts(FIELDS.map(|(field, _)| field))),
            ("context", table([("active_test", Value::Boolean(false))])),
        ]);
        let servers = self.records(user, "ir.mail_server", Value::Array(Vec::new()), fields);
        let servers = rows(&servers.await?, FIELDS);
        let keys = Value::Array(vec![text("key"), text("in"), texts(PARAMETERS)]);
        let fields = table([("fields", texts(["key", "value"]))]);
        let parameters = self.records(
            user,
            "ir.config_parameter",
            Value::Array(vec![keys]),
            fields,
        );
        let parameters: HashMap<String, String> = parameters
            .await?
            .iter()
            .filter_map(|record| {
                Some((
                    cell("key", record.get("key")?),
                    cell("value", record.get("value")?),
                ))
            })
            .collect();
        // Odoo before version 17 has no such model, and answers with a fault.
        let fields = table([("fields", texts(DOMAIN_FIELDS.map(|(field, _)| field)))]);
        let domains = self.records(user, "mail.alias.domain", Value::Array(Vec::new()), fields);
        let domains = rows(&domains.await.unwrap_or_default(), DOMAIN_FIELDS);
        Ok(odoo::imported(servers, &parameters, domains))
    }

    /// Returns the id of the user.
    async fn authenticate(&self) -> Result<i32, String> {
        let password = text(self.password.expose_secret());
        let user = vec![text(self.database), text(self.user), password, table([])];
        match self.call("common", "authenticate", user).await? {
            Value::Integer(user) => Ok(user),
            _ => Err(format!(
                "Odoo refuses the user {} in the database {}; check --odoo-user, --odoo-database and the password (with two-factor \
                 authentication it is an API key)",
                self.user, self.database
            )),
        }
    }

    /// Returns the records of a model that a domain admits.
    async fn records(
        &self,
        user: i32,
        model: &str,
        domain: Value,
        options: Value,
    ) -> Result<Vec<BTreeMap<String, Value>>, String> {
        let call = vec![
            text(self.database),
            Value::Integer(user),
            text(self.password.expose_secret()),
            text(model),
            text("search_read"),
            Value::Array(vec![domain]),
            options,
        ];
        let found = self.call("object", "execute_kw", call).await?;
        let Value::Array(records) = found else {
            return Err(format!("Odoo's answer about {model} is not a list"));
        };
        let records = records.into_iter().filter_map(|record| match record {
            Value::Struct(record) => Some(record),
            _ => None,
        });
        Ok(records.collect())
    }

    /// Calls a method of a service.
    async fn call(
        &self,
        service: &str,
        method: &str,
        parameters: Vec<Value>,
    ) -> Result<Value, String> {
        let url = self.url.join(&format!("/xmlrpc/2/{service}"));
        let url = url.map_err(|error| error.to_string())?;
        let call = MethodCall {
            name: method.into(),
            params: parameters,
        };
        let body = call.to_xml().map_err(|error| error.to_string())?;
        let request = Request::post(url.as_str()).header("Content-Type", "text/xml");
        let request = request
            .body(body.into_bytes())
            .map_err(|error| error.to_string())?;
        let answer = send(CLIENT.clone(), request)
            .await
            .map_err(|error| reasons(&error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("it answered {status} to {url}; check the address"));
        }
        let body = String::from_utf8_lossy(answer.body());
        if let Ok(fault) = FaultResponse::from_xml(&body) {
            // The fault has a whole traceback; its last line is the reason.
            let reason = fault
                .fault
                .string()
                .trim()
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned();
            return Err(format!("Odoo refused: {reason}"));
        }
        let answer = MethodResponse::from_xml(&body);
        let answer = answer
            .map_err(|error| format!("the answer is not XML-RPC ({error}); check the address"))?;
        Ok(answer.value)
    }
}

/// True if nobody on the way can read what is sent to this address.
fn is_protected(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || is_here
}
