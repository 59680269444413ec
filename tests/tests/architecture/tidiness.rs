//! Locks stay in their files, and a type's name says which type is meant.

use std::collections::{BTreeMap, BTreeSet};

use crate::rooms::FOLDERS;
use crate::source;
use crate::tree::Tree;

/// Names that many crates give to several types, since the module in front of them says which is meant.
const SHARED_NAMES: [&str; 2] = ["Error", "Builder"];

/// Kinds of locks.
const LOCKS: [&str; 2] = ["Mutex", "RwLock"];

/// The fields and statics of `code` that are locks and can be seen from other files.
fn open_locks(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in source::words(code).filter(|(_, word)| *word == "pub") {
        let mut item = code[at + "pub".len()..].trim_start();
        if item.starts_with('(') {
            item = item[item.find(')').map_or(item.len(), |end| end + 1)..].trim_start();
        }
        let first = source::first_word(item);
        if ["fn", "async", "unsafe", "const", "struct", "enum", "trait", "type", "use", "mod"].contains(&first) {
            continue;
        }
        let mut depth = 0_usize;
        let end = item.find(|letter| {
            match letter {
                '<' | '(' | '[' => depth += 1,
                '>' | ')' | ']' if depth > 0 => depth -= 1,
                ',' | ';' | '}' | '=' | ')' => return depth == 0,
                _ => {}
            }
            false
        });
        let item = &item[..end.unwrap_or(item.len())];
        if source::words(item).any(|(_, word)| LOCKS.contains(&word)) {
            found.push(item);
        }
    }
    found
}

#[test]
fn locks_are_private_to_their_files() {
    let files =
        FOLDERS.iter().filter(|folder| source::root().join(folder).exists()).flat_map(|folder| source::sources(folder));
    let open: Vec<String> = files
        .flat_map(|file| {
            let code = source::without_tests(&source::code(&source::read(&file)));
            open_locks(&code).into_iter().map(|item| format!("{file}: {item}")).collect::<Vec<_>>()
        })
        .collect();
    assert!(open.is_empty(), "other files can take these locks:\n{}", open.join("\n"));
}

#[test]
fn planted_locks_are_found() {
    let code = "struct A { a: Mutex<u8>, pub(super) b: Arc<Mutex<(u8, u8)>>, pub c: u8, pub d: std::sync::RwLock<u8> }
        pub(crate) fn lock<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {} struct B(pub Mutex<u8>, Mutex<u8>);
        pub static C: Mutex<u8> = Mutex::new(0); pub use std::sync::Mutex; pub(in crate::a) e: BTreeMap<u8, MutexGuard<u8>>";
    let expected = ["b: Arc<Mutex<(u8, u8)>>", "d: std::sync::RwLock<u8>", "Mutex<u8>", "static C: Mutex<u8>"];
    assert_eq!(open_locks(code).iter().map(|item| item.trim()).collect::<Vec<_>>(), expected);
}

/// The names of types that are defined in several files.
fn repeated(tree: &Tree) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut files: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, file) in tree.types() {
        files.entry(name).or_default().insert(file);
    }
    files.retain(|name, files| files.len() > 1 && !SHARED_NAMES.contains(name));
    files
}

#[test]
fn a_name_is_one_type() {
    let mut faults = Vec::new();
    for folder in FOLDERS {
        let tree = Tree::of_crate(&format!("{folder}/lib.rs"));
        faults.extend(repeated(&tree).into_iter().map(|(name, files)| {
            let files: Vec<&str> = files.into_iter().collect();
            format!("{name}: {}", files.join(", "))
        }));
    }
    assert!(faults.is_empty(), "several types have the same name:\n{}", faults.join("\n"));
}

#[test]
fn planted_names_are_found() {
    let sources = [
        ("x/lib.rs", "mod a; mod b; pub struct Item; pub enum Error {}"),
        ("x/a.rs", "impl Iterator for X { type Item = u8; } pub enum Error {} trait Line {}"),
        ("x/b.rs", "type Line = u8; #[cfg(test)] struct Item; fn f() { struct Item; }"),
    ];
    let sources = sources.iter().map(|(file, source)| ((*file).to_owned(), (*source).to_owned())).collect();
    let tree = Tree::of_sources("x/lib.rs", &sources);
    assert_eq!(repeated(&tree).into_keys().collect::<Vec<_>>(), ["Line"]);
}
