//! `mailferry setup`: from nothing to a configuration, and a script for Microsoft's side.

mod answers;
mod fernet;
mod import;
mod imported;
mod odoo;
mod odoo_api;
mod postfix;
mod talk;
mod text;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ipnet::IpNet;
use url::Url;

use super::common::{failed, misused};
use crate::base::certificate;
use crate::base::secret::ExposeSecret;
use crate::base::{Secret, Timestamp};
use crate::config::{self, Secrets};
use crate::door::password::hash_password;
use crate::message::{Address, Author, ReversePath};
use crate::platform::files::{self, Readers, create_new};
use crate::platform::identity;
use crate::routing::{Caller, Decision};
use answers::{Answers, SignIn};
use imported::Imported;
use odoo_api::Odoo;
use talk::Talk;

/// The configuration's name.
const CONFIGURATION: &str = "mailferry.toml";

/// The folder of the Debian package's configuration, which belongs to the service's group.
const OF_PACKAGE: &str = "/etc/mailferry";

/// The script's name.
const SCRIPT: &str = "microsoft365.ps1";

/// The octets of randomness in the password that apps get: 120 bits.
const PASSWORD: usize = 15;

/// The arguments of `mailferry setup`.
#[derive(Clone, clap::Args)]
pub(super) struct Arguments {
    /// The folder for the files; existing files are never overwritten [default: /etc/mailferry for root if it exists, or else
    /// the current folder]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Take over what the configuration of email-oauth2-proxy says; what cannot be carried over is listed
    #[arg(long, value_name = "FILE", group = "import")]
    from_emailproxy: Option<PathBuf>,
    /// Take over what the configuration of msmtp says; what cannot be carried over is listed
    #[arg(long, value_name = "FILE", group = "import")]
    from_msmtp: Option<PathBuf>,
    /// Take over what Postfix's main.cf and the maps that it names say; what cannot be carried over is listed
    #[arg(long, value_name = "main.cf", group = "import")]
    from_postfix: Option<PathBuf>,
    /// Take over Odoo's outgoing mail servers or system parameters, exported as CSV; may be repeated
    #[arg(long, value_name = "CSV", group = "import")]
    from_odoo: Vec<PathBuf>,
    /// Take over Odoo's outgoing mail servers and system parameters, read from Odoo by XML-RPC; nothing there changes
    #[arg(long, value_name = "URL", group = "import", requires_all = ["odoo_database", "odoo_user", "import_password_file"])]
    from_odoo_url: Option<Url>,
    /// The database of Odoo
    #[arg(long, value_name = "NAME", requires = "from_odoo_url")]
    odoo_database: Option<String>,
    /// A login of Odoo that may read the settings
    #[arg(long, value_name = "LOGIN", requires = "from_odoo_url")]
    odoo_user: Option<String>,
    /// A file with the password for the import: of Odoo's user (or an API key), or with which apps sign in at
    /// email-oauth2-proxy, so that nobody has to sign in again
    #[arg(long, value_name = "FILE", requires = "import")]
    import_password_file: Option<PathBuf>,
    /// A mailbox to send through; may be repeated
    #[arg(long = "mailbox", value_name = "ADDRESS", value_parser = Address::parse)]
    mailboxes: Vec<Address>,
    /// The one who signs in at Microsoft: the app itself, or a person in a browser, once
    #[arg(long, value_enum)]
    sign_in: Option<SignIn>,
    /// The tenant: its id, or one of its domains [default: the domain of the first mailbox]
    #[arg(long)]
    tenant: Option<String>,
    /// The application (client) id of an app that exists already
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// An address or a domain that a mailbox sends as besides its own address, as MAILBOX=FILTER; may be repeated
    #[arg(long = "from-filter", value_name = "MAILBOX=FILTER", value_parser = filter)]
    filters: Vec<(Address, String)>,
    /// The mailbox that mail of any other sender leaves from, or "none" to refuse such mail [default: the first mailbox]
    #[arg(long, value_name = "ADDRESS")]
    default_from: Option<String>,
    /// The address that apps connect to [default: 127.0.0.1:2525]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The name that apps sign in with
    #[arg(long, default_value = "apps")]
    user: String,
    /// A network whose clients need no password; may be repeated
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<IpNet>,
    /// Apps also read these mailboxes by IMAP
    #[arg(long)]
    reading: bool,
    /// Print clicks for the portals instead of writing a script
    #[arg(long)]
    portal: bool,
    /// The name of the app in Entra ID
    #[arg(long, default_value = "mailferry")]
    app_name: String,
}

