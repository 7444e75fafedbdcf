//! `mailferry tokens`.

use std::process::ExitCode;

use super::common::{ConfigFile, NO, plain};
use super::operator;
use super::paint::painted;
use crate::base::Timestamp;
use crate::operator::row::{Light, TokenRow};
use crate::operator::{Need, Request};
use crate::token::{Grant, TokenOrigin};

/// The arguments of `mailferry tokens`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Accounts, async |reached| {
        let (operator, now) = (reached.operator(), Timestamp::now());
        let mut lacks_one = false;
        let rows: Vec<TokenRow> = operator.ask(Request::Tokens).await?;
        for row in rows {
            let (light, words) = row.glance(now);
            lacks_one |= row.lacks_token(now);
            if arguments.config.json {
                println!("{}", json(&row, light, &words));
            } else {
                show(&row, light, &words);
            }
        }
        if !arguments.config.json {
            let unused: Vec<String> = operator.ask(Request::Unused).await?;
            for account in unused {
                println!(
                    "{account}  unused: no server uses this account (was its [oauth] table or `account` renamed?)\n    `mailferry \
                     disconnect --unused` deletes the tokens of unused accounts"
                );
            }
        }
        Ok(if lacks_one {
            ExitCode::from(NO)
        } else {
            ExitCode::SUCCESS
        })
    })
}

/// Returns the row as JSON, with its traffic light as `state` and the text beside the light as `words`. Times
/// are milliseconds since 1970.
fn json(row: &TokenRow, light: Light, words: &str) -> String {
    let state = match light {
        Light::Green => "green",
        Light::Amber => "amber",
        Light::Red => "red",
    };
    let mut value = serde_json::json!(row);
    value["state"] = state.into();
    value["words"] = words.into();
    value.to_string()
}

fn show(row: &TokenRow, light: Light, words: &str) {
    println!("{}  {}", row.server, painted(light, words));
    let line = |name: &str, text: String| println!("    {name:<14}{text}");
    if let Some(grant) = row.grant {
        line("obtained", obtained(row, grant));
    }
    if let Some(at) = row.rotated {
        line("rotated", at.to_string());
    }
    if let Some(at) = row.credential_expires {
        line("secret until", at.to_string());
    }
    if let Some(reason) = row.reason() {
        line("because", plain(reason));
    }
}

fn obtained(row: &TokenRow, grant: Grant) -> String {
    let how = match (row.origin, grant) {
        (Some(TokenOrigin::Browser), _) => "by a sign-in with a browser",
        (Some(TokenOrigin::Device), _) => "by a sign-in on another device",
        (Some(TokenOrigin::Configuration), _) => "by the refresh token in the configuration",
        (None, Grant::ClientCredentials) => "client credentials (no person signs in)",
        (None, _) => return format!("not yet: run `mailferry connect {}`", row.server),
    };
    match &row.user {
        Some(user) => format!("{how}, as {user}"),
        None => how.into(),
    }
}
