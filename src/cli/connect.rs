//! `mailferry connect`.

use std::process::ExitCode;

use super::common::{ConfigFile, NO};
use super::operator::{self, Reached};
use crate::operator::accounts::{SignInAttempt, SignInOptions, SignInProgress, SignInWay};
use crate::operator::{Need, OperatorError, Request};
use crate::platform::signals::Interrupt;

/// The exit code that a shell shows for a program ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// The arguments of `mailferry connect`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The server's `name` in the configuration
    server: String,
    /// Sign in on another device, with a code: for machines without a browser
    #[arg(long)]
    device: bool,
    /// Print the address and do not open a browser
    #[arg(long)]
    no_browser: bool,
    /// Accept any account that signs in; it needs permission to send as the server's account
    #[arg(long)]
    any_account: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    operator::run(&arguments.config, Need::Accounts, async |reached| {
        connect(&reached, arguments).await
    })
}

async fn connect(reached: &Reached, arguments: &Arguments) -> Result<ExitCode, OperatorError> {
    let way = if arguments.device {
        SignInWay::Device
    } else {
        SignInWay::Usual
    };
    let anybody = arguments.any_account;
    let request = Request::Connect {
        server: arguments.server.clone(),
        wish: SignInOptions { way, anybody },
    };
    let operator = reached.operator();
    let attempt: SignInAttempt = operator.ask(request).await?;
    // Catch Ctrl-C before the sign-in is shown to anybody, so that no sign-in continues after Ctrl-C.
    let mut interrupt = Interrupt::catch().map_err(OperatorError::unavailable)?;
    if arguments.config.json {
        let told = serde_json::json!({ "url": attempt.url, "code": attempt.user_code, "user": attempt.user });
        println!("{told}");
    } else {
        tell(&attempt, arguments);
    }
    let ended = loop {
        tokio::select! {
            progress = operator.ask(Request::Progress(attempt.id.clone())) => match progress? {
                SignInProgress::Waiting => {}
                ended => break ended,
            },
            () = interrupt.next() => {
                // Ignore the result: this command ends in any case.
                let _ = operator.ask::<()>(Request::Cancel(attempt.id)).await;
                eprintln!("mailferry: the sign-in was cancelled; its address no longer works");
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    };
    Ok(match ended {
        SignInProgress::Done(user) if arguments.config.json => {
            let server = &arguments.server;
            println!(
                "{}",
                serde_json::json!({ "server": server, "connected": true, "user": user })
            );
            ExitCode::SUCCESS
        }
        SignInProgress::Done(Some(user)) => {
            println!(
                "{user} has signed in: server {} is connected.",
                arguments.server
            );
            ExitCode::SUCCESS
        }
        SignInProgress::Failed(reason) => {
            eprintln!("mailferry: {reason}");
            ExitCode::from(NO)
        }
        _ => {
            println!("Server {} is connected.", arguments.server);
            ExitCode::SUCCESS
        }
    })
}

fn tell(attempt: &SignInAttempt, arguments: &Arguments) {
    let who = match &attempt.user {
        Some(user) => format!(" as {user}"),
        None => String::new(),
    };
    if let Some(code) = &attempt.user_code {
        println!(
            "Open {} on any device, enter the code {code}, and sign in{who}.",
            attempt.url
        );
        return;
    }
    let is_open = !arguments.no_browser && open::that_detached(attempt.url.as_str()).is_ok();
    match is_open {
        true => println!("Your browser opens; sign in{who}. If it does not, use this address:\n"),
        false if attempt.anywhere => {
            println!("Open this address with a browser, and sign in{who}:\n")
        }
        false => println!("Open this address with a browser on this machine, and sign in{who}:\n"),
    }
    println!("{}\n", attempt.url);
    if !attempt.anywhere {
        println!("No browser here? Press Ctrl-C and use --device.");
    }
}