/// Reads `MAILBOX=FILTER`.
fn filter(text: &str) -> Result<(Address, String), String> {
    let (mailbox, filter) = text
        .split_once('=')
        .ok_or("write MAILBOX=FILTER, such as info@example.com=example.com")?;
    let mailbox = Address::parse(mailbox).map_err(|error| error.to_string())?;
    Ok((mailbox, filter.to_owned()))
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (arguments, imported) = match with_imported(arguments.clone()) {
        Ok(found) => found,
        Err(error) => return failed(&error),
    };
    let ended = set_up(&arguments, &imported);
    if !imported.left.is_empty() {
        println!("\nNot carried over:\n");
        imported.left.iter().for_each(|it| println!("- {it}"));
    }
    ended
}

/// Reads the other tool's configuration, if one is named.
fn imported(arguments: &Arguments) -> Result<Option<Imported>, String> {
    let read = |file: &Path| {
        let text = std::fs::read_to_string(file);
        text.map_err(|error| format!("{}: {error}", file.display()))
    };
    let secret = || -> Result<Secret, String> {
        let file = arguments.import_password_file.as_deref();
        Ok(read(file.unwrap_or(Path::new("")))?
            .trim()
            .to_owned()
            .into())
    };
    let named = |file: &Path, done: Result<Imported, String>| {
        let done = done.map_err(|error| format!("{}: {error}", file.display()))?;
        if done.mailboxes.is_empty() {
            let left = done.left.join("\n- ");
            let file = file.display();
            return Err(format!(
                "{file}: there is no account of Microsoft 365\n- {left}"
            ));
        }
        Ok(Some(done))
    };
    if let Some(file) = &arguments.from_emailproxy {
        let password = arguments.import_password_file.as_ref();
        let password = password.map(|_| secret()).transpose()?;
        named(file, import::emailproxy(&read(file)?, password.as_ref()))
    } else if let Some(file) = &arguments.from_msmtp {
        named(file, import::msmtp(&read(file)?))
    } else if let Some(file) = &arguments.from_postfix {
        let map = |name: &str| read(Path::new(name));
        named(file, postfix::postfix(&read(file)?, &map))
    } else if let Some(first) = arguments.from_odoo.first() {
        let texts = arguments.from_odoo.iter().map(|file| read(file));
        named(first, odoo::odoo(&texts.collect::<Result<Vec<_>, _>>()?))
    } else if let Some(url) = &arguments.from_odoo_url {
        let odoo = Odoo {
            url,
            database: arguments.odoo_database.as_deref().unwrap_or_default(),
            user: arguments.odoo_user.as_deref().unwrap_or_default(),
            password: &secret()?,
        };
        named(Path::new(url.as_str()), waited_for(odoo.read()))
    } else {
        Ok(None)
    }
}

/// Waits for a request.
fn waited_for<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(work)
}

/// Adds what another tool's configuration says to the options; options that were given count more.
fn with_imported(mut arguments: Arguments) -> Result<(Arguments, Imported), String> {
    let Some(imported) = imported(&arguments)? else {
        return Ok((arguments, Imported::default()));
    };
    if arguments.mailboxes.is_empty() {
        arguments.mailboxes.clone_from(&imported.mailboxes);
        arguments.filters.extend(imported.filters.clone());
    }
    if arguments.networks.is_empty() {
        arguments.networks.clone_from(&imported.networks);
    }
    let client_id = imported.client_id.clone().filter(|id| !id.is_empty());
    arguments.sign_in = arguments.sign_in.or(imported.sign_in);
    arguments.tenant = arguments.tenant.or(imported.tenant.clone());
    arguments.client_id = arguments.client_id.or(client_id);
    arguments.listen = arguments.listen.or(imported.listen);
    let sender = imported.default_from.as_ref().map(Address::to_string);
    arguments.default_from = arguments.default_from.or(sender);
    Ok((arguments, imported))
}

