//! Makes `config/README.md`, the reference of the configuration, from the source of the types that parse it: each key
//! with its type, its doc comment, and its default, which is the doc comment's end (`Default: ...`).

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use syn::{Attribute, Expr, Fields, GenericArgument, Item, Lit, Meta, PathArguments, Type};

use super::text;

/// Set, it makes the test write the reference instead of comparing it.
const WRITE: &str = "MAILFERRY_WRITE_REFERENCE";

const BEGINNING: &str = "# Configuration reference

Every key of `mailferry.toml`, which is [TOML](https://toml.io). The example `mailferry.toml` shows the keys in
a file with comments, and the example `minimal.toml` is the shortest useful file. `mailferry check` says what a
configuration does, or what is wrong with it and where; `mailferry reload` makes the running program read it again, and
names the changes that need a restart.

- A *time* is a text such as `\"90s\"`, `\"15m\"` or `\"5 days\"`.
- A *network* is a text such as `\"192.168.7.0/24\"`, or a single address.
- A *secret* is `{ file = \"...\" }` (a file that other users cannot read), `{ env = \"...\" }`, or
  `{ credential = \"...\" }` (systemd's LoadCredential=). The secret itself, in quotes, is allowed only if no other user
  can read the configuration.
- File names are relative to the configuration file.
- `[[name]]` begins a table of which there may be several.

This file is made from the types that read the configuration (`src/config/reference.rs`); do not edit it.
";

/// The structs and enums of the source by their names.
type Types = BTreeMap<String, Item>;

/// A key of a table.
struct Key {
    name: String,
    shape: Shape,
    doc: String,
    /// The value without the key: TOML in backticks, words, or nothing.
    default: String,
    is_required: bool,
    is_option: bool,
}

/// The type of a key's value.
enum Shape {
    /// A value that is described by these words.
    Value(String),
    /// A table of this type, and how its name is written.
    Table(String, Header),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    One,
    Several,
    Named,
}

/// Reads the structs and enums of all source files that serde reads.
fn types() -> Types {
    let mut types = Types::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&path).expect("reads");
                let file = syn::parse_file(&text).expect("it compiles");
                for item in file.items {
                    let (name, attributes) = match &item {
                        Item::Struct(it) => (it.ident.to_string(), &it.attrs),
                        Item::Enum(it) => (it.ident.to_string(), &it.attrs),
                        _ => continue,
                    };
                    if derives(attributes, "Deserialize") {
                        types.insert(name, item);
                    }
                }
            }
        }
    }
    types
}

fn derives(attributes: &[Attribute], name: &str) -> bool {
    let lists = attributes.iter().filter(|it| it.path().is_ident("derive"));
    let mut lists = lists.filter_map(|it| it.meta.require_list().ok());
    lists.any(|list| {
        let mut words = list.tokens.clone().into_iter().map(|it| it.to_string());
        words.any(|word| word == name)
    })
}

