//! Rust sources, read as text: code apart from comments and texts, without tests, and the paths in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A stretch of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Code(&'a str),
    /// A comment with its slashes. A comment on one line ends before the line's end.
    Comment(&'a str),
    /// A string with its quotation marks.
    Text(&'a str),
    /// A character with its quotation marks.
    Letter(&'a str),
}

/// A source, taken apart.
pub(crate) fn pieces(source: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut code, mut at) = (0, 0);
    while let Some(letter) = source[at..].chars().next() {
        let rest = &source[at..];
        let piece = if rest.starts_with("//") {
            Some(Piece::Comment(&rest[..rest.find('\n').unwrap_or(rest.len())]))
        } else if rest.starts_with("/*") {
            Some(Piece::Comment(&rest[..rest.find("*/").map_or(rest.len(), |end| end + 2)]))
        } else if let Some(hashes) = raw_text(&source[code..at], rest) {
            let end = format!("\"{hashes}");
            let start = 2 + hashes.len();
            Some(Piece::Text(&rest[..rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())]))
        } else if letter == '"' {
            Some(Piece::Text(&rest[..text_length(rest)]))
        } else {
            letter_length(rest).map(|length| Piece::Letter(&rest[..length]))
        };
        if let Some(piece) = piece {
            pieces.push(Piece::Code(&source[code..at]));
            let (Piece::Code(text) | Piece::Comment(text) | Piece::Text(text) | Piece::Letter(text)) = piece;
            pieces.push(piece);
            at += text.len();
            code = at;
        } else {
            at += letter.len_utf8();
        }
    }
    pieces.push(Piece::Code(&source[code..]));
    pieces.retain(|piece| *piece != Piece::Code(""));
    pieces
}

/// The code of a source: texts are empty, letters blank, and comments gone.
pub(crate) fn code(source: &str) -> String {
    let shown = |piece| match piece {
        Piece::Code(code) => code,
        Piece::Comment(_) => "",
        Piece::Text(_) => "\"\"",
        Piece::Letter(_) => "' '",
    };
    pieces(source).into_iter().map(shown).collect()
}

/// The hashes of the raw text that `rest` begins with, if it does. `before` is the code in front of it.
fn raw_text<'a>(before: &str, rest: &'a str) -> Option<&'a str> {
    let after = rest.strip_prefix('r')?;
    // A word that ends in `r`; `br"…"` is a text.
    let word = before.len() - before.trim_end_matches(is_word).len();
    if word > 0 && !before.ends_with('b') {
        return None;
    }
    let hashes = &after[..after.len() - after.trim_start_matches('#').len()];
    after[hashes.len()..].starts_with('"').then_some(hashes)
}

/// The length of the text in quotation marks that `rest` begins with.
fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the character in quotation marks that `rest` begins with. A lifetime has no second mark.
fn letter_length(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('\'')?;
    let letter = after.chars().next()?;
    if letter == '\\' {
        return after[2..].find('\'').map(|end| 1 + 2 + end + 1);
    }
    after[letter.len_utf8()..].starts_with('\'').then_some(1 + letter.len_utf8() + 1)
}

pub(crate) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The words of `code`, each with the place where it begins.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += code[at..].find(is_word)?;
        let start = at;
        at += code[at..].find(|letter| !is_word(letter)).unwrap_or(code.len() - at);
        Some((start, &code[start..at]))
    })
}

/// The word that `code` begins with, which may be none.
pub(crate) fn first_word(code: &str) -> &str {
    &code[..code.find(|letter| !is_word(letter)).unwrap_or(code.len())]
}

