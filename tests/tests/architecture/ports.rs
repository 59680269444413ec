//! Ports ask every adapter for everything. A method that only some adapters need is a capability: a trait of its own,
//! which the port hands out as an `Option`.

use crate::source;

/// The folders of the ports.
const PORTS: [&str; 2] = ["taskq/src/broker", "taskq/src/backend"];

/// The default methods of public traits in `code` that are no capabilities, as `Trait::method`. Extension traits
/// (`…Ext`) consist of default methods, and no adapter implements them.
fn optional_methods(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in source::words(code).filter(|(_, word)| *word == "trait") {
        let name = source::first_word(code[at + "trait".len()..].trim_start());
        let is_public = code[..at].trim_end().ends_with("pub");
        let Some(open) = code[at..].find('{') else { continue };
        if !is_public || name.ends_with("Ext") {
            continue;
        }
        let body = source::block(&code[at + open..]);
        for (start, _) in source::words(body).filter(|(_, word)| *word == "fn") {
            let signature = &body[start..start + body[start..].find(['{', ';']).unwrap_or(0)];
            let has_body = body[start + signature.len()..].starts_with('{');
            let answer = signature.rsplit_once("->").map_or("", |(_, answer)| answer.trim());
            if has_body && !answer.starts_with("Option<&dyn ") {
                found.push(format!("{name}::{}", source::first_word(body[start + "fn".len()..].trim_start())));
            }
        }
    }
    found
}

#[test]
fn ports_have_no_methods_that_only_some_adapters_need() {
    let found: Vec<String> = PORTS
        .into_iter()
        .flat_map(source::sources)
        .flat_map(|file| {
            let code = source::without_tests(&source::code(&source::read(&file)));
            optional_methods(&code).into_iter().map(|method| format!("{file}: {method}")).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "these methods belong into a capability of their own:\n{}", found.join("\n"));
}

#[test]
fn planted_methods_are_found() {
    let code = "pub trait Port: Send { fn a(&self); fn b(&self) -> u8 { 0 } fn c(&self) -> Option<&dyn Capability> { None } }
        trait Inner { fn d(&self) {} } pub trait PortExt: Port { fn e(&self) { loop { f() } } } pub(super) trait G { fn h() {} }";
    assert_eq!(optional_methods(code), ["Port::b"]);
}
