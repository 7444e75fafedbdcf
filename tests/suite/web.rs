//! The page, as a browser uses it, and as a hostile page in the same browser would try to use it.

use std::time::Duration;

use mailferry::base::Timestamp;
use reqwest::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;

use crate::connect::{Connect, answered, browse, plan};
use crate::support::{Lab, PROGRAM, Plan, admitted, id_of};

const WEB: &str = "[web]\naddress = \"127.0.0.1:0\"\n";

pub fn with_page(plan: Plan) -> Lab {
    let configuration =
        plan.configuration
            .replacen("[[listener]]", &format!("{WEB}[[listener]]"), 1);
    Lab::with(Plan {
        configuration,
        ..plan
    })
}

/// A browser that has a session or is about to get one.
struct Browser<'a> {
    lab: &'a Lab,
    http: reqwest::Client,
    base: String,
    cookie: String,
}

/// The status, Location and page of a response.
type Answer = (u16, String, String);

impl<'a> Browser<'a> {
    /// Opens the link that `mailferry web` prints.
    fn enter(lab: &'a Lab) -> (Self, String) {
        Self::enter_with(lab, &["web", "--no-browser"])
    }

    /// Opens the link that a command prints.
    fn enter_with(lab: &'a Lab, command: &[&str]) -> (Self, String) {
        let link = lab.stdout(command).trim().to_owned();
        let base = link.split("/in/").next().expect("a base").to_owned();
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .build()
            .expect("a client");
        let mut browser = Self {
            lab,
            http,
            base,
            cookie: String::new(),
        };
        let request = browser.http.get(&link);
        let response = lab.wait(request.send()).expect("answers");
        assert_eq!(response.status(), 303);
        let cookie = response.headers()[SET_COOKIE].to_str().expect("text");
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
            "{cookie}"
        );
        browser.cookie = cookie.split(';').next().expect("a pair").to_owned();
        (browser, link)
    }

    fn answer(&self, request: reqwest::RequestBuilder) -> Answer {
        self.lab.wait(async {
            let response = request.send().await.expect("answers");
            let policy = response.headers()["content-security-policy"]
                .to_str()
                .expect("text");
            assert!(
                policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'")
            );
            let location = response
                .headers()
                .get(LOCATION)
                .map(|to| to.to_str().expect("text").to_owned());
            let status = response.status().as_u16();
            (
                status,
                location.unwrap_or_default(),
                response.text().await.expect("a page"),
            )
        })
    }

    fn get(&self, path: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.base));
        self.answer(request.header(COOKIE, &self.cookie))
    }

    fn post(&self, path: &str, form_token: &str) -> Answer {
        self.post_form(path, &format!("form_token={form_token}"))
    }

    fn post_form(&self, path: &str, body: &str) -> Answer {
        let request = self.http.post(format!("{}{path}", self.base));
        let form = "application/x-www-form-urlencoded";
        let request = request
            .header(COOKIE, &self.cookie)
            .header("content-type", form);
        self.answer(request.body(body.to_owned()))
    }

    fn form_token(&self) -> String {
        let (_, _, page) = self.get("/");
        let begin = page
            .split("name=\"form_token\" value=\"")
            .nth(1)
            .expect("a form");
        begin.split('"').next().expect("a value").to_owned()
    }
}

#[test]
fn a_person_connects_and_tests_on_the_page() {
    let lab = with_page(plan("authorization_code"));
    let (browser, _) = Browser::enter(&lab);
    let (status, _, page) = browser.get("/servers");
    assert!(
        status == 200 && page.contains("No token") && page.contains("Connect"),
        "{page}"
    );
    let token = browser.form_token();
    let (status, place, _) = browser.post("/connect/jane", &token);
    assert_eq!(status, 303);
    let (_, _, page) = browser.get(&place);
    let provider = page
        .split("href=\"https://")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a link");
    let provider = format!("https://{}", provider.replace("&amp;", "&"));
    assert!(
        page.contains("http-equiv=\"refresh\""),
        "it reloads without a script: {page}"
    );
    assert_eq!(browse(&lab, &provider, "jane@example.com", "yes").0, 200);
    // The page reloads itself until the sign-in has ended.
    let back = lab.wait_for("redirect back", || {
        let (status, back, _) = browser.get(&place);
        (status == 303).then_some(back)
    });
    assert_eq!(back, "/servers");
    let (_, _, page) = browser.get("/servers");
    assert!(
        page.contains("Token valid") && page.contains("jane@example.com"),
        "{page}"
    );
    let (status, _, page) = browser.post("/test/jane", &token);
    assert!(
        status == 200 && page.contains("XOAUTH2 as jane@example.com") && !page.contains("failed"),
        "{page}"
    );
}

