//! The modules of one crate, and the way from a path to the file that defines its target.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{self, Import};

/// The crate's modules, without those that are compiled for tests only.
#[derive(Debug)]
pub(crate) struct Tree {
    modules: Vec<Module>,
    by_path: BTreeMap<Vec<String>, usize>,
}

#[derive(Debug)]
struct Module {
    path: Vec<String>,
    file: String,
    /// The code without its imports.
    code: String,
    imports: Vec<Import>,
    defined: BTreeSet<String>,
    words: BTreeSet<String>,
}

/// The files that import one another: from each file the files that it takes something from, with the names it takes.
pub(crate) type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The target of a path.
enum Target {
    Module,
    /// Something that this module defines.
    Item(usize),
}

impl Tree {
    /// The tree of the crate whose root is the file `root`.
    pub(crate) fn of_crate(root: &str) -> Self {
        let sources = source::sources(root.rsplit_once('/').expect("a root is in a folder").0);
        let sources = sources.into_iter().map(|file| (file.clone(), source::read(&file))).collect();
        Self::of_sources(root, &sources)
    }

    /// The tree of sources that need not exist.
    pub(crate) fn of_sources(root: &str, sources: &BTreeMap<String, String>) -> Self {
        let mut tree = Self { modules: Vec::new(), by_path: BTreeMap::new() };
        let mut waiting = vec![(Vec::new(), root.to_owned())];
        while let Some((path, file)) = waiting.pop() {
            let code = source::without_tests(&source::code(&sources[&file]));
            let folder = match file.rsplit_once('/').expect("files are in folders") {
                (folder, "lib.rs" | "main.rs" | "mod.rs") => folder,
                _ => file.trim_end_matches(".rs"),
            };
            for part in source::parts(&code) {
                let inside = [path.clone(), part.inside.clone()].concat();
                for name in part.files {
                    let place = format!("{folder}/{}", [part.inside.clone(), vec![name.clone()]].concat().join("/"));
                    let ways = [format!("{place}.rs"), format!("{place}/mod.rs")];
                    let child = ways.iter().find(|way| sources.contains_key(*way));
                    let child = child.unwrap_or_else(|| panic!("{file} declares {name}, which has no file"));
                    waiting.push(([inside.clone(), vec![name]].concat(), child.clone()));
                }
                tree.add(inside, &file, &part.code);
            }
        }
        tree
    }

    fn add(&mut self, path: Vec<String>, file: &str, code: &str) {
        let (imports, code) = source::imports(code);
        let defined = definitions(&code).into_iter().map(|(_, name)| name.to_owned()).collect();
        let words = source::words(&code).map(|(_, word)| word.to_owned()).collect();
        self.by_path.insert(path.clone(), self.modules.len());
        self.modules.push(Module { path, file: file.to_owned(), code, imports, defined, words });
    }

    /// The file of each module, in no order; a file with modules written out in it occurs once for each.
    pub(crate) fn types(&self) -> impl Iterator<Item = (&str, &str)> {
        self.modules.iter().flat_map(|module| {
            let types = definitions(&module.code).into_iter().filter(|(kind, _)| TYPES.contains(kind));
            types.map(|(_, name)| (name, module.file.as_str()))
        })
    }

    /// The files, each with its folder as modules see it: the module around it.
    pub(crate) fn parents(&self) -> BTreeMap<&str, &[String]> {
        let mut parents: BTreeMap<&str, &[String]> = BTreeMap::new();
        for module in &self.modules {
            let parent = &module.path[..module.path.len().saturating_sub(1)];
            let known = parents.entry(&module.file).or_insert(parent);
            if parent.len() < known.len() {
                *known = parent;
            }
        }
        parents
    }

    /// The module of a file.
    pub(crate) fn path_of(&self, file: &str) -> &[String] {
        let modules = self.modules.iter().filter(|module| module.file == file);
        modules.map(|module| module.path.as_slice()).min_by_key(|path| path.len()).expect("the file is in the tree")
    }

