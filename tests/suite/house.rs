//! The imports between the files of `src`, read by a parser. Each import counts as an import from the module
//! that defines the item, even if the import names a module that re-exports the item.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, Item, UseTree};

/// The files, by their modules: `src/delivery/desk.rs` is `delivery::desk`, `src/delivery/mod.rs` is
/// `delivery`, and the name of `src/lib.rs` is empty.
pub struct House {
    modules: Modules,
    /// For each module, the modules that define the items it imports.
    pub imports: BTreeMap<String, BTreeSet<String>>,
}

type Modules = BTreeMap<Vec<String>, Module>;

/// A module's file, without its tests.
#[derive(Default)]
struct Module {
    children: BTreeSet<String>,
    defined: BTreeSet<String>,
    names: BTreeMap<String, Target>,
    /// Modules from which everything is imported here, with `use module::*`.
    globs: Vec<Vec<String>>,
    /// Paths in its code that begin at the crate's root.
    paths: Vec<Vec<String>>,
    /// Paths in its code into other crates.
    foreign: BTreeSet<String>,
    /// The comment at its head.
    head: String,
}

/// The destination of a path.
#[derive(Clone)]
enum Target {
    /// A path from the crate's root.
    Ours(Vec<String>),
    /// A path into another crate.
    Foreign(Vec<String>),
}

impl Target {
    fn with(&self, rest: &[String]) -> Self {
        match self {
            Self::Ours(path) => Self::Ours([path, rest].concat()),
            Self::Foreign(path) => Self::Foreign([path, rest].concat()),
        }
    }
}

impl House {
    /// Reads `src`.
    pub fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        files(&src, &mut found);
        let mut modules = Modules::new();
        for file in found {
            let at = module_of(&file, &src);
            if !at.iter().any(|part| part == "tests" || part == "main") {
                let text = std::fs::read_to_string(&file).expect("reads");
                modules.insert(at.clone(), read(&text, &at));
            }
        }
        let imports = modules.iter().map(|(at, module)| {
            let homes = module
                .paths
                .iter()
                .filter_map(|path| home(&modules, path, 0));
            let homes = homes.filter(|home| home != at).map(|home| home.join("::"));
            (at.join("::"), homes.collect())
        });
        let imports = imports.collect();
        Self { modules, imports }
    }

    /// Returns each module with its paths into other crates and the comment at its head.
    pub fn modules(&self) -> impl Iterator<Item = (String, &BTreeSet<String>, &str)> {
        let modules = self.modules.iter();
        modules.map(|(at, module)| (at.join("::"), &module.foreign, module.head.as_str()))
    }

    /// Returns the sets of modules that all import each other, directly or through other modules.
    pub fn circles(&self) -> BTreeSet<Vec<&str>> {
        let names = self.imports.keys();
        let reached: BTreeMap<&str, BTreeSet<&str>> = names
            .map(|at| (at.as_str(), self.reached_from(at)))
            .collect();
        let in_circle = reached.iter().filter(|(at, theirs)| theirs.contains(*at));
        let circles = in_circle.map(|(at, theirs)| {
            let back = theirs.iter().filter(|other| reached[*other].contains(at));
            back.copied().collect()
        });
        circles.collect()
    }

    fn reached_from(&self, from: &str) -> BTreeSet<&str> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(at) = open.pop() {
            for next in &self.imports[at] {
                if seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        seen
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

fn module_of(file: &Path, src: &Path) -> Vec<String> {
    let relative = file.strip_prefix(src).expect("below src");
    let relative = relative.with_extension("");
    let parts = relative
        .iter()
        .map(|part| part.to_string_lossy().into_owned());
    let mut parts: Vec<String> = parts.collect();
    parts.pop_if(|last| last == "mod" || last == "lib");
    parts
}

fn read(text: &str, at: &[String]) -> Module {
    let file = syn::parse_file(text).expect("it compiles");
    let head = text.lines().map_while(|line| line.strip_prefix("//!"));
    let mut module = Module {
        head: head.collect::<Vec<&str>>().join("\n"),
        ..Module::default()
    };
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

/// Returns the module that defines the item that a path leads to.
fn home(modules: &Modules, path: &[String], depth: usize) -> Option<Vec<String>> {
    let (mut at, mut rest) = (Vec::new(), path);
    while let Some((first, after)) = rest.split_first() {
        let module = modules.get(&at)?;
        if module.children.contains(first) {
            at.push(first.clone());
            rest = after;
            continue;
        }
        if module.defined.contains(first) {
            return Some(at);
        }
        return match module.names.get(first).filter(|_| depth < 9) {
            Some(Target::Ours(known)) => home(modules, &[known, after].concat(), depth + 1),
            Some(Target::Foreign(_)) => None,
            None => {
                let mut globs = module.globs.iter().filter(|_| depth < 9);
                globs.find_map(|glob| home(modules, &[glob, rest].concat(), depth + 1))
            }
        };
    }
    // The path leads to a module, not to an item: each item used from the module has a path of its own.
    None
}

/// Reads the paths in a file, except those in its tests.
struct Reader<'m> {
    at: &'m [String],
    module: Module,
}

impl Reader<'_> {
    fn target(&self, segments: Vec<String>) -> Target {
        let (first, rest) = segments.split_first().expect("a path has a segment");
        match first.as_str() {
            "crate" => Target::Ours(rest.to_vec()),
            "self" => Target::Ours([self.at, rest].concat()),
            "super" => {
                let supers = segments.iter().take_while(|it| *it == "super").count();
                let base = &self.at[..self.at.len() - supers];
                Target::Ours([base, &segments[supers..]].concat())
            }
            child if self.module.children.contains(child) => {
                Target::Ours([self.at, &segments].concat())
            }
            known => match self.module.names.get(known) {
                Some(known) => known.with(rest),
                None => Target::Foreign(segments),
            },
        }
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
                if let Target::Ours(path) = self.target(before.to_vec()) {
                    self.module.globs.push(path);
                }
            }
            UseTree::Name(name) => self.imported(joined(&name.ident), &name.ident, is_name),
            UseTree::Rename(name) => self.imported(joined(&name.ident), &name.rename, is_name),
        }
    }

    fn imported(&mut self, mut path: Vec<String>, name: &syn::Ident, is_name: bool) {
        path.pop_if(|last| last == "self");
        let target = self.target(path);
        if !is_name {
            self.uses(target.clone());
        }
        // Child modules can also reach the item by this name, with `use super::*` or `use super::name`.
        self.module.names.insert(name.to_string(), target);
    }

    fn uses(&mut self, target: Target) {
        match target {
            Target::Ours(path) => self.module.paths.push(path),
            Target::Foreign(path) => drop(self.module.foreign.insert(path.join("::"))),
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
        let segments = path.segments.iter().map(|it| it.ident.to_string());
        let segments: Vec<String> = segments.collect();
        if segments.len() > 1 {
            let target = self.target(segments);
            self.uses(target);
        }
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
