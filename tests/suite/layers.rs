//! Checks the code against the map in `src/lib.rs`: modules import only what they may, no files import each
//! other in a circle, and pure files are pure.

use std::path::Path;

use crate::house::House;

/// The beginnings of paths that a pure file may not use, because they lead to the outside world.
const WORLD: [&str; 8] = [
    "tokio",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::time::Instant",
    "std::time::SystemTime",
    "rand",
    "tracing",
];

/// Our own modules that a pure file may not use either: the log, TLS and streams.
const OUR_WORLD: [&str; 3] = ["observe::maillog", "base::tls", "base::stream"];

/// Crates, and parts of crates, that only one room may use.
const HOMES: [(&str, &str); 16] = [
    ("rustix", "platform"),
    ("nix", "platform"),
    ("sd_listen_fds", "platform"),
    ("std::os", "platform"),
    ("tokio::signal::unix", "platform"),
    ("tokio::net::UnixListener", "platform"),
    ("tokio::net::UnixStream", "platform"),
    ("mail_send", "transport"),
    ("oauth2", "token"),
    ("openidconnect", "web"),
    ("mail_parser", "message"),
    ("mail_builder", "message"),
    ("rusqlite", "spool"),
    ("tokio_postgres", "spool"),
    ("deadpool_postgres", "spool"),
    ("futures_util", "spool"),
];

/// The rooms that the sandbox may import. Only cli may import the sandbox.
const SANDBOX: [&str; 3] = ["base", "message", "smtp"];

/// A room or file of the map.
struct Entry {
    name: String,
    row: u8,
    is_pure: bool,
}

/// Reads the table of `src/lib.rs`. Each line is a row; names are between backticks, and ● follows the names
/// of pure rooms and files.
fn map() -> Vec<Entry> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = std::fs::read_to_string(lib).expect("reads");
    let rows = text.lines().filter_map(|line| {
        let (row, rooms) = line.strip_prefix("//! | ")?.split_once(" | ")?;
        Some((row.parse::<u8>().ok()?, rooms.to_owned()))
    });
    let entries = rows.flat_map(|(row, rooms)| {
        let mut parts: Vec<String> = rooms.split('`').map(str::to_owned).collect();
        parts.push(String::new());
        let named: Vec<&[String]> = parts.chunks(2).collect();
        let mut found = Vec::new();
        for (place, pair) in named.iter().enumerate() {
            let Some(name) = pair.get(1).filter(|name| !name.is_empty()) else {
                continue;
            };
            let after = named.get(place + 1).map_or("", |next| next[0].as_str());
            found.push(Entry {
                name: name.clone(),
                row,
                is_pure: after.trim_start_matches(']').trim_start().starts_with('●'),
            });
        }
        found
    });
    entries.collect()
}

/// Returns the map's entry for a module. If several names match, the longest one counts.
fn place<'m>(map: &'m [Entry], module: &str) -> &'m Entry {
    let fits = |name: &str| {
        let rest = module.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let found = map.iter().filter(|entry| fits(&entry.name));
    found
        .max_by_key(|entry| entry.name.len())
        .unwrap_or_else(|| panic!("the module {module} is not on the map in src/lib.rs"))
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

#[test]
fn a_module_imports_only_from_the_rows_above_its_own() {
    let (house, map) = (House::read(), map());
    let last = map.iter().map(|entry| entry.row).max().expect("rows");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (module, imports) in house
        .imports
        .iter()
        .filter(|(module, _)| !module.is_empty())
    {
        for import in imports {
            seen += 1;
            let (from, to) = (room(module), room(import));
            let (row, its_row) = match (from, to) {
                ("sandbox", _) | (_, "sandbox") => (0, 0),
                _ => (place(&map, module).row, place(&map, import).row),
            };
            let is_allowed = match (from, to) {
                _ if from == to => its_row <= row,
                ("sandbox", _) => SANDBOX.contains(&to),
                (_, "sandbox") => from == "cli",
                _ => its_row < row || its_row == last && row == last,
            };
            if !is_allowed {
                wrong.push(format!("{module} imports {import}"));
            }
        }
    }
    assert!(seen > 500, "only {seen} imports were found");
    assert!(
        wrong.is_empty(),
        "against the map of lib.rs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let house = House::read();
    let circles = house.circles();
    assert!(circles.is_empty(), "circles: {circles:#?}");
}

#[test]
fn pure_files_know_no_world() {
    let (house, map) = (House::read(), map());
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (module, foreign, head) in house.modules() {
        let is_pure = |word: &str| word.trim_matches(['.', ':', ',']) == "Pure";
        let says_so = head.split_whitespace().any(is_pure);
        let is_on_map = !module.is_empty() && is_pure_on_map(&map, &module);
        if !says_so && !is_on_map {
            continue;
        }
        seen += 1;
        let world = foreign
            .iter()
            .filter(|path| WORLD.iter().any(|word| path.starts_with(word)));
        let ours = house.imports[&module]
            .iter()
            .filter(|path| OUR_WORLD.contains(&path.as_str()));
        wrong.extend(world.chain(ours).map(|path| format!("{module}: {path}")));
    }
    assert!(seen > 25, "only {seen} pure files were found");
    assert!(wrong.is_empty(), "not pure:\n{}", wrong.join("\n"));
}

fn is_pure_on_map(map: &[Entry], module: &str) -> bool {
    room(module) != "sandbox" && place(map, module).is_pure
}

#[test]
fn some_crates_live_in_one_room() {
    for (module, foreign, _) in House::read().modules() {
        for (name, home) in HOMES {
            let uses = foreign.iter().any(|path| {
                let rest = path.strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            });
            assert!(
                !uses || room(&module) == home,
                "{module} uses {name}, which lives in {home}"
            );
        }
    }
}

#[test]
fn the_map_names_files_that_exist() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let text = std::fs::read_to_string(src.join("lib.rs")).expect("reads");
    let (_, after) = text.split_once("# Where a change goes").expect("the table");
    let (table, _) = after.split_once("# Words").expect("its end");
    let paths = table.split('`').skip(1).step_by(2);
    let files: Vec<&str> = paths.filter(|path| path.contains('/')).collect();
    assert!(!files.is_empty());
    for file in files {
        let found = src.join(file).exists() || src.join("..").join(file).exists();
        assert!(found, "{file} on the map does not exist");
    }
}