/// Returns the doc comment as one paragraph.
fn doc(attributes: &[Attribute]) -> String {
    let docs = attributes.iter().filter(|it| it.path().is_ident("doc"));
    let lines = docs.filter_map(|it| match &it.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// Returns the value of a setting of serde: empty if it has none, `None` if it is not there.
fn serde_setting(attributes: &[Attribute], name: &str) -> Option<String> {
    let mut found = None;
    for attribute in attributes.iter().filter(|it| it.path().is_ident("serde")) {
        attribute
            .parse_nested_meta(|meta| {
                let value = match meta.value() {
                    Ok(value) => value.parse::<Lit>()?,
                    Err(_) => {
                        Lit::Bool(syn::LitBool::new(true, meta.path.segments[0].ident.span()))
                    }
                };
                if meta.path.is_ident(name) {
                    found = Some(match value {
                        Lit::Str(text) => text.value(),
                        _ => String::new(),
                    });
                }
                Ok(())
            })
            .expect("settings of serde");
    }
    found
}

/// Returns the name of a type, and its first type argument.
fn parts(of: &Type) -> (String, Vec<&Type>) {
    let Type::Path(path) = of else {
        panic!("the reference knows named types only");
    };
    let last = path.path.segments.last().expect("a name");
    let inner = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(inner) => Some(inner),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    (last.ident.to_string(), inner)
}

/// Describes a type.
fn shape(of: &Type, types: &Types) -> Shape {
    let (name, inner) = parts(of);
    let value = |words: &str| Shape::Value(words.to_owned());
    match name.as_str() {
        "Option" | "Spanned" => shape(inner[0], types),
        "Vec" => match shape(inner[0], types) {
            Shape::Value(words) => Shape::Value(format!("list: {words}")),
            Shape::Table(name, _) => Shape::Table(name, Header::Several),
        },
        "BTreeMap" => match shape(inner[1], types) {
            Shape::Table(name, _) => Shape::Table(name, Header::Named),
            Shape::Value(words) => Shape::Value(words),
        },
        "String" | "PathBuf" => value("text"),
        "bool" => value("`true` or `false`"),
        "u16" | "u32" | "u64" | "usize" => value("number"),
        "SocketAddr" => value("`\"IP:PORT\"`"),
        "Url" => value("URL"),
        "Datetime" => value("date"),
        "Wait" | "Duration" => value("time"),
        "Network" | "IpNet" => value("network"),
        "SecretText" => value("secret"),
        "BackOff" => value("list: two times"),
        other => match types.get(other) {
            Some(Item::Struct(_)) => Shape::Table(name, Header::One),
            Some(Item::Enum(choice)) => {
                let case = serde_setting(&choice.attrs, "rename_all")
                    .unwrap_or_else(|| panic!("{other} has no rename_all"));
                let mut values = choice.variants.iter().map(|variant| {
                    let doc = doc(&variant.attrs);
                    let name = cased(&variant.ident.to_string(), &case);
                    let doc = doc.trim_end_matches('.');
                    match doc.is_empty() {
                        true => format!("`\"{name}\"`"),
                        false => format!("`\"{name}\"`: {doc}"),
                    }
                });
                let first = values.next().unwrap_or_default();
                Shape::Value(values.fold(first, |all, value| all + "<br>" + &value))
            }
            _ => panic!("the reference does not know the type {other}"),
        },
    }
}

/// Writes the name of a variant as serde does.
fn cased(name: &str, case: &str) -> String {
    let separator = match case {
        "snake_case" => "_",
        "kebab-case" => "-",
        "lowercase" => "",
        other => panic!("the reference does not know the case {other}"),
    };
    let mut written = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !written.is_empty() {
            written += separator;
        }
        written.extend(letter.to_lowercase());
    }
    written
}

/// Returns the default of a type that serde fills in.
fn usual(of: &Type, types: &Types) -> String {
    let (name, inner) = parts(of);
    match name.as_str() {
        "Spanned" => usual(inner[0], types),
        "bool" => "`false`".into(),
        "Vec" => "none".into(),
        _ => match types.get(&name) {
            Some(Item::Enum(choice)) => {
                let case = serde_setting(&choice.attrs, "rename_all").unwrap_or_default();
                let is_default = |variant: &&syn::Variant| {
                    variant.attrs.iter().any(|it| it.path().is_ident("default"))
                };
                let variant = choice.variants.iter().find(is_default);
                variant.map_or_else(String::new, |variant| {
                    format!("`\"{}\"`", cased(&variant.ident.to_string(), &case))
                })
            }
            _ => String::new(),
        },
    }
}

/// Returns the keys of a table.
fn keys(name: &str, types: &Types) -> Vec<Key> {
    let Some(Item::Struct(table)) = types.get(name) else {
        panic!("{name} is not a table");
    };
    let Fields::Named(fields) = &table.fields else {
        panic!("{name} has no keys");
    };
    let all_default = serde_setting(&table.attrs, "default").is_some();
    let fields = fields.named.iter();
    let fields = fields.filter(|field| serde_setting(&field.attrs, "skip").is_none());
    fields
        .map(|field| {
            let own = field.ident.as_ref().expect("a name").to_string();
            let is_option = parts(&field.ty).0 == "Option";
            let has_default = all_default || serde_setting(&field.attrs, "default").is_some();
            let text = doc(&field.attrs);
            let (doc, default) = match text.rsplit_once("Default: ") {
                Some((doc, default)) => (doc.trim(), default.trim_end_matches('.').to_owned()),
                None if has_default && !is_option => (text.as_str(), usual(&field.ty, types)),
                None => (text.as_str(), String::new()),
            };
            Key {
                name: serde_setting(&field.attrs, "rename").unwrap_or(own),
                shape: shape(&field.ty, types),
                doc: doc.to_owned(),
                default,
                is_required: !is_option && !has_default,
                is_option,
            }
        })
        .collect()
}

fn header(name: &str, header: Header) -> String {
    match header {
        Header::One => format!("[{name}]"),
        Header::Several => format!("[[{name}]]"),
        Header::Named => format!("[{name}.NAME]"),
    }
}

/// Makes the reference.
struct Writer<'a> {
    types: &'a Types,
    text: String,
    written: HashSet<String>,
}

