//! The dependency table of the design: a module imports only from the rows above its own.

use std::path::{Path, PathBuf};

/// Modules and their rows; the longest name that fits counts.
const ROWS: &[(&str, u8)] = &[
    ("base", 1),
    ("message", 2),
    ("session::reply", 2),
    ("session::Reply", 2),
    ("session::Stage", 2),
    ("session", 3),
    ("routing", 3),
    ("token::state", 3),
    ("delivery::outcome", 3),
    ("delivery::retry", 3),
    ("delivery::bounce", 3),
    ("delivery::usage", 3),
    ("spool::record", 3),
    ("spool::story", 3),
    ("observe", 4),
    ("spool", 5),
    ("token", 5),
    ("upstream", 5),
    ("delivery", 6),
    ("listener", 6),
    ("admin", 7),
    ("config", 8),
    ("daemon", 9),
    ("cli", 9),
    ("sandbox", 10),
];

/// What the sandbox may import; only cli may import it.
const SANDBOX: [&str; 3] = ["base", "message", "session"];

fn row(module: &str) -> u8 {
    let fits = |name: &str| {
        module == name
            || module
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with("::"))
    };
    let found = ROWS
        .iter()
        .filter(|(name, _)| fits(name))
        .max_by_key(|(name, _)| name.len());
    found
        .unwrap_or_else(|| panic!("the module {module} has no row in the table"))
        .1
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

pub fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// `src/delivery/outcome.rs` is `delivery::outcome`, `src/delivery/mod.rs` is `delivery`.
pub fn module_of(file: &Path, src: &Path) -> String {
    let relative = file
        .strip_prefix(src)
        .expect("below src")
        .with_extension("");
    let parts: Vec<_> = relative
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let parts = match parts.split_last() {
        Some((last, rest)) if last == "mod" => rest.to_vec(),
        _ => parts,
    };
    parts.join("::")
}

/// The code before the tests, without comments.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// All paths that follow `crate::`, groups opened.
fn imports(code: &str) -> Vec<String> {
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| paths(rest, ""))
        .collect()
}

fn paths(text: &str, before: &str) -> Vec<String> {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    let path = format!("{before}{}", &text[..end]);
    match text[end..].strip_prefix('{') {
        Some(group) => members(group)
            .iter()
            .flat_map(|member| paths(member.trim(), &path))
            .collect(),
        None => vec![path.trim_end_matches(':').to_owned()],
    }
}

/// What stands between the braces, split at its own commas.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut members, mut current) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match c {
            ',' if depth == 0 => members.push(std::mem::take(&mut current)),
            c => current.push(c),
        }
    }
    members.push(current);
    members.retain(|member| !member.trim().is_empty());
    members
}

#[test]
fn a_module_imports_only_from_the_rows_above_its_own() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in &found {
        let module = module_of(file, &src);
        if module == "lib" || module == "main" {
            continue;
        }
        let text = std::fs::read_to_string(file).expect("reads");
        for import in imports(&code(&text)) {
            seen += 1;
            let (from, to) = (room(&module), room(&import));
            let allowed = match (from, to) {
                // Within a room its pure files still stand above the others.
                _ if from == to => row(&import) <= row(&module) || row(&module) > 3,
                ("sandbox", _) => SANDBOX.contains(&to),
                (_, "sandbox") => from == "cli",
                ("cli" | "daemon", _) => row(&import) <= 9,
                _ => row(&import) < row(&module),
            };
            if !allowed {
                wrong.push(format!("{module} imports {import}"));
            }
        }
    }
    assert!(
        seen > 100,
        "only {seen} imports were found: the reader of this test is broken"
    );
    assert!(
        wrong.is_empty(),
        "against the table of lib.rs:\n{}",
        wrong.join("\n")
    );
}

/// The crates that live in one room only.
#[test]
fn some_crates_live_in_one_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = [
        ("mail_send::", "upstream"),
        ("oauth2::", "token"),
        ("mail_parser::", "message"),
        ("mail_builder::", "message"),
        ("rusqlite::", "spool"),
    ];
    let mut found = Vec::new();
    files(&src, &mut found);
    for file in &found {
        let module = module_of(file, &src);
        let text = code(&std::fs::read_to_string(file).expect("reads"));
        for (name, home) in rooms {
            assert!(
                !text.contains(name) || room(&module) == home,
                "{module} uses {name}, which lives in {home}"
            );
        }
    }
}

#[test]
fn pure_files_know_no_world() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    for file in &found {
        let module = module_of(file, &src);
        if row(if module == "lib" || module == "main" {
            "cli"
        } else {
            &module
        }) > 3
            || room(&module) == "base"
        {
            continue;
        }
        let text = code(&std::fs::read_to_string(file).expect("reads"));
        for word in [
            "tokio::",
            "std::fs",
            "std::net::Tcp",
            "Timestamp::now",
            "Instant::now",
            "rand::",
            "tracing::",
        ] {
            assert!(!text.contains(word), "{module} is pure and says {word}");
        }
    }
}
