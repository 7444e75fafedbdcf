//! README and the guides: every command line is one that the program understands, every configuration in them is accepted
//! as TOML with known keys, and every link leads somewhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::PROGRAM;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns README, the reference and all guides, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let guides = root().join("config/guides");
    let guides = std::fs::read_dir(guides).expect("the guides");
    let guides = guides.map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<PathBuf> = guides
        .filter(|path| path.extension().is_some_and(|it| it == "md"))
        .collect();
    assert!(pages.len() > 10);
    pages.extend([root().join("README.md"), root().join("config/README.md")]);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("reads");
        (path, text)
    };
    pages.into_iter().map(read).collect()
}

/// Returns the blocks of code in a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    let start = format!("\n```{language}\n");
    while let Some((_, after)) = rest.split_once(&start) {
        let (block, after) = after.split_once("\n```").expect("the block's end");
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

/// Returns the arguments of mailferry in a command line; `None` if the line runs another program.
fn arguments(line: &str) -> Option<Vec<String>> {
    // The part after a pipe, and the part that a container runs.
    let line = line.rsplit_once(" | ").map_or(line, |(_, last)| last);
    let line = line.split(" #").next().unwrap_or(line).trim();
    let line = line.strip_prefix("podman exec mailferry ").unwrap_or(line);
    let mut words = Vec::new();
    let mut word = String::new();
    let mut is_quoted = false;
    for letter in line.chars() {
        match letter {
            '"' | '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            letter => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    let (first, rest) = words.split_first()?;
    (first == "mailferry").then(|| rest.to_vec())
}

/// True if the program understands these arguments. `--help` at the end makes it stop before it does anything, but after
/// it has read the options before it.
fn is_understood(arguments: &[String]) -> bool {
    let name_end = arguments.iter().position(|it| it.starts_with('-'));
    let name_end = name_end.unwrap_or(arguments.len());
    let mut options = arguments[..name_end].to_vec();
    options.extend(arguments[name_end..].iter().cloned());
    // An option that does not exist is an error even before --help.
    options.push("--help".to_owned());
    let output = Command::new(PROGRAM)
        .args(&options)
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    output.status.success()
}

#[test]
fn every_command_line_is_understood() {
    let mut count = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "sh") {
            for line in block.lines() {
                let Some(arguments) = arguments(line) else {
                    continue;
                };
                count += 1;
                if arguments.first().is_some_and(|name| name == "sendmail") {
                    continue;
                }
                assert!(is_understood(&arguments), "{}: {line}", path.display());
            }
        }
    }
    assert!(count > 30, "{count} command lines");
    assert!(!is_understood(&[
        "status".into(),
        "--no-such-option".into()
    ]));
}

#[test]
fn every_setting_exists() {
    for (path, text) in pages() {
        for block in blocks(&text, "toml") {
            // What other tables a file needs is not shown; a problem with a key is.
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("mailferry.toml");
            std::fs::write(&file, &block).expect("writes");
            let output = Command::new(PROGRAM)
                .args(["check", "--config"])
                .arg(&file)
                .output()
                .expect("runs");
            let said = String::from_utf8_lossy(&output.stderr);
            for wrong in [
                "there is no key",
                "unknown variant",
                "TOML",
                "invalid",
                "expected",
            ] {
                assert!(
                    !said.contains(wrong),
                    "{}:\n{block}\n{said}",
                    path.display()
                );
            }
        }
    }
}

/// Returns the anchors of a page: its headings as they are linked, and the anchors that it sets.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = text
        .split("<a id=\"")
        .skip(1)
        .filter_map(|rest| Some(rest.split('"').next()?.to_owned()))
        .collect();
    for line in text.lines().filter(|line| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
        anchors.push(kept.collect::<String>().replace(' ', "-"));
    }
    anchors
}

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for (path, text) in pages() {
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.starts_with("https://") {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap_or(Path::new("")).join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&target).expect("reads");
                assert!(
                    anchors(&text).iter().any(|it| it == anchor),
                    "{}: {link}",
                    path.display()
                );
            }
        }
    }
    assert!(count > 30, "{count} links");
}
