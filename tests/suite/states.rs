//! What people see in each state that an operator has met: the app, the log, `status`, `queue show`, `trace` and
//! the page. Each state is a plain file, `tests/states/*.txt`, with directives at its head:
//!
//! ```text
//! # config: TEXT => TEXT     replaces a text in the usual configuration
//! # add: TEXT                adds a line at the end of the configuration
//! # fault: JSON              a fault of the stand-ins
//! # from: ADDRESS            the sender; the message goes to someone@example.net
//! # times: NUMBER            sends the message this often; the last reply counts
//! # app: LINE                sends this line before EHLO instead of a message
//! # run: ARGUMENTS           runs a command before the message is sent
//! # logged: TEXT             waits until the log has a line with this text
//! ```
//!
//! `MAILFERRY_STATES=write` writes what is said now; look at the difference before you keep it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

use crate::support::{Lab, Plan, Smtp, admitted};

const STATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/states");

/// The directives of a state.
#[derive(Default)]
struct Directives {
    config: Vec<(String, String)>,
    add: String,
    faults: Vec<String>,
    from: Option<String>,
    times: usize,
    app: Option<String>,
    run: Vec<String>,
    logged: Vec<String>,
}

impl Directives {
    fn of(head: &str) -> Self {
        let mut all = Self::default();
        for line in head.lines() {
            let Some((key, value)) = line.strip_prefix("# ").and_then(|it| it.split_once(": "))
            else {
                continue;
            };
            match key {
                "config" => {
                    let (old, new) = value.split_once(" => ").expect("two texts");
                    let lines = |text: &str| text.replace("\\n", "\n");
                    all.config.push((lines(old), lines(new)));
                }
                "add" => writeln!(all.add, "{value}").expect("writes"),
                "fault" => all.faults.push(value.to_owned()),
                "from" => all.from = Some(value.to_owned()),
                "times" => all.times = value.parse().expect("a number"),
                "app" => all.app = Some(value.to_owned()),
                "run" => all.run.push(value.to_owned()),
                "logged" => all.logged.push(value.to_owned()),
                _ => {}
            }
        }
        all
    }
}

/// Replaces everything that differs from one run to the next.
fn steady(text: &str, lab: &Lab) -> String {
    let folder = lab.path("x");
    let folder = folder.parent().expect("a folder").display().to_string();
    let text = text.replace(&folder, "FOLDER");
    let rules = [
        (
            r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)?",
            "TIME",
        ),
        (r"\bin \d+ (s|min|h|days)\b", "in A WHILE"),
        (r"\b\d+ (s|min|h|days) ago\b", "A WHILE ago"),
        (r"\b1[0-9a-z]{12}\b", "ID"),
        (
            r"(localhost|127\.0\.0\.1|nowhere\.invalid)(:|\]:| port )\d+",
            "$1${2}PORT",
        ),
        (r"\d+(\.\d+)? seconds", "N seconds"),
        // The resolver's words depend on the network.
        (
            r"(Name or service not known|Temporary failure in name resolution|No address associated with hostname)",
            "NO ADDRESS",
        ),
        (
            r"AADSTS(\d+)[^;\n]*?(Trace ID|Correlation)[^;\n]*",
            "AADSTS$1 …",
        ),
        (r"(trace|correlation)_id[^;,\n]*", "$1"),
    ];
    let replace = |text: String, (pattern, new): &(&str, &str)| {
        let pattern = Regex::new(pattern).expect("a pattern");
        pattern.replace_all(&text, *new).into_owned()
    };
    rules.iter().fold(text, replace)
}

/// Returns a page's text, a line for each element that begins a line.
fn page_text(page: &str) -> String {
    let main = page.split("<main").nth(1).unwrap_or_default();
    let main = main.split_once('>').unwrap_or_default().1;
    let main = main.split("</main>").next().unwrap_or_default();
    let main = Regex::new(r"<form.*?</form>")
        .expect("a pattern")
        .replace_all(main, "")
        .into_owned();
    let breaks = Regex::new(r"</(p|h1|h2|h3|dd|li|div|pre|article)>|<br>").expect("a pattern");
    let tags = Regex::new(r"<[^>]*>").expect("a pattern");
    let text = breaks.replace_all(&main, "\n");
    let text = text.replace("</dt>", ": ");
    let text = tags.replace_all(&text, "").into_owned();
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.fold(String::new(), |all, line| all + line + "\n")
}

/// Returns the lines of the log that are warnings or errors, or that are about a refusal, each once.
fn warnings(log: &str) -> String {
    let mut seen: Vec<String> = Vec::new();
    for line in log.lines() {
        let is_told = [
            " WARN ",
            " ERROR ",
            "event=\"refused\"",
            "event=\"auth_failed\"",
        ]
        .iter()
        .any(|it| line.contains(it));
        // An alert comes with the next look at the state.
        let is_told = is_told && !line.contains("event=\"alert");
        let Some((_, said)) = line.split_once(" mail: ").filter(|_| is_told) else {
            continue;
        };
        if !seen.iter().any(|it| it == said) {
            seen.push(said.to_owned());
        }
    }
    // Events at the same time have no order.
    seen.sort();
    seen.join("\n")
}