    /// Which file takes what from which. A name that is passed on without being used is no import: tables of contents
    /// know their children, but do not depend on them.
    pub(crate) fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (place, module) in self.modules.iter().enumerate() {
            arrows.entry(module.file.clone()).or_default();
            let mut arrow = |path: &[String]| {
                if let Some(Target::Item(target)) = self.target(place, path, 0)
                    && let target = &self.modules[target].file
                    && *target != module.file
                {
                    let names = arrows.entry(module.file.clone()).or_default().entry(target.clone()).or_default();
                    names.insert(path.last().cloned().unwrap_or_default());
                }
            };
            for import in &module.imports {
                if import.name == "*" {
                    for word in &module.words {
                        if let Some(known) = self.known_through(place, import, word, 0) {
                            arrow(&known);
                        }
                    }
                } else if !import.is_passed_on || module.words.contains(&import.name) {
                    arrow(&import.path);
                }
            }
            for path in source::paths(&module.code) {
                arrow(&path.split("::").map(str::to_owned).collect::<Vec<_>>());
            }
        }
        arrows
    }

    fn target(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        if depth > 20 {
            return None;
        }
        let mut module = &self.modules[from];
        let mut place = from;
        let mut rest = path;
        let mut is_inside = false;
        loop {
            let Some((first, after)) = rest.split_first() else { return Some(Target::Module) };
            match first.as_str() {
                "crate" if !is_inside => place = self.by_path[&Vec::new()],
                "self" if !is_inside => {}
                "super" => place = self.by_path[&module.path[..module.path.len().checked_sub(1)?].to_vec()],
                name => {
                    if let Some(child) = self.by_path.get(&[module.path.clone(), vec![name.to_owned()]].concat()) {
                        place = *child;
                    } else if let Some(import) = module.imports.iter().find(|import| import.name == name) {
                        // `use x;` of an outside crate leads to itself.
                        if import.path.first().is_some_and(|word| word == name) {
                            return None;
                        }
                        return self.target(place, &[&import.path, after].concat(), depth + 1);
                    } else if module.defined.contains(name) {
                        return Some(Target::Item(place));
                    } else {
                        let mut globs = module.imports.iter().filter(|import| import.name == "*");
                        let known = globs.find_map(|glob| self.known_through(place, glob, name, depth));
                        return match known {
                            Some(known) => self.target(place, &known, depth + 1),
                            // Written by a macro, perhaps; or an outside crate.
                            None => is_inside.then_some(Target::Item(place)),
                        };
                    }
                }
            }
            is_inside = true;
            module = &self.modules[place];
            rest = after;
        }
    }

    /// The path of `name` if the module behind `glob` has something of that name.
    fn known_through(&self, from: usize, glob: &Import, name: &str, depth: usize) -> Option<Vec<String>> {
        let behind = &glob.path[..glob.path.len() - 1];
        let place = self.module(from, behind, depth + 1)?;
        let module = &self.modules[place];
        let is_there = module.defined.contains(name)
            || module.imports.iter().any(|import| import.name == name)
            || self.by_path.contains_key(&[module.path.clone(), vec![name.to_owned()]].concat());
        is_there.then(|| [behind, &[name.to_owned()]].concat())
    }

    /// The module that a path leads to, if it is one of the crate's and no name is passed on along the way.
    fn module(&self, from: usize, path: &[String], depth: usize) -> Option<usize> {
        if depth > 20 {
            return None;
        }
        let mut place = self.modules[from].path.clone();
        for (at, word) in path.iter().enumerate() {
            match word.as_str() {
                "crate" if at == 0 => place.clear(),
                "self" if at == 0 => {}
                "super" => drop(place.pop()?),
                name => place.push(name.to_owned()),
            }
        }
        self.by_path.get(&place).copied()
    }
}

/// The keywords that define a type.
const TYPES: [&str; 5] = ["struct", "enum", "union", "trait", "type"];

/// The definitions in `code` outside of its blocks: the keyword and the name of each.
fn definitions(code: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = code;
    let mut depth = 0_usize;
    while let Some(at) = rest.find(|letter| source::is_word(letter) || "{}".contains(letter)) {
        rest = &rest[at..];
        let word = source::first_word(rest);
        if word.is_empty() {
            depth = if rest.starts_with('{') { depth + 1 } else { depth.saturating_sub(1) };
            rest = &rest[1..];
            continue;
        }
        rest = &rest[word.len()..];
        let defines = TYPES.contains(&word) || ["fn", "const", "static", "macro_rules"].contains(&word);
        if depth == 0 && defines {
            let after = rest.trim_start_matches(['!', ' ', '\n']);
            let after = after.strip_prefix("mut ").unwrap_or(after);
            let name = source::first_word(after);
            if !name.is_empty() && name != "fn" {
                found.push((word, name));
            }
        }
    }
    found
}

#[test]
fn definitions_are_found_outside_of_blocks() {
    let code = "pub struct A<T>(T); impl B for A { type C = D; fn e() {} } const fn f() {} static mut G: u8 = 0; macro_rules! h { () => { struct I; } } type J = K;";
    let names: Vec<&str> = definitions(code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["A", "f", "G", "h", "J"]);
}
