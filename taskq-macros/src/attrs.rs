//! Attributes of the function beside `#[task]`, and the generated items that each of them goes to.

use syn::Attribute;

use crate::errors::Mistakes;

/// The function's attributes, sorted by the items that they concern.
pub(crate) struct Attrs<'a> {
    /// `cfg`: applies to every generated item.
    conditions: Vec<&'a Attribute>,
    /// Documentation.
    docs: Vec<&'a Attribute>,
    /// Attributes that concern callers: `deprecated`.
    for_callers: Vec<&'a Attribute>,
    /// Lint levels.
    lints: Vec<&'a Attribute>,
    /// All other attributes, which concern the body: `expect`, `inline`, `tracing::instrument`, …
    for_body: Vec<&'a Attribute>,
}

impl<'a> Attrs<'a> {
    pub(crate) fn sort(all: &'a [Attribute]) -> Self {
        let mut attrs = Self { conditions: vec![], docs: vec![], for_callers: vec![], lints: vec![], for_body: vec![] };
        for attribute in all {
            let name = attribute.path().get_ident().map(ToString::to_string).unwrap_or_default();
            let place = match name.as_str() {
                "cfg" => &mut attrs.conditions,
                "doc" => &mut attrs.docs,
                "deprecated" => &mut attrs.for_callers,
                "allow" | "warn" | "deny" | "forbid" => &mut attrs.lints,
                _ => &mut attrs.for_body,
            };
            place.push(attribute);
        }
        attrs
    }

    /// Returns the attributes of every generated item.
    pub(crate) fn for_all(&self) -> Vec<&'a Attribute> {
        self.conditions.clone()
    }

    /// Returns the attributes of the function that makes calls.
    pub(crate) fn for_call(&self) -> Vec<&'a Attribute> {
        [&self.conditions, &self.docs, &self.for_callers, &self.lints].into_iter().flatten().copied().collect()
    }

    /// Returns the attributes of `run`, the function with the body.
    pub(crate) fn for_run(&self) -> Vec<&'a Attribute> {
        [&self.docs, &self.lints, &self.for_body].into_iter().flatten().copied().collect()
    }
}

/// Notes a second `#[task]` on one function, and removes it.
pub(crate) fn remove_second(attrs: &mut Vec<Attribute>, mistakes: &mut Mistakes) {
    attrs.retain(|attribute| {
        let path = attribute.path();
        let ours = path.segments.len() <= 2 && path.segments.last().is_some_and(|last| last.ident == "task");
        if ours {
            mistakes.at(attribute, "the function is a task already: keep one `#[task]`, with all options in it");
        }
        !ours
    });
}