/// The place of the bracket that closes the one with which `code` begins, or the end.
fn closing(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

/// The inside of the block that `code` begins with.
pub(crate) fn block(code: &str) -> &str {
    &code[1..closing(code).max(1)]
}

/// The length of the item that `code` begins with: up to a semicolon or the end of a block, both outside of brackets.
/// A block ends neither an import nor a constant.
fn item_length(code: &str) -> usize {
    let first = words(code).map(|(_, word)| word).find(|word| !["pub", "crate", "super", "in", "self"].contains(word));
    let ends_with_semicolon = first.is_some_and(|word| ["use", "const", "static", "type"].contains(&word));
    let mut at = 0;
    while at < code.len() {
        let letter = code[at..].chars().next().expect("there is more");
        match letter {
            ';' => return at + 1,
            '{' | '(' | '[' => {
                at = (at + closing(&code[at..]) + 1).min(code.len());
                if letter == '{' && !ends_with_semicolon {
                    return at;
                }
            }
            _ => at += letter.len_utf8(),
        }
    }
    code.len()
}

/// The code without the items that are compiled for tests only.
pub(crate) fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = ["#[cfg(test)]", "#[cfg(all(test,"].iter().filter_map(|mark| rest.find(mark)).min() {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        while rest.starts_with("#[") {
            rest = rest[1 + closing(&rest[1..]) + 1..].trim_start();
        }
        rest = &rest[item_length(rest)..];
    }
    kept + rest
}

/// A module that is written out in a file, or the file itself.
#[derive(Debug)]
pub(crate) struct Part {
    /// The names of the modules around it, the file's own left out.
    pub(crate) inside: Vec<String>,
    pub(crate) code: String,
    /// The modules that it declares and that have files of their own.
    pub(crate) files: Vec<String>,
}

/// The modules of a file, itself first.
pub(crate) fn parts(code: &str) -> Vec<Part> {
    let mut found = Vec::new();
    part(&mut found, &[], code);
    found
}

fn part(found: &mut Vec<Part>, inside: &[String], code: &str) {
    let place = found.len();
    let (mut own, mut files) = (String::new(), Vec::new());
    found.push(Part { inside: inside.to_vec(), code: String::new(), files: Vec::new() });
    let mut copied = 0;
    while let Some((at, _)) = words(&code[copied..]).find(|(_, word)| *word == "mod") {
        own.push_str(&code[copied..copied + at]);
        let after = code[copied + at + "mod".len()..].trim_start();
        let name = first_word(after);
        let rest = after[name.len()..].trim_start();
        copied = code.len() - rest.len();
        if rest.starts_with('{') {
            let end = closing(rest);
            part(found, &[inside, &[name.to_owned()]].concat(), &rest[1..end]);
            copied += end;
        } else if rest.starts_with(';') {
            files.push(name.to_owned());
        }
    }
    own.push_str(&code[copied..]);
    found[place].code = own;
    found[place].files = files;
}

/// A `use`, with the name under which its target is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// `*` for everything, `_` for a trait without a name.
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    pub(crate) is_passed_on: bool,
}

/// The imports of `code`, and the code without them.
pub(crate) fn imports(code: &str) -> (Vec<Import>, String) {
    let (mut found, mut rest_of_code, mut copied) = (Vec::new(), String::new(), 0);
    for (at, _) in words(code).filter(|(_, word)| *word == "use") {
        let after = &code[at + "use".len()..];
        // `use<'a>` is no import; and what is inside of one has been read with it.
        if at < copied || !after.starts_with(char::is_whitespace) {
            continue;
        }
        let before = code[copied..at].trim_end();
        let is_passed_on = before.ends_with("pub")
            || (before.ends_with(')') && before.rfind('(').is_some_and(|open| before[..open].ends_with("pub")));
        let end = after.find(';').unwrap_or(after.len());
        let tree: String = after[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        read_import(&tree, &[], is_passed_on, &mut found);
        rest_of_code.push_str(&code[copied..at]);
        copied = at + "use".len() + end;
    }
    rest_of_code.push_str(&code[copied..]);
    (found, rest_of_code)
}

fn read_import(tree: &str, prefix: &[String], is_passed_on: bool, found: &mut Vec<Import>) {
    let tree = tree.trim();
    let (path, branches) = match tree.find('{') {
        Some(open) => (&tree[..open], Some(&tree[open + 1..open + closing(&tree[open..])])),
        None => (tree, None),
    };
    let (path, alias) = match path.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim())),
        None => (path, None),
    };
    let mut full = prefix.to_vec();
    full.extend(path.split("::").map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned));
    if let Some(branches) = branches {
        let mut start = 0;
        let mut depth = 0_usize;
        for (at, letter) in branches.char_indices().chain([(branches.len(), ',')]) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !branches[start..at].trim().is_empty() {
                        read_import(&branches[start..at], &full, is_passed_on, found);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    if full.len() > 1 && full.last().is_some_and(|last| last == "self") {
        full.pop();
    }
    let Some(last) = full.last() else { return };
    found.push(Import { name: alias.unwrap_or(last).to_owned(), path: full, is_passed_on });
}

/// Every path of two words or more in `code`, trees of `use` spelled out.
pub(crate) fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find("::") {
        let start = rest[..at].rfind(|letter: char| !is_word(letter)).map_or(0, |before| before + 1);
        let prefix = &rest[start..at];
        let end = at + read_tree(prefix, &rest[at..], &mut found);
        rest = &rest[end..];
    }
    found
}

