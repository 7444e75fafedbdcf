//! A real Prometheus scrapes the program: its metrics, the dashboard's queries, and the alert rules in an outage.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Lab, Plan, admitted, free_port, have};
use crate::web::with_page;

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/alerts.yml");
const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/grafana.json");

/// A Prometheus that ends with this value.
struct Prometheus {
    child: Child,
    base: reqwest::Url,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `target` every second. Its rules do not wait.
    fn start(folder: &Path, target: &str) -> Self {
        let rules = std::fs::read_to_string(ALERTS).expect("rules");
        let at_once = rules
            .lines()
            .filter(|line| !line.trim().starts_with("for: "));
        let at_once = at_once.collect::<Vec<_>>().join("\n");
        std::fs::write(folder.join("rules.yml"), at_once).expect("writes");
        let configuration = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
             scrape_configs:\n- job_name: mailferry\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        std::fs::write(folder.join("prometheus.yml"), configuration).expect("writes");
        let address = format!("127.0.0.1:{}", free_port());
        let child = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                folder.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let base = format!("http://{address}/api/v1/").parse().expect("a URL");
        Self { child, base }
    }

    /// Returns the data of an API response; `None` while Prometheus starts.
    fn get(&self, lab: &Lab, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let mut url = self.base.join(path).expect("a URL");
        url.query_pairs_mut().extend_pairs(query);
        let response = lab.wait(async { reqwest::get(url).await.ok()?.text().await.ok() })?;
        let value: Value = serde_json::from_str(&response).ok()?;
        assert!(value["status"] == "success", "{path} {query:?}: {value}");
        Some(value["data"].clone())
    }

    /// Returns the number of series of a query.
    fn count(&self, lab: &Lab, query: &str) -> Option<usize> {
        let data = self.get(lab, "query", &[("query", query)])?;
        Some(data["result"].as_array().map_or(0, Vec::len))
    }

    fn is_firing(&self, lab: &Lab, name: &str) -> bool {
        let alerts = self.get(lab, "alerts", &[]).unwrap_or_default();
        let mut alerts = alerts["alerts"].as_array().into_iter().flatten();
        alerts.any(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing")
    }
}

/// Returns the queries of the dashboard.
fn queries() -> Vec<String> {
    let text = std::fs::read_to_string(DASHBOARD).expect("a dashboard");
    let board: Value = serde_json::from_str(&text).expect("JSON");
    let panels = board["panels"].as_array().expect("panels").clone();
    let targets = panels
        .into_iter()
        .flat_map(|panel| panel["targets"].as_array().cloned());
    let queries = targets
        .flatten()
        .map(|target| target["expr"].as_str().map(str::to_owned));
    queries.map(|query| query.expect("a query")).collect()
}

/// Returns the page's address.
fn page(lab: &Lab) -> String {
    let link = lab.stdout(&["web", "--no-browser"]);
    let url: reqwest::Url = link.trim().parse().expect("a link");
    format!("127.0.0.1:{}", url.port().expect("a port"))
}

#[test]
fn the_metrics_and_rules_are_as_prometheus_wants_them() {
    if !have(
        "the_metrics_and_rules_are_as_prometheus_wants_them",
        &["promtool"],
    ) {
        return;
    }
    let checked = Command::new("promtool")
        .args(["check", "rules", ALERTS])
        .output();
    let checked = checked.expect("runs");
    assert!(checked.status.success(), "{checked:?}");
    let lab = with_page(Plan::default());
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"550 5.1.10 unknown"}}"#);
    lab.send("notifications@example.com", &admitted("fails"));
    lab.send("notifications@example.com", &admitted("arrives"));
    lab.empties();
    let url = format!("http://{}/metrics", page(&lab));
    let (_, text) = lab.get(url.parse().expect("a URL"));
    lab.write("metrics", &text);
    let file = std::fs::File::open(lab.path("metrics")).expect("a file");
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(file)
        .output();
    let checked = checked.expect("runs");
    assert!(
        checked.status.success(),
        "{}\n{text}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let request = reqwest::Client::new().get(&url);
    let request = request.header("Accept", "application/openmetrics-text;version=1.0.0");
    let response = lab.wait(request.send()).expect("answers");
    let kind = response.headers()["content-type"]
        .to_str()
        .expect("text")
        .to_owned();
    let text = lab.wait(response.text()).expect("text");
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn prometheus_answers_the_dashboards_queries_and_alerts_in_an_outage() {
    let name = "prometheus_answers_the_dashboards_queries_and_alerts_in_an_outage";
    if !have(name, &["prometheus"]) {
        return;
    }
    let plan = Plan::default();
    let limited = ("recipients_per_day = 0", "recipients_per_day = 100");
    let lab = with_page(Plan {
        configuration: plan.configuration.replace(limited.0, limited.1),
        ..plan
    });
    let folder = tempfile::tempdir().expect("a folder");
    let prometheus = Prometheus::start(folder.path(), &page(&lab));
    lab.fault(r#"{"stage":"mail","action":{"reply":"451 4.3.2 later"}}"#);
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"550 5.1.10 unknown"}}"#);
    lab.send("notifications@example.com", &admitted("deferred"));
    lab.send("notifications@example.com", &admitted("another"));
    lab.empties();
    lab.wait_for("Prometheus to scrape twice", || {
        let scraped = prometheus.count(&lab, "changes(mailferry_start_time_seconds[10s]) == 0");
        (scraped? > 0).then_some(())
    });
    // These have no data: nothing bounced, nothing was refused, the client secret has no date, and the queue is
    // empty.
    let empty = ["bounced", "refused", "credential_expiry", "messages_oldest"];
    for query in queries() {
        lab.wait_for(&format!("data for {query}"), || {
            let count = prometheus.count(&lab, &query)?;
            (count > 0 || empty.iter().any(|name| query.contains(name))).then_some(())
        });
    }
    assert!(!prometheus.is_firing(&lab, "MailferryServerHeld"));
    lab.stdout(&["hold", "notifications"]);
    lab.wait_for("the alert", || {
        prometheus
            .is_firing(&lab, "MailferryServerHeld")
            .then_some(())
    });
    lab.stdout(&["release", "notifications"]);
    lab.wait_for("the all-clear", || {
        (!prometheus.is_firing(&lab, "MailferryServerHeld")).then_some(())
    });
    drop(lab);
}

#[test]
fn prometheus_notices_that_the_program_is_down() {
    if !have(
        "prometheus_notices_that_the_program_is_down",
        &["prometheus"],
    ) {
        return;
    }
    let mut lab = with_page(Plan::default());
    let folder = tempfile::tempdir().expect("a folder");
    let prometheus = Prometheus::start(folder.path(), &page(&lab));
    lab.wait_for("Prometheus to scrape", || {
        (prometheus.count(&lab, "up == 1")? > 0).then_some(())
    });
    lab.stop();
    lab.wait_for("the alert", || {
        prometheus.is_firing(&lab, "MailferryDown").then_some(())
    });
}