/// Compares the ways of senders under the new configuration with those of the other tool.
fn compare(folder: &Path, ways: &[(Address, Address)]) {
    let Ok(config) = config::load(&folder.join(CONFIGURATION), Secrets::Looked) else {
        return;
    };
    if ways.is_empty() {
        return;
    }
    println!("\nCompared with the other tool, by sender:\n");
    for (sender, mailbox) in ways {
        let path = ReversePath::Mailbox(sender.clone());
        let author = Author::of_value(sender.as_str().as_bytes());
        let decision = config.live.policy.decide(&path, &author, Caller::default());
        let (way, is_same) = match decision {
            Decision::Route(route) => {
                let mut rules = config.live.policy.servers.iter();
                let rule = rules.find(|rule| rule.name == route.server);
                let is_same = rule.and_then(|rule| rule.address.as_ref()) == Some(mailbox);
                (
                    format!("through {}", route.server),
                    is_same && route.plan.from.is_none(),
                )
            }
            Decision::Refused(refusal) => (format!("refused: {}", refusal.why), false),
        };
        let mark = if is_same { "same " } else { "OTHER" };
        println!("  {mark}  {sender}: {mailbox} before, now {way}");
    }
}

/// Returns the folder of the Debian package if root runs this command there, or else the current folder.
fn usual_folder() -> PathBuf {
    let of_package = PathBuf::from(OF_PACKAGE);
    match identity::is_root() && of_package.is_dir() {
        true => of_package,
        false => PathBuf::from("."),
    }
}

