//! The texts that `setup` makes: the configuration, the script for Microsoft's side, and the same as clicks. Pure.

use super::answers::{Answers, MailboxAnswer, SignIn};
use crate::base::written::quoted;

/// The script for Azure Cloud Shell, with `{…}` where the answers stand.
const SCRIPT: &str = include_str!("microsoft365.ps1");

/// The application (client) id that stands in the configuration until the real one is known.
pub(super) const NO_CLIENT_ID: &str = "00000000-0000-0000-0000-000000000000";

/// The address at which apps read mail by IMAP.
const IMAP: &str = "127.0.0.1:1143";

/// The folder of the Debian package's service.
const DATA: &str = "data_dir = \"/var/lib/mailferry\"

# Commands reach the running program here. guides/operating.md says how other people may look at it too.
[control]
socket = \"/run/mailferry/control.sock\"
";

/// The listener and the user for programs on this machine that call sendmail.
const LOCAL: &str = "
# Programs on this machine send with `sendmail`, without a password.
[[listener]]
name = \"local\"
socket = \"/run/mailferry/sendmail.sock\"
users = [\"local\"]
[[user]]
name = \"local\"
networks = [\"127.0.0.1\"]
";

/// The file names beside the configuration.
pub(super) const CERTIFICATE: &str = "app.pem";
pub(super) const KEY: &str = "app.key";

/// Returns the name of the file with the hash of the apps' password.
pub(super) fn password_file(answers: &Answers) -> String {
    format!("{}.argon2", answers.user)
}

/// The file name of the client secret with which people sign in.
pub(super) const CLIENT_SECRET: &str = "client.secret";

/// Returns the name of the file with another tool's refresh token.
pub(super) fn token_file(mailbox: &MailboxAnswer) -> String {
    format!("{}.refresh", mailbox.name)
}

/// Returns the configuration.
pub(super) fn configuration(answers: &Answers) -> String {
    let Answers {
        listen,
        user,
        tenant,
        ..
    } = answers;
    let mut text = format!(
        "# Made by `mailferry setup`. `mailferry check` says what it does; config/mailferry.toml explains all keys.\n{}\n\
         # Apps connect here.\n[[listener]]\naddress = {}\n",
        if answers.is_packaged { DATA } else { "" },
        quoted(listen)
    );
    if answers.is_packaged {
        text += &format!("users = [{}]\n", quoted(user));
    }
    if !listen.ip().is_loopback() {
        text += "# mailferry makes its own certificate at the first start; apps must not verify it, or get one that they trust.\n\
                 tls = \"starttls\"\n";
    }
    text += "\n[sender]\n";
    text += &match &answers.default_from {
        Some(sender) => format!(
            "# Mail from any other sender leaves as \"Their Name\" <{sender}>, with replies going to that sender.\ndefault_from = {}\n",
            quoted(sender)
        ),
        None => "# Mail from a sender that no from_filter below contains is refused.\n".to_owned(),
    };
    text += &format!(
        "\n# The user that apps sign in as.\n[[user]]\nname = {}\npassword = {{ file = {} }}\n",
        quoted(user),
        quoted(password_file(answers))
    );
    if !answers.networks.is_empty() {
        let networks: Vec<String> = answers.networks.iter().map(quoted).collect();
        text += &format!(
            "# Clients in these networks need no password.\nnetworks = [{}]\n",
            networks.join(", ")
        );
    }
    if answers.reading {
        let names: Vec<String> = answers
            .mailboxes
            .iter()
            .map(|it| quoted(&it.name))
            .collect();
        text += &format!(
            "# The mailboxes that this user may read.\nmailboxes = [{}]\n\n# Apps read mail here.\n[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\naddress = {}\n",
            names.join(", "),
            quoted(IMAP)
        );
    }
    if answers.is_packaged {
        text += LOCAL;
    }
    text += &format!(
        "\n# The app registration in Entra ID.\n[oauth.microsoft]\ntenant = {}\n",
        quoted(tenant)
    );
    if let Some(cloud) = answers.cloud {
        text += &format!("cloud = {}\n", quoted(cloud));
    }
    text += &match &answers.client_id {
        Some(id) => format!("client_id = {}\n", quoted(id)),
        None => format!(
            "# The script prints the application (client) id as its last line: write it here.\nclient_id = {}\n",
            quoted(NO_CLIENT_ID)
        ),
    };
    let grant = match answers.sign_in {
        SignIn::App => {
            text += &format!(
                "certificate = {}\nkey = {{ file = {} }}\n",
                quoted(CERTIFICATE),
                quoted(KEY)
            );
            "client_credentials"
        }
        SignIn::Person => "authorization_code",
    };
    if answers.has_client_secret {
        text += &format!("client_secret = {{ file = {} }}\n", quoted(CLIENT_SECRET));
    }
    for mailbox in &answers.mailboxes {
        let grant = match mailbox.has_refresh_token {
            true => "refresh_token",
            false => grant,
        };
        text += &format!(
            "\n[[server]]\nname = {}\nusername = {}\n# The senders whose mail goes through this mailbox.\nfrom_filter = {}\noauth = \"microsoft\"\ngrant = \"{grant}\"\n",
            quoted(&mailbox.name),
            quoted(&mailbox.address),
            quoted(mailbox.filter.join(", "))
        );
        if mailbox.has_refresh_token {
            let file = quoted(token_file(mailbox));
            text += &format!("refresh_token = {{ file = {file} }}\n");
        }
        if answers.reading {
            text += "use = [\"smtp\", \"imap\"]\n";
        }
    }
    text
}

/// Returns the script. `certificate` is the app's certificate, as base64 of DER; `name` is the app's name.
pub(super) fn script(answers: &Answers, name: &str, certificate: &str) -> String {
    let mailboxes: Vec<String> = answers
        .mailboxes
        .iter()
        .map(|it| single_quoted(it.address.as_str()))
        .collect();
    let certificate = match answers.sign_in {
        SignIn::App => certificate,
        SignIn::Person => "",
    };
    let reading = if answers.reading { "$true" } else { "$false" };
    let id = answers.client_id.as_deref().unwrap_or_default();
    SCRIPT
        .replace("{mailboxes}", &mailboxes.join(", "))
        .replace("{name}", &single_quoted(name))
        .replace("{app_id}", &single_quoted(id))
        .replace("{certificate}", &single_quoted(certificate))
        .replace("{reading}", reading)
}

/// Returns the clicks that do the same as the script, numbered.
pub(super) fn clicks(answers: &Answers, name: &str) -> String {
    let mut steps = vec![format!(
        "https://entra.microsoft.com > App registrations > New registration: name {name}, \"Accounts in this organizational directory only\", Register."
    )];
    match answers.sign_in {
        SignIn::App => steps.push(format!(
            "In the app: Certificates & secrets > Certificates > Upload certificate: {CERTIFICATE}."
        )),
        SignIn::Person => {
            steps.push("In the app: Authentication > Add a platform > Mobile and desktop applications: http://localhost/callback.".to_owned());
            let reading = if answers.reading {
                " and IMAP.AccessAsUser.All"
            } else {
                ""
            };
            steps.push(format!(
                "In the app: API permissions > Add a permission > Microsoft Graph > Delegated permissions: SMTP.Send{reading}; then \"Grant admin consent\"."
            ));
        }
    }
    steps.push(
        "In the app: Overview: copy \"Application (client) ID\" into mailferry.toml, client_id."
            .to_owned(),
    );
    for mailbox in &answers.mailboxes {
        steps.push(format!(
            "https://admin.microsoft.com > Active users > {} > Mail > Manage email apps: tick \"Authenticated SMTP\".",
            mailbox.address
        ));
    }
    if answers.sign_in == SignIn::App && answers.reading {
        steps.push(
            "In the app: API permissions > Add a permission > APIs my organization uses > Office 365 Exchange Online > Application permissions: IMAP.AccessAsApp; then \"Grant admin consent\"."
                .to_owned(),
        );
    }
    if answers.sign_in == SignIn::App {
        let which = match answers.client_id {
            Some(_) => "",
            None => " (write the application id in place of APPLICATION-ID)",
        };
        steps.push(format!(
            "The permission to send as these mailboxes needs PowerShell: in https://shell.azure.com run{which}\n\n{}",
            permission(answers, name)
        ));
    }
    let numbered = steps.iter().zip(1..);
    numbered
        .map(|(step, number)| format!("{number}. {step}\n"))
        .collect()
}

/// Returns the PowerShell lines that let the app send as the mailboxes (RBAC for Applications).
fn permission(answers: &Answers, name: &str) -> String {
    let name = single_quoted(name);
    let id = answers.client_id.as_deref().unwrap_or("APPLICATION-ID");
    let guid = |address: &str| {
        format!(
            "Guid -eq '$((Get-Mailbox {}).Guid)'",
            single_quoted(address)
        )
    };
    let addresses = answers.mailboxes.iter().map(|it| it.address.as_str());
    let filter: Vec<String> = addresses.clone().map(guid).collect();
    let tests = addresses.map(|address| {
        let address = single_quoted(address);
        format!("     Test-ServicePrincipalAuthorization -Identity {id} -Resource {address}\n")
    });
    format!(
        "     Connect-ExchangeOnline -Device\n     \
         $principal = Get-AzADServicePrincipal -ApplicationId {id}\n     \
         New-ServicePrincipal -AppId {id} -ObjectId $principal.Id -DisplayName {name}\n     \
         New-ManagementScope -Name {name} -RecipientRestrictionFilter \"{}\"\n     \
         New-ManagementRoleAssignment -App {id} -Role 'Application SMTP.SendAsApp' -CustomResourceScope {name}\n{}{}",
        filter.join(" -or "),
        reading(answers),
        tests.collect::<String>()
    )
}

/// Returns the PowerShell lines that let the app read the mailboxes, if apps read them.
fn reading(answers: &Answers) -> String {
    let mailboxes = answers.mailboxes.iter().filter(|_| answers.reading);
    let lines = mailboxes.map(|mailbox| {
        let address = single_quoted(mailbox.address.as_str());
        format!("     Add-MailboxPermission -Identity {address} -User $principal.Id -AccessRights FullAccess\n")
    });
    lines.collect()
}

/// Returns a text as PowerShell writes it without expanding anything in it.
fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
