//! No two files import each other, not even by way of others. What a file imports is read with a parser,
//! and looked up where it is defined: a re-export is only a name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::Visit;
use syn::{Attribute, Item, UseTree};

use crate::layers::{files, module_of};

/// Circles that are there still. The list only gets shorter.
const KNOWN: &[&[&str]] = &[&[
    "delivery::attempt",
    "delivery::context",
    "delivery::lane",
    "delivery::mailbox",
    "delivery::notice",
    "delivery::patrol",
    "delivery::probe",
    "delivery::scheduler",
    "delivery::settle",
    "delivery::transmit",
    "delivery::trouble",
]];

/// A module's file.
#[derive(Default)]
struct Module {
    children: BTreeSet<String>,
    defined: BTreeSet<String>,
    /// Names for what stands elsewhere, with the absolute path of that.
    names: BTreeMap<String, Vec<String>>,
    /// Modules of which all names are names here too.
    globs: Vec<Vec<String>>,
    /// The absolute paths that its code has.
    paths: Vec<Vec<String>>,
}

type Modules = BTreeMap<Vec<String>, Module>;

/// Reads the paths of a file outside its tests.
struct Reader<'m> {
    at: &'m [String],
    module: Module,
}

impl Reader<'_> {
    /// As a path from the crate's root; none for what other crates have.
    fn absolute(&self, segments: &[String]) -> Option<Vec<String>> {
        let (first, rest) = segments.split_first()?;
        let base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.at.to_vec(),
            "super" => {
                let supers = segments.iter().take_while(|it| *it == "super").count();
                let base = self.at[..self.at.len().checked_sub(supers)?].to_vec();
                return Some([base, segments[supers..].to_vec()].concat());
            }
            child if self.module.children.contains(child) => {
                return Some([self.at.to_vec(), segments.to_vec()].concat());
            }
            _ => return None,
        };
        Some([base, rest.to_vec()].concat())
    }

    fn import(&mut self, before: &[String], tree: &UseTree, is_name: bool) {
        let joined = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&joined(&path.ident), &path.tree, is_name),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(before, tree, is_name);
                }
            }
            UseTree::Glob(_) => {
                self.module.globs.extend(self.absolute(before));
            }
            UseTree::Name(name) => self.imported(joined(&name.ident), &name.ident, is_name),
            UseTree::Rename(name) => self.imported(joined(&name.ident), &name.rename, is_name),
        }
    }

    fn imported(&mut self, mut path: Vec<String>, name: &syn::Ident, is_name: bool) {
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if let Some(path) = self.absolute(&path) {
            if !is_name {
                self.module.paths.push(path.clone());
            }
            self.module.names.insert(name.to_string(), path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_test) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        let is_name = !matches!(import.vis, syn::Visibility::Inherited);
        self.import(&[], &import.tree, is_name);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|it| it.ident.to_string())
            .collect();
        // A path that begins with an imported module goes on from there.
        let whole = match self.module.names.get(&segments[0]) {
            Some(known) if segments.len() > 1 => {
                Some([known.clone(), segments[1..].to_vec()].concat())
            }
            _ => self.absolute(&segments).filter(|_| segments.len() > 1),
        };
        self.module.paths.extend(whole);
        syn::visit::visit_path(self, path);
    }
}

fn is_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Ident>()
            .is_ok_and(|ident| ident == "test")
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Struct(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Const(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(ident.to_string())
}

fn read(text: &str, at: &[String]) -> Module {
    let file = syn::parse_file(text).expect("it compiles");
    let mut module = Module::default();
    for item in &file.items {
        module.defined.extend(defined(item));
        if let Item::Mod(child) = item
            && !child.attrs.iter().any(is_test)
        {
            module.children.insert(child.ident.to_string());
        }
    }
    let mut reader = Reader { at, module };
    reader.visit_file(&file);
    reader.module
}

/// The module in which a path's item is defined.
fn home(modules: &Modules, path: &[String], depth: usize) -> Option<Vec<String>> {
    let (mut at, mut rest) = (Vec::new(), path);
    while let Some((first, after)) = rest.split_first() {
        let module = modules.get(&at)?;
        if module.children.contains(first) {
            at.push(first.clone());
            rest = after;
        } else if module.defined.contains(first) {
            return Some(at);
        } else if let Some(known) = module.names.get(first).filter(|_| depth < 9) {
            return home(
                modules,
                &[known.clone(), after.to_vec()].concat(),
                depth + 1,
            );
        } else {
            let mut globs = module.globs.iter().filter(|_| depth < 9);
            return globs.find_map(|glob| {
                home(modules, &[glob.clone(), rest.to_vec()].concat(), depth + 1)
            });
        }
    }
    // The module itself: what of it is used has a path of its own.
    None
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    let mut modules = Modules::new();
    for file in found.iter().filter(|file| !file.ends_with("main.rs")) {
        let name = module_of(file, &src);
        let at: Vec<String> = match name.as_str() {
            "lib" => Vec::new(),
            name => name.split("::").map(str::to_owned).collect(),
        };
        let is_test = at.last().is_some_and(|last| last == "tests");
        if !is_test {
            let text = std::fs::read_to_string(file).expect("reads");
            modules.insert(at.clone(), read(&text, &at));
        }
    }
    let edges: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> = modules
        .iter()
        .map(|(at, module)| {
            let homes = module
                .paths
                .iter()
                .filter_map(|path| home(&modules, path, 0));
            (at, homes.filter(|home| home != at).collect())
        })
        .collect();
    let count: usize = edges.values().map(BTreeSet::len).sum();
    assert!(count > 500, "only {count} imports were found");
    let reaches = |from: &Vec<String>| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(at) = open.pop() {
            for next in &edges[at] {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let name = |at: &Vec<String>| match at.is_empty() {
        true => "lib".to_owned(),
        false => at.join("::"),
    };
    let mut circles: Vec<Vec<String>> = Vec::new();
    for at in modules.keys().filter(|at| reaches(at).contains(at)) {
        let circle = modules
            .keys()
            .filter(|other| reaches(at).contains(other) && reaches(other).contains(at));
        let circle: Vec<String> = circle.map(name).collect();
        if !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    let known: Vec<Vec<&str>> = KNOWN.iter().map(|circle| circle.to_vec()).collect();
    assert_eq!(circles, known, "circles: {circles:#?}");
}