impl Writer<'_> {
    /// Writes the keys of a table, and then the tables inside it, whose names begin with `prefix`.
    fn table(&mut self, name: &str, prefix: &str) {
        let keys = keys(name, self.types);
        self.text += "| key | value | default | meaning |\n| --- | --- | --- | --- |\n";
        for key in &keys {
            let Shape::Value(value) = &key.shape else {
                continue;
            };
            let default = match key.is_required {
                true => "required",
                false => key.default.as_str(),
            };
            assert!(
                !key.doc.is_empty(),
                "{name}.{} has no doc comment",
                key.name
            );
            let row = [value, default, &key.doc].map(|cell| cell.replace('|', "\\|"));
            self.text += &format!("| `{}` | {} |\n", key.name, row.join(" | "));
        }
        for key in keys {
            let Shape::Table(inner, form) = key.shape else {
                continue;
            };
            let path = format!("{prefix}{}", key.name);
            let level = if prefix.is_empty() { "##" } else { "###" };
            self.text += &format!("\n{level} {}\n\n", header(&path, form));
            let of_type = match &self.types[&inner] {
                Item::Struct(table) => doc(&table.attrs),
                _ => String::new(),
            };
            let default = match key.default.is_empty() {
                false if key.default != "none" => format!(" Default: {}.", key.default),
                _ => String::new(),
            };
            let doc = if key.doc.is_empty() {
                of_type
            } else {
                key.doc + &default
            };
            self.text += &format!("{doc}\n\n");
            if self.written.insert(inner.clone()) {
                self.table(&inner, &format!("{path}."));
            } else {
                self.text += "It has the keys of the table before.\n";
            }
        }
    }
}

fn reference(types: &Types) -> String {
    let mut writer = Writer {
        types,
        text: format!("{BEGINNING}\n## At the beginning of the file\n\n"),
        written: HashSet::new(),
    };
    writer.table("File", "");
    writer.text
}

#[test]
fn the_reference_is_what_the_types_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/README.md");
    let made = reference(&types());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, &made).expect("writes");
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == made,
        "config/README.md is not up to date; run: {WRITE}=1 cargo test --lib config::reference"
    );
}

/// Returns the lines that the tables up to this one need.
fn necessary(name: &str, types: &Types) -> String {
    let required = keys(name, types).into_iter().filter(|key| key.is_required);
    required
        .map(|key| match key.shape {
            Shape::Value(value) if value.contains("PORT") => {
                format!("{} = \"127.0.0.1:1\"\n", key.name)
            }
            _ => format!("{} = \"x\"\n", key.name),
        })
        .collect()
}

/// Returns a configuration as the types see it, without the places in the text.
fn parsed(text: &str) -> String {
    let file: text::File = toml::from_str(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let shown = format!("{file:?}");
    let mut pieces = shown.split("span: ");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| {
        all + piece.split_once(", ").map_or(piece, |(_, rest)| rest)
    })
}

/// Checks the defaults of a table, whose text begins with `before`. Returns how many were compared.
fn compare(name: &str, path: &str, before: &str, types: &Types) -> usize {
    let mut compared = 0;
    for key in keys(name, types) {
        let before = before.to_owned() + &necessary(name, types);
        match key.shape {
            Shape::Table(inner, form) => {
                let path = format!("{path}{}", key.name);
                let before = format!("{before}{}\n", header(&path, form));
                compared += compare(&inner, &format!("{path}."), &before, types);
            }
            Shape::Value(_) => {
                let value = match key.default.as_str() {
                    "none" => "[]",
                    other => other.trim_matches('`'),
                };
                if key.is_option || key.is_required {
                    continue;
                }
                assert!(!value.is_empty(), "{path}{} names no default", key.name);
                let with = format!("{before}{} = {value}\n", key.name);
                assert_eq!(parsed(&with), parsed(&before), "{path}{}", key.name);
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn every_default_in_the_reference_is_the_default() {
    let compared = compare("File", "", "", &types());
    assert!(compared > 40, "{compared}");
}