fn set_up(arguments: &Arguments, imported: &Imported) -> ExitCode {
    let is_terminal = std::io::stdin().is_terminal();
    let folder = arguments.output.clone().unwrap_or_else(usual_folder);
    if arguments.mailboxes.is_empty() && !is_terminal {
        return misused(
            &"name a mailbox with --mailbox, or run this command at a terminal, where it asks",
        );
    }
    // Before the questions, so that nobody answers them in vain.
    let configuration = folder.join(CONFIGURATION);
    if configuration.exists() {
        return failed(&exists(&configuration));
    }
    let mut talk = Talk::new(is_terminal);
    let answers = match ask(arguments, &mut talk) {
        Ok(answers) => answers,
        Err(error) => return failed(&error),
    };
    let answers = with_secrets(
        Answers {
            is_packaged: folder == Path::new(OF_PACKAGE),
            cloud: imported.cloud.filter(|cloud| *cloud != "worldwide"),
            ..answers
        },
        imported,
    );
    match write(arguments, &answers, imported, &folder) {
        Ok(password) => {
            next_steps(arguments, &answers, &folder, &password);
            compare(&folder, &imported.ways);
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// Notes for which parts another tool's secrets are known. An app that signs in by itself has a certificate instead.
fn with_secrets(mut answers: Answers, imported: &Imported) -> Answers {
    if answers.sign_in == SignIn::App {
        return answers;
    }
    answers.has_client_secret = imported.client_secret.is_some();
    let has_token = |address: &Address| imported.refresh_tokens.iter().any(|(of, _)| of == address);
    for mailbox in &mut answers.mailboxes {
        mailbox.has_refresh_token = has_token(&mailbox.address);
    }
    answers
}

/// Takes the answers from the options, and asks for the rest at a terminal.
fn ask(arguments: &Arguments, talk: &mut Talk) -> Result<Answers, String> {
    let addresses = match arguments.mailboxes.as_slice() {
        [] => talk.addresses("Which mailboxes of Microsoft 365 shall mail be sent through? (addresses, with commas between)")?,
        given => given.to_vec(),
    };
    let first = addresses.first().ok_or("there is no mailbox")?.clone();
    if arguments.user.is_empty() || arguments.user.contains('/') {
        return Err(format!(
            "--user: {:?} cannot be part of a file name; write a name such as apps",
            arguments.user
        ));
    }
    let filters = match arguments.filters.as_slice() {
        [] => talk.filters(&addresses)?,
        given => given.to_vec(),
    };
    if let Some((stranger, _)) = filters
        .iter()
        .find(|(mailbox, _)| !addresses.contains(mailbox))
    {
        return Err(format!(
            "--from-filter: {stranger} is not one of the mailboxes; add --mailbox {stranger}"
        ));
    }
    let sign_in = match arguments.sign_in {
        Some(sign_in) => sign_in,
        None => {
            let question = "Who signs in at Microsoft: mailferry itself, with a certificate (app), or a person in a browser (person)?";
            talk.value(question, "app", |answer| match answer {
                "app" => Ok(SignIn::App),
                "person" => Ok(SignIn::Person),
                other => Err(format!("{other:?} is neither app nor person")),
            })?
        }
    };
    let tenant = match &arguments.tenant {
        Some(tenant) => tenant.clone(),
        None => talk.ask(
            "Your tenant: its id, or one of its domains",
            answers::domain(&first),
        )?,
    };
    let sender = |text: &str| match text {
        "none" => Ok(None),
        sender => Address::parse(sender)
            .map(Some)
            .map_err(|error| format!("the default sender: {error}")),
    };
    let default_from = match &arguments.default_from {
        Some(given) => sender(given)?,
        None => talk.value(
            "The mailbox that mail of any other sender leaves from, or none to refuse such mail",
            first.as_str(),
            sender,
        )?,
    };
    let listen = match arguments.listen {
        Some(listen) => listen,
        None => talk.value(
            "The address that apps connect to; 0.0.0.0:2525 for apps on other machines",
            "127.0.0.1:2525",
            |text| {
                text.parse().map_err(|_| {
                    format!("{text:?} is not an address with a port, such as 127.0.0.1:2525")
                })
            },
        )?,
    };
    let networks = match arguments.networks.as_slice() {
        [] => talk.networks(
            "Networks whose clients need no password, such as 192.168.7.0/24 (with commas between)",
        )?,
        given => given.to_vec(),
    };
    Ok(Answers {
        mailboxes: answers::mailboxes(&addresses, &filters),
        sign_in,
        tenant,
        cloud: None,
        client_id: arguments.client_id.clone(),
        has_client_secret: false,
        default_from,
        listen,
        user: arguments.user.clone(),
        networks,
        reading: arguments.reading,
        is_packaged: false,
    })
}

/// A file to write: its name, its readers, and its text.
type NewFile = (String, Readers, String);

/// Writes all files, or none if one exists already or the configuration is wrong. Returns the password for apps.
fn write(
    arguments: &Arguments,
    answers: &Answers,
    imported: &Imported,
    folder: &Path,
) -> Result<String, String> {
    let password = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; PASSWORD]>());
    let hash = hash_password(&Secret::from(password.clone())).map_err(|error| error.to_string())?;
    let mut files = vec![(text::password_file(answers), Readers::Owner, hash + "\n")];
    files.extend(secret_files(answers, imported));
    let mut kept = Vec::new();
    let mut certificate = String::new();
    if answers.sign_in == SignIn::App {
        let (own, is_new) = app_certificate(folder, &arguments.app_name)?;
        let list = if is_new { &mut files } else { &mut kept };
        certificate = in_base64(&own[0])?;
        list.extend(own);
    }
    if !arguments.portal {
        let script = text::script(answers, &arguments.app_name, &certificate);
        files.push((SCRIPT.to_owned(), Readers::All, script));
    }
    files.push((
        CONFIGURATION.to_owned(),
        Readers::All,
        text::configuration(answers),
    ));
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = files.iter().rev().map(|(name, ..)| folder.join(name));
    if let Some(path) = paths.into_iter().find(|path| path.exists()) {
        return Err(exists(&path));
    }
    tried(files.iter().chain(&kept))?;
    files.iter().try_for_each(|file| create(folder, file))?;
    Ok(password)
}

/// Returns the files with another tool's secrets.
fn secret_files(answers: &Answers, imported: &Imported) -> Vec<NewFile> {
    let file = |name: String, secret: &Secret| {
        (
            name,
            Readers::Owner,
            secret.expose_secret().to_owned() + "\n",
        )
    };
    let secret = imported.client_secret.as_ref();
    let secret = secret.filter(|_| answers.has_client_secret);
    let secret = secret.map(|secret| file(text::CLIENT_SECRET.to_owned(), secret));
    let taken = answers.mailboxes.iter().filter(|it| it.has_refresh_token);
    let tokens = taken.filter_map(|mailbox| {
        let mut tokens = imported.refresh_tokens.iter();
        let (_, token) = tokens.find(|(of, _)| *of == mailbox.address)?;
        Some(file(text::token_file(mailbox), token))
    });
    secret.into_iter().chain(tokens).collect()
}

/// Checks the configuration before anything is written, so that a wrong answer leaves nothing half done.
fn tried<'f>(files: impl Iterator<Item = &'f NewFile>) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    for file in files {
        create(folder.path(), file)?;
    }
    let checked = config::load(&folder.path().join(CONFIGURATION), Secrets::Looked);
    checked.map(drop).map_err(|error| {
        format!(
            "with these answers the configuration would be wrong, so nothing was written:\n{error}"
        )
    })
}

