//! Bad configurations as plain files, `tests/configurations/*.toml`. Each `# expect:` line has a line number
//! and parts of the error that the program prints for that line. The program must print exactly these errors
//! and exit with 78. Files in `doubtful/` are valid, and each `# warns:` line has parts of a warning.

use std::path::Path;
use std::process::Command;

use crate::support::{PROGRAM, have};

fn check(file: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(PROGRAM)
        .arg("check")
        .arg("--config")
        .arg(file)
        .output()
        .expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn what_is_wrong_is_told_with_line_key_and_remedy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configurations");
    let place = tempfile::tempdir().expect("a folder");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("reads");
        let file = place.path().join(path.file_name().expect("a name"));
        // Set the mode explicitly: a simulated daemon in this process may have changed the umask.
        write(&file, &text, 0o644);
        secret_files(place.path());
        let (code, _, said) = check(&file);
        assert_eq!(code, Some(78), "{}: {said}", path.display());
        let mut expectations = 0;
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
        {
            let mut parts = line.split(" | ");
            let start = format!(
                "{}:{}: ",
                file.display(),
                parts.next().expect("a line number")
            );
            let parts: Vec<&str> = parts.collect();
            let is_said = said.lines().any(|told| {
                told.starts_with(&start) && parts.iter().all(|part| told.contains(part))
            });
            assert!(is_said, "{}: {line:?} is not in\n{said}", path.display());
            expectations += 1;
        }
        assert_eq!(
            said.lines().count(),
            expectations,
            "{} says more: {said}",
            path.display()
        );
        count += 1;
    }
    assert!(count >= 10, "only {count} files were found");
}

#[test]
fn what_is_doubtful_is_warned_of() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configurations/doubtful");
    let place = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("makes");
    for (name, pem) in [
        ("c.pem", made.cert.pem()),
        ("k.pem", made.signing_key.serialize_pem()),
    ] {
        write(&place.path().join(name), &pem, 0o644);
    }
    password_file(place.path());
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("reads");
        let file = place.path().join(path.file_name().expect("a name"));
        std::fs::write(&file, &text).expect("writes");
        let (code, said, wrong) = check(&file);
        assert_eq!(code, Some(0), "{}: {wrong}", path.display());
        let of = |text: &str, start| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(start));
            lines.map(str::to_owned).collect()
        };
        let (said, expected) = (of(&said, "Warning: "), of(&text, "# warns: "));
        let is_said = |parts: &String| {
            let has_all = |told: &&String| parts.split(" | ").all(|part| told.contains(part));
            said.iter().any(|told| has_all(&told))
        };
        assert!(expected.iter().all(is_said), "{}: {said:?}", path.display());
        assert_eq!(said.len(), expected.len(), "{}: {said:?}", path.display());
        count += 1;
    }
    assert!(count > 1, "only {count} files were found");
}

fn write(path: &Path, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("writes");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Writes one file that other users can read, and one that they cannot.
fn secret_files(folder: &Path) {
    for (name, mode) in [("exposed", 0o644), ("private", 0o600)] {
        write(&folder.join(name), "secret", mode);
    }
}

/// systemd-analyze rates a service's exposure from 0 to 10. A rating of at most 1.5 means a full sandbox;
/// `--threshold` is in tenths.
#[test]
fn the_unit_of_systemd_leaves_next_to_nothing_open() {
    if !have("configurations::systemd", &["systemd-analyze"]) {
        return;
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mailferry.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=15", "--no-pager"])
        .arg(unit)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

fn password_file(folder: &Path) {
    let made = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "echo secret | {PROGRAM} hash-password --output {}",
            folder.join("erp.argon2").display()
        ))
        .status();
    assert!(made.expect("runs").success());
}

/// Writes a certificate and a key like those that people make with openssl.
fn app_files(folder: &Path) {
    use std::os::unix::fs::OpenOptionsExt;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&key);
    let certificate = certificate.expect("a certificate").pem();
    std::fs::write(folder.join("app.pem"), certificate).expect("writes");
    let mut file = std::fs::OpenOptions::new();
    let file = file.write(true).create(true).mode(0o600);
    let mut file = file.open(folder.join("app.key")).expect("makes");
    std::io::Write::write_all(&mut file, key.serialize_pem().as_bytes()).expect("writes");
}

#[test]
fn the_examples_of_config_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let place = tempfile::tempdir().expect("a folder");
    password_file(place.path());
    app_files(place.path());
    for name in ["minimal.toml", "mailferry.toml"] {
        let file = place.path().join(name);
        std::fs::copy(folder.join(name), &file).expect("copies");
        let output = Command::new(PROGRAM)
            .arg("check")
            .arg("--config")
            .arg(&file)
            .env("CONTOSO_SECRET", "secret")
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("notifications@example.com"));
    }
}

/// In the reference, `config/mailferry.toml`, the tables delivery, limits and spool show every key with its
/// default.
#[test]
fn the_reference_shows_every_default() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mailferry.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let place = tempfile::tempdir().expect("a folder");
    let tables = ["delivery", "limits", "spool"].map(|name| (name, table(&text, name)));
    let shortened: String = tables.iter().map(|(_, table)| *table).collect();
    let listener = "[[listener]]\naddress = \"127.0.0.1:2525\"\n[[user]]\nname = \"u\"\nnetworks = [\"::1\"]\n\
                    [[server]]\nname = \"s\"\nhost = \"s.example\"\nauth = \"none\"\n";
    let written = load(
        &place.path().join("written.toml"),
        &(listener.to_owned() + &shortened),
    );
    let usual = load(&place.path().join("usual.toml"), listener);
    for ((name, table), (written, usual)) in tables.iter().zip(written.iter().zip(&usual)) {
        assert_eq!(written, usual, "[{name}]");
        for key in usual.lines().filter_map(field) {
            assert!(
                table.lines().any(|line| line
                    .trim_start_matches("# ")
                    .starts_with(&format!("{key} = "))),
                "[{name}] {key} is not in the reference"
            );
        }
    }
}

/// Returns a table of the reference, from its name to the next table.
fn table<'a>(text: &'a str, name: &str) -> &'a str {
    let start = text.find(&format!("\n[{name}]\n")).expect("the table") + 1;
    let rest = &text[start..];
    rest.find("\n[").map_or(rest, |end| &rest[..=end])
}

/// Loads a configuration. Returns its `delivery`, `limits` and `spool` tables, with one field on each line.
fn load(file: &Path, text: &str) -> [String; 3] {
    write(file, text, 0o600);
    let config = mailferry::config::load(file, mailferry::config::Secrets::Read).expect("loads");
    [
        format!("{:#?}", config.live.delivery),
        format!("{:#?}", config.live.limits),
        format!("{:#?}", config.fixed.spool),
    ]
}

/// Returns the name of the field on this line, if it is a field of the outermost struct and a key of the
/// configuration.
fn field(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("    ")?.split_once(": ")?;
    let is_key = !name.starts_with(' ') && !["folder", "lingering"].contains(&name);
    is_key.then_some(name)
}
