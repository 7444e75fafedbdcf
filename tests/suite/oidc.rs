//! People log in to the page at a certified OpenID provider that we did not write. A proxy with TLS stands in front of
//! the page, or the page uses TLS itself.

use std::process::Command;

use reqwest::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;

use crate::chromium::has_chromium;
use crate::identity::{self, JANE, Provider, file, modules, person};
use crate::support::{Lab, Plan, free_port};

/// No app that signs is registered at the provider.
const NO_APP: &str = r#"{"keys":[]}"#;

const OUTER: &str = "https://mail.example.com";

/// Plans a laboratory whose page people use through the provider. `who` are the lines about people, which the claim
/// `sub` tells apart unless these lines name another one.
fn plan(provider: &Provider, web: &str, who: &str) -> Plan {
    let plan = Plan::default();
    let issuer = &provider.url;
    let claim = match who.contains("claim =") {
        true => "",
        false => "claim = \"sub\"",
    };
    let page = format!(
        r#"[web]
{web}
[web.oidc]
issuer = "{issuer}"
client_id = "page"
client_secret = {{ file = "page-secret" }}
{claim}
{who}
[[listener]]"#
    );
    Plan {
        configuration: plan.configuration.replacen("[[listener]]", &page, 1),
        ..plan
    }
}

fn started(plan: Plan) -> Lab {
    let mut lab = Lab::stopped(plan);
    lab.write_private("page-secret", "page-secret");
    lab.start();
    lab
}

fn behind_a_proxy(provider: &Provider, who: &str) -> Lab {
    let web = format!("address = \"127.0.0.1:0\"\nexternal_url = \"{OUTER}\"");
    started(plan(provider, &web, who))
}

/// A browser that reaches the page through the proxy.
struct Browser<'a> {
    lab: &'a Lab,
    http: reqwest::Client,
    address: String,
    cookies: Vec<String>,
}

impl<'a> Browser<'a> {
    fn new(lab: &'a Lab) -> Self {
        let line = lab.logged(&["event=\"page\""]);
        let address = line.split("address=\"").nth(1).expect("an address");
        let http = reqwest::Client::builder().redirect(Policy::none()).build();
        Self {
            lab,
            http: http.expect("a client"),
            address: address.split('"').next().expect("an end").to_owned(),
            cookies: Vec::new(),
        }
    }

    /// Gets an address of the page. Returns the status, the redirect's target and the page, and keeps the cookies.
    fn get(&mut self, url: &str) -> (u16, String, String) {
        let path = url.strip_prefix(OUTER).unwrap_or(url);
        let request = self.http.get(format!("http://{}{path}", self.address));
        let request = request.header(HOST, "mail.example.com");
        let request = request.header(COOKIE, self.cookies.join("; "));
        let (status, target, cookies, page) = self.lab.wait(async {
            let response = request.send().await.expect("answers");
            let text =
                |value: &reqwest::header::HeaderValue| value.to_str().expect("text").to_owned();
            let headers = response.headers();
            let target = headers.get(LOCATION).map(text).unwrap_or_default();
            let cookies: Vec<String> = headers.get_all(SET_COOKIE).iter().map(text).collect();
            let status = response.status().as_u16();
            (
                status,
                target,
                cookies,
                response.text().await.expect("a page"),
            )
        });
        for cookie in cookies {
            let (pair, attributes) = cookie.split_once(';').expect("attributes");
            for wanted in ["HttpOnly", "Secure", "SameSite=", "Path=/;"] {
                assert!(attributes.contains(wanted), "{cookie}");
            }
            let name = pair.split('=').next().expect("a name");
            self.cookies
                .retain(|kept| !kept.starts_with(&format!("{name}=")));
            if !attributes.contains("Max-Age=0") {
                self.cookies.push(pair.to_owned());
            }
        }
        (status, target, page)
    }

    /// Begins a sign-in. Returns the address on the provider's side.
    fn begin(&mut self) -> String {
        let (status, target, _) = self.get("/log-in/begin");
        assert_eq!(status, 303);
        target
    }

    /// Signs in at the provider. Returns the address on the page to which the provider sends the browser.
    fn signed_in(&mut self, account: &str) -> String {
        let back = person(&[&self.begin(), account]);
        assert!(
            back.starts_with(&format!("{OUTER}/log-in/return?code=")),
            "{back}"
        );
        back
    }
}