/// Brings a laboratory into the state, and returns what people see.
fn observed(head: &str) -> String {
    let directives = Directives::of(head);
    let mut configuration = Plan::default().configuration.replacen(
        "[[listener]]",
        "[web]\naddress = \"127.0.0.1:0\"\n[[listener]]",
        1,
    );
    for (old, new) in &directives.config {
        assert!(
            configuration.contains(old),
            "{old} is not in the configuration"
        );
        configuration = configuration.replacen(old, new, 1);
    }
    configuration.push_str(&directives.add);
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    for fault in &directives.faults {
        lab.fault(fault);
    }
    for command in &directives.run {
        lab.run(&command.split(' ').collect::<Vec<_>>());
    }
    let sender = directives
        .from
        .as_deref()
        .unwrap_or("notifications@example.com");
    let app = match &directives.app {
        Some(line) => {
            let mut client = Smtp::connect(lab.address);
            client.expect("EHLO test", "250");
            client.try_command(line)
        }
        None => {
            let mut client = lab.client();
            let replies = (0..directives.times.max(1)).map(|_| send(&mut client, sender));
            replies.last().unwrap_or_default()
        }
    };
    for text in &directives.logged {
        lab.logged(&[text]);
    }
    lab.wait_for("nothing to be sent", || {
        let active = lab.stdout(&["queue", "list", "--state", "active", "--json"]);
        active.is_empty().then_some(())
    });
    let mut said = String::new();
    let mut section = |name: &str, text: &str| {
        let text = steady(text, &lab);
        writeln!(said, "\n== {name}\n{}", text.trim_end()).expect("writes");
    };
    section("app", &app);
    section("log", &warnings(&lab.log()));
    let status = lab.run(&["status"]);
    let code = status.status.code().unwrap_or_default();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    let status = status
        .split_once("SERVER")
        .map(|(_, rest)| format!("SERVER{rest}"));
    section(
        &format!("status, exit code {code}"),
        &status.unwrap_or_default(),
    );
    let queue = lab.run(&["queue", "list", "--json"]).stdout;
    let first = queue
        .split(|octet| *octet == b'\n')
        .next()
        .unwrap_or_default();
    let first: serde_json::Value = serde_json::from_slice(first).unwrap_or_default();
    if let Some(id) = first["id"].as_str() {
        let shown = lab.stdout(&["queue", "show", id]);
        let shown = shown
            .split_once("server ")
            .map(|(_, rest)| format!("server {rest}"));
        section("queue show", &shown.unwrap_or_default());
    }
    let trace = lab.run(&["trace", "someone@example.net"]).stdout;
    section("trace", &String::from_utf8_lossy(&trace));
    section("page, servers", &page_text(&page(&lab, "/servers")));
    said
}

/// Sends a message, and returns the reply to the command that was refused, or to the message.
fn send(client: &mut Smtp, sender: &str) -> String {
    let commands = [
        (format!("MAIL FROM:<{sender}>"), "250"),
        ("RCPT TO:<someone@example.net>".to_owned(), "250"),
        ("DATA".to_owned(), "354"),
    ];
    for (command, wanted) in commands {
        let reply = client.command(&command);
        if !reply.starts_with(wanted) {
            return reply;
        }
    }
    client.raw(format!("{}.\r\n", admitted("state")).as_bytes());
    client.reply()
}

/// Loads a page in a session of its own.
fn page(lab: &Lab, path: &str) -> String {
    let link = lab.stdout(&["web", "--no-browser"]);
    let jar = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let http = jar.expect("a client");
    let base = link.split("/in/").next().expect("a base").to_owned();
    lab.wait(async {
        let entered = http.get(link.trim()).send().await.expect("answers");
        let cookie = entered.headers()["set-cookie"]
            .to_str()
            .expect("text")
            .to_owned();
        let request = http.get(format!("{base}{path}")).header("cookie", cookie);
        request
            .send()
            .await
            .expect("answers")
            .text()
            .await
            .expect("text")
    })
}

fn check(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).expect("a state");
    let (head, expected) = text
        .split_once("\n== ")
        .map_or((text.as_str(), ""), |(head, rest)| (head, rest));
    let said = observed(head);
    let written = format!("{}\n{said}", head.trim_end());
    if std::env::var("MAILFERRY_STATES").is_ok_and(|value| value == "write") {
        std::fs::write(file, written).expect("writes");
        return Ok(());
    }
    let expected = format!("\n== {expected}");
    if said.trim() == expected.trim() {
        return Ok(());
    }
    let differs = said
        .trim()
        .lines()
        .zip(expected.trim().lines())
        .find(|(said, expected)| said != expected);
    Err(format!(
        "{}: {differs:#?}\nall that is said:\n{said}",
        file.display()
    ))
}

/// Checks every state whose place in the sorted list is in this half, so that the halves run side by side.
fn check_part(part: usize, parts: usize) {
    let files = std::fs::read_dir(STATES).expect("states");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() > 20, "{files:?}");
    let mine = files
        .iter()
        .enumerate()
        .filter(|(place, _)| place % parts == part);
    let wrong: Vec<String> = mine.filter_map(|(_, file)| check(file).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn what_people_see_in_each_state_is_as_written_part_1() {
    check_part(0, 3);
}

#[test]
fn what_people_see_in_each_state_is_as_written_part_2() {
    check_part(1, 3);
}

#[test]
fn what_people_see_in_each_state_is_as_written_part_3() {
    check_part(2, 3);
}