/// Returns the app's certificate and key, and true if they are new.
fn app_certificate(folder: &Path, name: &str) -> Result<([NewFile; 2], bool), String> {
    let (chain, key) = (folder.join(text::CERTIFICATE), folder.join(text::KEY));
    if chain.exists() != key.exists() {
        return Err(format!(
            "only one of {} and {} exists; they belong together: add the other one, or move it away",
            chain.display(),
            key.display()
        ));
    }
    let pair = |certificate, private| {
        [
            (text::CERTIFICATE.to_owned(), Readers::All, certificate),
            (text::KEY.to_owned(), Readers::Owner, private),
        ]
    };
    if chain.exists() {
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path);
            text.map_err(|error| format!("{}: {error}", path.display()))
        };
        return Ok((pair(read(&chain)?, read(&key)?), false));
    }
    let subject = format!("{name} on {}", identity::host_name());
    let made = certificate::for_app(&subject, Timestamp::now());
    let made = made.map_err(|error| format!("the certificate: {error}"))?;
    Ok((pair(made.certificate, made.key), true))
}

/// Returns a certificate as base64 of DER. The file may contain the private key too, which must not get into the
/// script.
fn in_base64((name, _, text): &NewFile) -> Result<String, String> {
    let mut blocks = x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()).flatten();
    let certificate = blocks.find(|block| block.label == "CERTIFICATE");
    let certificate = certificate.ok_or_else(|| format!("{name}: it contains no certificate"))?;
    Ok(BASE64_STANDARD.encode(certificate.contents))
}

fn exists(path: &Path) -> String {
    format!(
        "{} exists already; move it away, or choose another folder with --output",
        path.display()
    )
}

fn create(folder: &Path, (name, readers, text): &NewFile) -> Result<(), String> {
    let path = folder.join(name);
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(&path),
        _ => format!("{}: {error}", path.display()),
    };
    let mut file = create_new(*readers).open(&path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    if folder == Path::new(OF_PACKAGE) {
        files::share_with_group(&path).map_err(failed)?;
    }
    Ok(())
}

fn next_steps(arguments: &Arguments, answers: &Answers, folder: &Path, password: &str) {
    let is_packaged = folder == Path::new(OF_PACKAGE);
    let folder = folder.display();
    println!("\nWritten to {folder}: {CONFIGURATION} and the files that it names.");
    println!(
        "Apps sign in as {} with this password, which is shown only now: {password}",
        answers.user
    );
    println!("\nWhat remains:\n");
    if arguments.portal {
        println!("{}", text::clicks(answers, &arguments.app_name));
    } else {
        println!(
            "1. In https://shell.azure.com (PowerShell) upload {SCRIPT} (Manage files > Upload), and run"
        );
        println!("     ./{SCRIPT} -WhatIf       # says what it would do");
        println!("     ./{SCRIPT}");
        if answers.client_id.is_none() {
            println!(
                "2. Write the application (client) id, its last line, into {CONFIGURATION}, client_id."
            );
        }
    }
    let server = answers.mailboxes.first().map_or("", |it| it.name.as_str());
    println!("Then, in {folder}:\n");
    if answers.sign_in == SignIn::Person {
        for mailbox in answers.mailboxes.iter().filter(|it| !it.has_refresh_token) {
            println!("     mailferry connect {}", mailbox.name);
        }
    }
    println!("     mailferry test {server} --wait --to you@example.com");
    println!(
        "     {}\n",
        if is_packaged {
            "systemctl restart mailferry"
        } else {
            "mailferry serve"
        }
    );
}