#[test]
fn a_person_logs_in_at_a_real_provider_and_loses_the_role_by_a_reload() {
    if !identity::is_here() {
        return;
    }
    let provider = Provider::start(NO_APP);
    let who = "administrators = [\"Jane@example.com\"]\nreaders = [\"joe@example.com\"]";
    let lab = behind_a_proxy(&provider, who);
    let mut browser = Browser::new(&lab);
    assert_eq!(browser.get("/").1, "/log-in");
    let (_, _, page) = browser.get("/log-in");
    assert!(
        page.contains(&format!("href=\"{OUTER}/log-in/begin\"")),
        "{page}"
    );
    assert!(!page.contains("password"), "nobody has a password: {page}");
    let back = browser.signed_in(JANE);
    let (status, _, page) = browser.get(&back);
    assert!(
        status == 200 && page.contains("signed in as jane@example.com"),
        "{page}"
    );
    let (status, _, page) = browser.get("/");
    assert!(
        status == 200 && page.contains("You are jane@example.com (administrator)"),
        "{page}"
    );
    assert_eq!(
        browser.cookies.len(),
        1,
        "only the session's cookie remains"
    );
    lab.logged(&["page_logged_in", "jane@example.com"]);

    let file = std::fs::read_to_string(lab.path("mailferry.toml")).expect("reads");
    let swapped = file
        .replace("Jane@example.com", "x")
        .replace("joe@example.com", JANE);
    lab.configure(&swapped);
    lab.stdout(&["reload"]);
    let (_, _, page) = browser.get("/");
    assert!(page.contains("jane@example.com (read-only)"), "{page}");
    lab.configure(&swapped.replace(JANE, "joe@example.com"));
    lab.stdout(&["reload"]);
    assert_eq!(browser.get("/").1, "/log-in", "no role, no session");
}

#[test]
fn two_tabs_sign_in_at_once() {
    if !identity::is_here() {
        return;
    }
    let provider = Provider::start(NO_APP);
    let lab = behind_a_proxy(&provider, &format!("administrators = [\"{JANE}\"]"));
    let mut browser = Browser::new(&lab);
    let (first, second) = (browser.begin(), browser.begin());
    for there in [first, second] {
        let back = person(&[&there, JANE]);
        assert_eq!(browser.get(&back).0, 200);
    }
}

#[test]
fn keys_that_the_provider_changed_are_found() {
    if !identity::is_here() {
        return;
    }
    let port = free_port();
    let provider = Provider::start_for(port, OUTER, NO_APP);
    let lab = behind_a_proxy(&provider, &format!("administrators = [\"{JANE}\"]"));
    let log_in = || {
        let mut browser = Browser::new(&lab);
        let back = browser.signed_in(JANE);
        assert_eq!(browser.get(&back).0, 200);
    };
    log_in();
    drop(provider);
    let _provider = Provider::start_for(port, OUTER, NO_APP);
    log_in();
}

#[test]
fn a_person_without_a_role_is_told_and_gets_no_session() {
    if !identity::is_here() {
        return;
    }
    let provider = Provider::start(NO_APP);
    let lab = behind_a_proxy(&provider, "readers = [\"joe@example.com\"]");
    let mut browser = Browser::new(&lab);
    let back = browser.signed_in(JANE);
    let (status, _, page) = browser.get(&back);
    assert!(
        status == 403 && page.contains("You signed in as jane@example.com"),
        "{page}"
    );
    assert_eq!(browser.get("/").1, "/log-in");
    lab.logged(&["page_not_admitted", "contain the sub jane@example.com"]);
}

#[test]
fn roles_of_the_provider_decide_and_an_address_counts_only_if_it_is_verified() {
    if !identity::is_here() {
        return;
    }
    let provider = Provider::start(NO_APP);
    let lab = behind_a_proxy(
        &provider,
        "claim = \"roles\"\nadministrators = [\"role of jane@example.com\"]",
    );
    let mut browser = Browser::new(&lab);
    let back = browser.signed_in(JANE);
    assert_eq!(browser.get(&back).0, 200);
    drop(lab);
    let lab = behind_a_proxy(
        &provider,
        "claim = \"email\"\nreaders = [\"unverified@example.com\", \"jane@example.com\"]",
    );
    for (account, status) in [("unverified@example.com", 403), (JANE, 200)] {
        let mut browser = Browser::new(&lab);
        let back = browser.signed_in(account);
        assert_eq!(browser.get(&back).0, status, "{account}");
    }
}

#[test]
fn an_id_token_that_is_not_for_this_sign_in_is_refused() {
    if !identity::is_here() {
        return;
    }
    let provider = Provider::start(NO_APP);
    let cases = [
        ("audience@example.com", "Invalid audiences"),
        ("issuer@example.com", "Invalid issuer"),
        ("nonce@example.com", "Invalid nonce"),
        ("expired@example.com", "Expired"),
        (
            "forged@example.com",
            "Signature verification failed: Crypto",
        ),
        (
            "unsigned@example.com",
            "Signature verification failed: No signature",
        ),
    ];
    let names: Vec<&str> = cases.iter().map(|(account, _)| *account).collect();
    let lab = behind_a_proxy(&provider, &format!("administrators = {names:?}"));
    for (account, reason) in cases {
        let mut browser = Browser::new(&lab);
        let back = browser.signed_in(account);
        let (status, _, page) = browser.get(&back);
        assert!(
            status == 502 && page.contains("You are not signed in"),
            "{account}: {page}"
        );
        lab.logged(&["page_sign_in_failed", "the ID token is not valid", reason]);
        assert_eq!(browser.get("/").1, "/log-in", "{account}");
    }
}