/// Reads a path from the `::` after `prefix` on, and returns its length.
fn read_tree(prefix: &str, rest: &str, found: &mut BTreeSet<String>) -> usize {
    let after = &rest[2..];
    if !after.starts_with('{') {
        let word = first_word(after).len();
        let path = format!("{prefix}::{}", &after[..word]);
        if after[word..].starts_with("::") {
            return 2 + word + read_tree(&path, &after[word..], found);
        }
        found.insert(path);
        return 2 + word;
    }
    let mut at = 1;
    while at < after.len() {
        let letter = after[at..].chars().next().expect("there is more");
        if letter == '}' {
            return 2 + at + 1;
        }
        if is_word(letter) {
            let word = first_word(&after[at..]).len();
            let path = format!("{prefix}::{}", &after[at..at + word]);
            at += word;
            if after[at..].starts_with("::") {
                at += read_tree(&path, &after[at..], found);
            } else {
                found.insert(path);
                if let Some(alias) = after[at..].strip_prefix(" as ") {
                    at += " as ".len() + first_word(alias).len();
                }
            }
        } else {
            at += letter.len_utf8();
        }
    }
    2 + at
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file} cannot be read: {error}"))
}

/// All files below `folder` with one of these endings, as paths from the workspace's root, in order.
pub(crate) fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("the workspace's folders can be read") {
            let entry = entry.expect("the workspace's folders can be read");
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().expect("files have a type").is_dir() {
                if entry.file_name() != "target" {
                    folders.push(path);
                }
            } else if Path::new(&path).extension().is_some_and(|ending| endings.iter().any(|one| ending == *one)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn sources(folder: &str) -> Vec<String> {
    files(folder, &["rs"])
}

#[test]
fn sources_are_taken_apart() {
    let source = "let a = r#\"x // \"y\" \"#; // one\n/// two\nlet b = ('\"', '{', '\\'', b'x', \"\\\"{\"); /* three */ f::<'a>(bar\"\")";
    let comments: Vec<&str> = pieces(source)
        .into_iter()
        .filter_map(|piece| if let Piece::Comment(text) = piece { Some(text) } else { None })
        .collect();
    assert_eq!(comments, ["// one", "/// two", "/* three */"]);
    assert_eq!(code(source), "let a = \"\"; \n\nlet b = (' ', ' ', ' ', b' ', \"\");  f::<'a>(bar\"\")");
}

#[test]
fn tests_are_left_out() {
    for (code, expected) in [
        ("a; #[cfg(test)] mod tests { use x::y; fn f() { g() } } b;", "a;  b;"),
        ("a; #[cfg(test)]\nmod tests;\nb;", "a; \nb;"),
        ("#[cfg(all(test, unix))] #[allow(x)] fn f(a: [u8; 3]) -> X { y } b", " b"),
        ("#[cfg(test)] pub(crate) use a::{b, c}; d", " d"),
        ("#[cfg(test)] const X: Y = Y { z: 1 }; d", " d"),
        ("#[cfg(any(test, unix))] fn f() {}", "#[cfg(any(test, unix))] fn f() {}"),
    ] {
        assert_eq!(without_tests(code), expected, "{code}");
    }
}

#[test]
fn imports_are_spelled_out() {
    let (found, rest) =
        imports("pub(crate) use a::{b, c::{self, d as e}, f::*};\nfn g() -> impl h + use<'a> {}\nuse i;");
    let found: Vec<String> =
        found.iter().map(|one| format!("{} = {} {}", one.name, one.path.join("::"), one.is_passed_on)).collect();
    assert_eq!(found, ["b = a::b true", "c = a::c true", "e = a::c::d true", "* = a::f::* true", "i = i false"]);
    assert_eq!(rest, "pub(crate) ;\nfn g() -> impl h + use<'a> {}\n;");
}
