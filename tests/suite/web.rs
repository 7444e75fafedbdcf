//! The page, as a browser uses it, and as a hostile page in the same browser would try to use it.

use std::time::Duration;

use mailferry::base::Timestamp;
use reqwest::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;

use crate::connect::{Connect, answered, browse, plan};
use crate::support::{Lab, Plan, admitted, id_of};

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
        let link = lab.stdout(&["web", "--no-browser"]).trim().to_owned();
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
        let request = self.http.post(format!("{}{path}", self.base));
        let form = "application/x-www-form-urlencoded";
        let request = request
            .header(COOKIE, &self.cookie)
            .header("content-type", form);
        self.answer(request.body(format!("form_token={form_token}")))
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
    let (status, _, page) = browser.get("/");
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
    assert_eq!(back, "/");
    let (_, _, page) = browser.get("/");
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
    let (_, _, page) = browser.get("/");
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
        (503, "all sending servers are held\n".to_owned())
    );
}