#[test]
fn a_sign_in_belongs_to_one_browser_and_ends_once() {
    if !identity::is_here() {
        return;
    }
    let provider = Provider::start(NO_APP);
    let lab = behind_a_proxy(&provider, &format!("administrators = [\"{JANE}\"]"));
    let refused = |browser: &mut Browser, back: &str| {
        let (status, _, page) = browser.get(back);
        assert!(
            status == 403 && page.contains("no longer valid"),
            "{status}: {page}"
        );
        assert_eq!(browser.get("/").1, "/log-in");
    };
    let mut jane = Browser::new(&lab);
    let back = jane.signed_in(JANE);
    // Somebody who learned the address has no cookie, or the cookie of another sign-in.
    let mut other = Browser::new(&lab);
    refused(&mut other, &back);
    other.begin();
    refused(&mut other, &back);
    // Jane's own sign-in is not disturbed, and works once, even if the cookie was kept.
    let kept = jane.cookies.clone();
    assert_eq!(jane.get(&back).0, 200);
    jane.cookies = kept;
    refused(&mut jane, &back);
    // The code of an ended sign-in does not fit another sign-in.
    let code = |url: &str| {
        let url: url::Url = url.parse().expect("a URL");
        let code = url.query_pairs().find(|(name, _)| name == "code");
        code.expect("a code").1.into_owned()
    };
    let mut again = Browser::new(&lab);
    let next = again.signed_in(JANE);
    let (status, _, _) = again.get(&next.replace(&code(&next), &code(&back)));
    assert_eq!(status, 502);
    lab.logged(&["page_sign_in_failed", "invalid_grant"]);
    assert_eq!(again.get("/").1, "/log-in");
}

#[test]
fn what_the_provider_refuses_is_told_and_so_is_a_provider_that_is_not_there() {
    if !identity::is_here() {
        return;
    }
    let provider = Provider::start(NO_APP);
    let lab = behind_a_proxy(&provider, &format!("administrators = [\"{JANE}\"]"));
    let mut browser = Browser::new(&lab);
    let there: url::Url = browser.begin().parse().expect("a URL");
    let state = there.query_pairs().find(|(name, _)| name == "state");
    let state = state.expect("a state").1.into_owned();
    let denied = format!(
        "/log-in/return?error=access_denied&error_description=%3Cb%3EAADSTS50105&state={state}"
    );
    let (status, _, page) = browser.get(&denied);
    assert!(
        status == 403 && page.contains("access_denied &lt;b&gt;AADSTS50105"),
        "{page}"
    );
    drop(provider);
    drop(lab);
    let port = free_port();
    let gone = Plan::default();
    let page = format!(
        "[web]\naddress = \"127.0.0.1:0\"\nexternal_url = \"{OUTER}\"\n[web.oidc]\nissuer = \"http://localhost:{port}\"\nclient_id = \"page\"\nclaim = \"sub\"\nreaders = [\"{JANE}\"]\n[[listener]]"
    );
    let lab = Lab::with(Plan {
        configuration: gone.configuration.replacen("[[listener]]", &page, 1),
        ..gone
    });
    let (status, _, page) = Browser::new(&lab).get("/log-in/begin");
    assert!(status == 502 && page.contains("its log says why"), "{page}");
    lab.logged(&["page_sign_in_failed", "[web.oidc] issuer"]);
}

#[test]
fn a_person_with_chromium_logs_in_at_a_real_provider_without_a_script() {
    if !has_chromium() || !identity::is_here() {
        return;
    }
    let port = free_port();
    let outer = format!("{OUTER}:{port}");
    let provider = Provider::start_for(free_port(), &outer, NO_APP);
    let web = format!(
        "address = \"127.0.0.1:{port}\"\nexternal_url = \"{outer}\"\ncertificate = \"page.pem\"\nkey = \"page.key\""
    );
    let who = format!("administrators = [\"{JANE}\"]");
    let mut lab = Lab::stopped(plan(&provider, &web, &who));
    let made = rcgen::generate_simple_self_signed(vec!["mail.example.com".to_owned()]);
    let made = made.expect("makes");
    lab.write("page.pem", &made.cert.pem());
    lab.write_private("page.key", &made.signing_key.serialize_pem());
    lab.write_private("page-secret", "page-secret");
    lab.start();
    let shots = lab.path("shots").display().to_string();
    let output = Command::new("node")
        .arg(file("log_in.mjs"))
        .args([
            &modules().display().to_string(),
            &outer,
            "127.0.0.1",
            JANE,
            &shots,
        ])
        .env("CHROMIUM", "/usr/bin/chromium")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let saw: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    let text = |name: &str| saw[name].as_str().unwrap_or_default();
    assert!(text("first").contains("Sign in at localhost"), "{said}");
    assert!(
        text("last").contains("You are jane@example.com (administrator)"),
        "{said}"
    );
    assert_eq!(text("path"), "/", "{said}");
    assert_eq!(saw["findings"], serde_json::json!([]), "{said}");
}