#[test]
fn only_the_browser_with_the_link_gets_in() {
    let lab = with_page(Plan::default());
    let (browser, link) = Browser::enter(&lab);
    assert_eq!(
        browser.answer(browser.http.get(&link)).0,
        403,
        "a link works once"
    );
    assert_eq!(
        browser
            .answer(browser.http.get(format!("{}/", browser.base)))
            .0,
        403
    );
    assert_eq!(browser.post("/test/notifications", "forged").0, 403);
    let elsewhere = browser.http.get(format!("{}/", browser.base));
    let elsewhere = elsewhere
        .header(COOKIE, &browser.cookie)
        .header(HOST, "evil.example:80");
    assert_eq!(browser.answer(elsewhere).0, 421);
    assert_eq!(browser.get("/").0, 200);
    assert!(!lab.log().contains(&link), "the link is a secret");
}

#[test]
fn behind_a_proxy_the_browser_comes_back_to_the_page() {
    let plan = plan("authorization_code");
    let page = format!("{WEB}external_url = \"https://mail.example.com\"\n[[listener]]");
    let redirect = "redirect = \"https://mail.example.com/microsoft_outlook/confirm\"\n";
    let configuration = plan.configuration.replacen("[[listener]]", &page, 1);
    let app = "[oauth.contoso]\n";
    let mut lab = Lab::with(Plan {
        configuration: configuration.replacen(app, &format!("{app}{redirect}"), 1),
        ..plan
    });
    let line = lab.logged(&["event=\"page\""]);
    let address = line
        .split("address=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("an address")
        .to_owned();
    let http = reqwest::Client::builder().redirect(Policy::none()).build();
    let http = http.expect("a client");
    // The proxy uses TLS with the browser, and passes the browser's requests on.
    let pass = |url: &str, host: &str| {
        let path = url.strip_prefix("https://mail.example.com").expect("ours");
        let request = http
            .get(format!("http://{address}{path}"))
            .header(HOST, host);
        lab.wait(async {
            let response = request.send().await.expect("answers");
            (
                response.status().as_u16(),
                response.text().await.expect("a page"),
            )
        })
    };
    assert_eq!(
        pass("https://mail.example.com/metrics", "mail.example.com").0,
        404
    );
    let connect = Connect::begin(&lab, &["--no-browser"]);
    let (url, fields) = answered(&connect.url(), "jane@example.com", "yes");
    let back = lab.redirected(url, &fields);
    assert!(back.contains("/microsoft_outlook/confirm?code="), "{back}");
    assert_eq!(pass(&back, "elsewhere.example").0, 421);
    assert_eq!(
        pass(&back.replace("/confirm", "/other"), "mail.example.com").0,
        400
    );
    let (status, page) = pass(&back, "mail.example.com");
    assert!(
        status == 200 && page.contains("jane@example.com has signed in"),
        "{page}"
    );
    assert_eq!(
        pass(&back, "mail.example.com").0,
        400,
        "a state is valid once"
    );
    assert!(connect.ended().0);
    lab.kill();
    let (well, said) = Connect::begin(&lab, &["--no-browser"]).ended();
    assert!(
        !well && said.contains("start `mailferry serve` first, or use `--device`"),
        "{said}"
    );
}

#[test]
fn a_secret_that_expires_soon_is_in_the_log_on_the_page_and_a_metric() {
    let soon = Timestamp::now().after(Duration::from_secs(10 * 24 * 3_600));
    let date = soon.to_string()[..10].to_owned();
    let plan = Plan::default();
    let app = "[oauth.contoso]\n";
    let expires = format!("{app}client_secret_expires = {date}\n");
    let lab = with_page(Plan {
        configuration: plan.configuration.replacen(app, &expires, 1),
        ..plan
    });
    lab.logged(&["credential_expires", "oauth=\"contoso\"", &date]);
    let (browser, _) = Browser::enter(&lab);
    assert!(lab.run(&["test", "notifications"]).status.success());
    let (_, _, page) = browser.get("/servers");
    assert!(
        page.contains("Needs attention") && page.contains("secret or certificate expires soon"),
        "{page}"
    );
    let request = browser.http.get(format!("{}/metrics", browser.base));
    let text = lab.wait(async { request.send().await.expect("answers").text().await });
    let text = text.expect("text");
    let ends = Timestamp::of_date(&date).expect("a date").0 / 1_000;
    for line in [
        format!("mailferry_credential_expiry_timestamp_seconds{{oauth=\"contoso\"}} {ends}.0"),
        "mailferry_token_state{server=\"notifications\"} 1.0".into(),
        "mailferry_server_held{server=\"notifications\"} 0.0".into(),
        "mailferry_events_total{event=\"credential_expires\",server=\"\"} 1".into(),
    ] {
        assert!(
            text.lines().any(|told| told == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn messages_are_counted_by_server_and_state() {
    let lab = with_page(Plan::default());
    let (browser, _) = Browser::enter(&lab);
    lab.stdout(&["hold", "notifications"]);
    let send = |subject| id_of(&lab.send("notifications@example.com", &admitted(subject)));
    let (first, _) = (send("one"), send("two"));
    lab.queued(2);
    lab.stdout(&["queue", "hold", &first]);
    let request = browser.http.get(format!("{}/metrics", browser.base));
    let text = lab.wait(async { request.send().await.expect("answers").text().await });
    let text = text.expect("text");
    for name in ["queued", "held"] {
        let line = format!("mailferry_messages_{name}{{server=\"notifications\"}} 1.0");
        assert!(text.lines().any(|told| told == line), "{line}: {text}");
    }
}

#[test]
fn connections_that_say_nothing_take_a_few_places_and_no_more() {
    let lab = with_page(Plan::default());
    let link = lab.stdout(&["web", "--no-browser"]);
    let url = reqwest::Url::parse(link.trim()).expect("a link");
    let address = (url.host_str().expect("a host"), url.port().expect("a port"));
    let open = || std::net::TcpStream::connect(address).expect("connects");
    let silent: Vec<_> = (0..200).map(|_| open()).collect();
    let is_closed = |mut stream: &std::net::TcpStream| {
        stream.set_nonblocking(true).expect("can");
        matches!(std::io::Read::read(&mut stream, &mut [0]), Ok(0))
    };
    // The remaining connections close as well after they have been silent for too long.
    let closed = || {
        let count = silent.iter().filter(|stream| is_closed(stream)).count();
        (count >= 200 - 64).then_some(())
    };
    lab.wait_for("all but 64 closed", closed);
    lab.send("notifications@example.com", &admitted("all the same"));
    lab.delivered(1);
}

#[test]
fn health_and_readiness_are_there_without_a_session() {
    let lab = with_page(Plan::default());
    let link = lab.stdout(&["web", "--no-browser"]);
    let url = reqwest::Url::parse(link.trim()).expect("a link");
    let get = |path: &str| lab.get(url.join(path).expect("a path"));
    assert_eq!(get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get("/readyz"), (200, "ok\n".to_owned()));
    let (_, metrics) = get("/metrics");
    for line in [
        &format!(
            "mailferry_build_info{{version=\"{}\"}} 1.0",
            env!("CARGO_PKG_VERSION")
        ),
        "mailferry_queue_oldest_age_seconds 0.0",
        "mailferry_spool_has_room 1.0",
        "mailferry_recipients_of_day{server=\"notifications\"} 0.0",
    ] {
        assert!(
            metrics.lines().any(|told| told == line),
            "{line} is not in\n{metrics}"
        );
    }
    lab.stdout(&["hold", "notifications"]);
    assert_eq!(get("/healthz").0, 200);
    assert_eq!(
        get("/readyz"),
        (
            503,
            "all sending servers are held or need a sign-in\n".to_owned()
        )
    );
}

const PEOPLE: &str = r#"
[[web.user]]
name = "victor"
password = { file = "viewer.argon2" }

[[web.user]]
name = "ada"
password = { file = "admin.argon2" }
role = "administrator"
"#;

/// Returns a laboratory whose page two people may log in to, and the configuration.
fn with_people() -> (Lab, String) {
    let plan = Plan::default();
    let page = format!("{WEB}{PEOPLE}\n[[listener]]");
    let configuration = plan.configuration.replacen("[[listener]]", &page, 1);
    let mut lab = Lab::stopped(Plan {
        configuration: configuration.clone(),
        ..plan
    });
    for (file, password) in [("viewer.argon2", "look"), ("admin.argon2", "rule")] {
        let hash = argon2_hash(password);
        lab.write_private(file, &hash);
    }
    lab.start();
    (lab, configuration)
}

fn argon2_hash(password: &str) -> String {
    use std::io::Write;
    let mut command = std::process::Command::new(PROGRAM);
    command.arg("hash-password");
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut input = child.stdin.take().expect("piped");
    writeln!(input, "{password}").expect("writes");
    drop(input);
    let output = child.wait_with_output().expect("ends");
    String::from_utf8(output.stdout).expect("text")
}

impl<'a> Browser<'a> {
    /// A browser without a session.
    fn outside(lab: &'a Lab) -> Self {
        let link = lab.stdout(&["web", "--no-browser"]);
        let http = reqwest::Client::builder().redirect(Policy::none()).build();
        Self {
            lab,
            http: http.expect("a client"),
            base: link.split("/in/").next().expect("a base").to_owned(),
            cookie: String::new(),
        }
    }

    /// Logs in. Returns the status.
    fn log_in(&mut self, name: &str, password: &str) -> u16 {
        let request = self.http.post(format!("{}/log-in", self.base));
        let form = request.header("content-type", "application/x-www-form-urlencoded");
        let form = form.body(format!("name={name}&password={password}"));
        let response = self.lab.wait(form.send()).expect("answers");
        if let Some(cookie) = response.headers().get(SET_COOKIE) {
            let cookie = cookie.to_str().expect("text");
            self.cookie = cookie.split(';').next().expect("a pair").to_owned();
        }
        response.status().as_u16()
    }
}

#[test]
fn people_log_in_with_a_password_and_lose_their_session_with_their_role() {
    let (lab, configuration) = with_people();
    let mut viewer = Browser::outside(&lab);
    assert_eq!(viewer.get("/").1, "/log-in");
    assert_eq!(viewer.log_in("victor", "rule"), 403);
    assert_eq!(viewer.log_in("nobody", "look"), 403);
    assert_eq!(viewer.log_in("victor", "look"), 303);
    let mut admin = Browser::outside(&lab);
    assert_eq!(admin.log_in("ada", "rule"), 303);
    let (_, _, page) = viewer.get("/servers");
    assert!(page.contains("You are victor (read-only)"), "{page}");
    assert!(!page.contains("/hold"), "a viewer has no buttons: {page}");
    let token = viewer.form_token();
    assert_eq!(viewer.post("/servers/notifications/hold", &token).0, 403);
    assert_eq!(viewer.post("/test/notifications", &token).0, 403);
    let token = admin.form_token();
    assert_eq!(admin.post("/servers/notifications/hold", &token).0, 303);
    lab.logged(&["event=\"page_action\"", "name=\"ada\"", "action=\"hold\""]);
    assert!(admin.get("/servers").2.contains("by ada on the page"));
    assert_eq!(admin.post("/servers/notifications/release", &token).0, 303);
    // Ada may only look from now on, and Victor has gone.
    let (before, after) = configuration
        .split_once("[[web.user]]\nname = \"ada\"")
        .expect("ada");
    let (start, _) = before.split_once("[[web.user]]").expect("victor");
    let demoted = format!("{start}[[web.user]]\nname = \"ada\"{after}");
    lab.configure(&demoted.replace("role = \"administrator\"", "role = \"read-only\""));
    lab.stdout(&["reload"]);
    assert_eq!(viewer.get("/").1, "/log-in", "this session is over");
    assert_eq!(admin.post("/servers/notifications/hold", &token).0, 403);
    assert_eq!(admin.get("/servers").0, 200);
    assert_eq!(admin.post("/log-out", &token).0, 200);
    assert_eq!(admin.get("/").1, "/log-in");
}

#[test]
fn too_many_wrong_passwords_stop_even_the_right_one() {
    let (lab, _) = with_people();
    let mut browser = Browser::outside(&lab);
    // They are counted per name, so one person cannot lock out another.
    let wrong = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..10)
            .map(|_| {
                let mut browser = Browser::outside(&lab);
                scope.spawn(move || browser.log_in("victor", "wrong"))
            })
            .collect();
        tries
            .into_iter()
            .all(|it| it.join().expect("no panic") == 403)
    });
    assert!(wrong);
    assert_eq!(browser.log_in("victor", "look"), 403);
    assert_eq!(browser.log_in("ada", "rule"), 303);
}

#[test]
fn a_link_for_reading_shows_everything_but_contents_and_changes_nothing() {
    let lab = with_page(Plan::default());
    lab.stdout(&["hold", "notifications"]);
    let id = id_of(&lab.send("notifications@example.com", &admitted("stuck")));
    let (viewer, _) = Browser::enter_with(&lab, &["web", "--no-browser", "--read-only"]);
    let (admin, _) = Browser::enter(&lab);
    let (status, _, page) = viewer.get(&format!("/messages/{id}"));
    assert!(
        status == 200 && page.contains("by hand") && !page.contains("Retry"),
        "{page}"
    );
    assert_eq!(viewer.get(&format!("/messages/{id}/export")).0, 403);
    let token = viewer.form_token();
    for action in ["retry", "hold", "release", "delete"] {
        assert_eq!(
            viewer.post(&format!("/messages/{id}/{action}"), &token).0,
            403
        );
    }
    assert_eq!(viewer.get("/sign-in/any").0, 403);
    let (status, _, content) = admin.get(&format!("/messages/{id}/export"));
    assert!(
        status == 200 && content.contains("Subject: stuck"),
        "{content}"
    );
    let other = admin.form_token();
    assert_eq!(
        viewer.post("/log-out", &other).0,
        403,
        "another session's token"
    );
    assert_eq!(admin.post(&format!("/messages/{id}/hold"), &other).0, 303);
    let found = admin.get("/messages?state=held&user=erp").2;
    assert!(found.contains(&id), "{found}");
    let found = admin.get("/messages?state=uncertain&user=erp").2;
    assert!(!found.contains(&id), "{found}");
    let held = admin.get(&format!("/messages/{id}")).2;
    assert!(
        held.contains("by operator on the page") && held.contains("Release"),
        "{held}"
    );
    let (status, _, page) = admin.post(&format!("/messages/{id}/delete"), &other);
    assert!(
        status == 200 && page.contains("cannot be brought back"),
        "it asks: {page}"
    );
    let sure = format!("form_token={other}&sure=yes");
    assert_eq!(
        admin.post_form(&format!("/messages/{id}/delete"), &sure).0,
        303
    );
    let gone = admin.get(&format!("/messages/{id}")).2;
    assert!(gone.contains("deleted by an operator"), "{gone}");
    lab.logged(&[
        "event=\"page_action\"",
        "action=\"delete\"",
        &format!("on=\"{id}\""),
    ]);
}

#[test]
fn wrong_and_huge_parameters_get_an_answer() {
    let lab = with_page(Plan::default());
    let (browser, _) = Browser::enter(&lab);
    let long = "x".repeat(5_000);
    for (path, status) in [
        ("/messages/0000000000000".to_owned(), 404),
        ("/messages/..%2f..%2fetc".to_owned(), 404),
        (format!("/messages/{long}"), 404),
        (format!("/messages?about={long}"), 200),
        (
            "/messages?about=%3Cscript%3E&state=nonsense&from=nonsense".to_owned(),
            200,
        ),
        ("/messages?since=yesterday".to_owned(), 200),
        ("/messages?state=waiting&server=nobody".to_owned(), 200),
        (format!("/route?from={long}"), 200),
        ("/route?from=jane%40example.com&user=nobody".to_owned(), 200),
        ("/?span=century".to_owned(), 200),
        ("/nothing".to_owned(), 404),
    ] {
        let (found, _, page) = browser.get(&path);
        assert_eq!(found, status, "{path}: {page}");
        assert!(!page.contains("<script>"), "{path}");
    }
    let token = browser.form_token();
    assert_eq!(browser.post("/servers/nobody/hold", &token).0, 400);
    assert_eq!(browser.post("/messages/0000000000000/retry", &token).0, 404);
    assert_eq!(
        browser.post("/messages/0000000000000/nonsense", &token).0,
        404
    );
    let huge = format!("form_token={token}&to={}", "x".repeat(3_000_000));
    // By a client of its own: the page closes this connection, which must not be used for the next request.
    let alone = reqwest::Client::new();
    let request = alone.post(format!("{}/test/notifications", browser.base));
    let request = request
        .header(COOKIE, &browser.cookie)
        .header("content-type", "application/x-www-form-urlencoded");
    // The connection may be closed before the client has sent everything.
    let response = lab.wait(request.body(huge).send());
    assert!(response.is_err() || response.is_ok_and(|it| it.status() == 403));
    let wrong = format!("form_token={token}&to=nobody");
    let (status, _, page) = browser.post_form("/test/notifications", &wrong);
    assert!(status == 400 && page.contains("nobody"), "{page}");
}

#[test]
fn a_test_shows_its_steps_and_sends_a_message() {
    let lab = with_page(Plan::default());
    let (browser, _) = Browser::enter(&lab);
    let token = browser.form_token();
    let form = format!("form_token={token}&to=someone%40example.net");
    let (status, _, page) = browser.post_form("/test/notifications", &form);
    assert!(
        status == 200 && page.contains("All steps succeeded"),
        "{page}"
    );
    assert!(page.trim_end().ends_with("</html>"), "{page}");
    assert_eq!(
        lab.delivered(1)[0].recipients[0].as_str(),
        "someone@example.net"
    );
    let unknown = browser
        .post_form("/test/nobody", &format!("form_token={token}"))
        .2;
    assert!(
        unknown.contains("there is no server named nobody"),
        "{unknown}"
    );
}

#[test]
fn an_open_page_is_told_of_changes() {
    use std::io::{BufRead, BufReader, Write};
    let lab = with_page(Plan::default());
    let (browser, _) = Browser::enter(&lab);
    let address = browser.base.strip_prefix("http://").expect("an address");
    let mut stream = std::net::TcpStream::connect(address).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    let cookie = &browser.cookie;
    write!(
        stream,
        "GET /live HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\r\n"
    )
    .expect("writes");
    let mut lines = BufReader::new(stream)
        .lines()
        .map(|line| line.expect("a line"));
    assert!(
        lines
            .by_ref()
            .any(|line| line == "content-type: text/event-stream")
    );
    lab.send("notifications@example.com", &admitted("news"));
    assert!(lines.any(|line| line == "event: changed"));
}

#[test]
fn off_loopback_the_page_is_reached_by_address_and_through_the_proxy() {
    let plan = Plan::default();
    let page = "[web]\naddress = \"0.0.0.0:0\"\nproxy = true\nexternal_url = \"https://mail.example.com\"\n[[listener]]";
    let lab = Lab::with(Plan {
        configuration: plan.configuration.replacen("[[listener]]", page, 1),
        ..plan
    });
    let line = lab.logged(&["event=\"page\""]);
    let port = line
        .split("address=\"0.0.0.0:")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let port = port.expect("a port");
    let status = |path: &str, host: &str| {
        let request = reqwest::Client::new().get(format!("http://127.0.0.1:{port}{path}"));
        lab.wait(request.header(HOST, host).send())
            .expect("answers")
            .status()
            .as_u16()
    };
    assert_eq!(status("/metrics", &format!("127.0.0.1:{port}")), 200);
    assert_eq!(status("/metrics", &format!("192.0.2.1:{port}")), 200);
    assert_eq!(status("/metrics", "mail.example.com"), 404);
    assert_eq!(status("/", "mail.example.com"), 403);
    assert_eq!(status("/", "evil.example"), 421);
    assert_eq!(status("/metrics", "192.0.2.1:1"), 421);
    assert_eq!(status("/healthz", "any.example"), 200);
}

#[test]
fn with_a_certificate_the_page_uses_tls_itself_and_may_listen_elsewhere() {
    let plan = Plan::default();
    let page = "[web]\naddress = \"0.0.0.0:0\"\ncertificate = \"page.pem\"\nkey = \"page.key\"\n[[listener]]";
    let mut lab = Lab::stopped(Plan {
        configuration: plan.configuration.replacen("[[listener]]", page, 1),
        ..plan
    });
    let missing = lab.run(&["check"]);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(said.contains("[web] certificate: "), "{said}");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("makes");
    lab.write("page.pem", &made.cert.pem());
    lab.write_private("page.key", &made.signing_key.serialize_pem());
    lab.start();
    let link = lab
        .stdout(&["web", "--no-browser"])
        .replace("0.0.0.0", "127.0.0.1");
    assert!(link.starts_with("https://127.0.0.1:"), "{link}");
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("a certificate");
    let http = reqwest::Client::builder()
        .tls_certs_only([root])
        .redirect(Policy::none());
    let http = http.build().expect("a client");
    let response = lab.wait(http.get(link.trim()).send()).expect("answers");
    assert_eq!(response.status(), 303);
    let cookie = response.headers()[SET_COOKIE].to_str().expect("text");
    assert!(cookie.contains("; Secure"), "{cookie}");
    // A client without TLS gets nothing, and does not disturb the next one.
    let plain = link.trim().replacen("https", "http", 1);
    assert!(lab.wait(reqwest::get(plain)).is_err());
    let base = link.split("/in/").next().expect("a base");
    let healthy = lab
        .wait(http.get(format!("{base}/healthz")).send())
        .expect("answers");
    assert_eq!(healthy.status(), 200);
}
