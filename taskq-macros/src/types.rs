//! Types as they are written: the checks of parameters and results, and the text of a type in messages.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{GenericArgument, PathArguments, ReturnType, Type};

use crate::errors::Mistakes;

/// Returns the type without the parentheses and invisible groups around it.
pub(crate) fn plain(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            plain => return plain,
        };
    }
}

/// Returns the last segment of a type's path: `Context` of `&taskq::Context`.
pub(crate) fn last_segment(ty: &Type) -> Option<&syn::PathSegment> {
    match plain(ty) {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    }
}

/// Returns the type arguments of a path segment.
pub(crate) fn type_arguments(segment: &syn::PathSegment) -> impl Iterator<Item = &Type> {
    let arguments = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments.into_iter().flatten().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// Notes why `ty` cannot be the type of a parameter called `name`, if it cannot.
pub(crate) fn check_parameter(name: &str, ty: &Type, mistakes: &mut Mistakes) {
    match plain(ty) {
        Type::Reference(reference) => {
            let owned = owned(&reference.elem);
            let hint = if owned == "String" { "; callers may still pass a `&str`" } else { "" };
            mistakes.at(ty, format!("a task owns its arguments: write `{name}: {owned}`{hint}"));
        }
        Type::ImplTrait(_) => {
            mistakes.at(ty, format!("a message must name a concrete type: write it in place of `{}`", show(ty)));
        }
        Type::Slice(slice) => {
            mistakes.at(ty, format!("a slice has no owner: write `{name}: Vec<{}>`", show(&slice.elem)));
        }
        _ => check_inside(ty, mistakes),
    }
}

/// Notes why `output` cannot be the return type of a task, if it cannot.
pub(crate) fn check_result(output: &ReturnType, mistakes: &mut Mistakes) {
    let ReturnType::Type(_, ty) = output else { return };
    match plain(ty) {
        Type::Reference(reference) => {
            mistakes.at(ty, format!("a task's result travels back in a message: write `{}`", owned(&reference.elem)));
        }
        Type::ImplTrait(opaque) if opaque.to_token_stream().to_string().contains("Future") => {
            mistakes.at(ty, "write `async fn` and the type that the future gives in place of `impl Future`");
        }
        Type::ImplTrait(_) => {
            mistakes.at(ty, format!("a message must name a concrete type: write it in place of `{}`", show(ty)));
        }
        Type::Never(_) => {
            mistakes.at(ty, "a task ends; write what it gives when it does, `-> ()` or `-> Result<(), E>`");
        }
        plain => match last_segment(plain) {
            // An error type is not checked: the error itself is never sent, only its text, so it may be a `&'static
            // str`.
            Some(segment) if segment.ident == "Result" => {
                type_arguments(segment).take(1).for_each(|value| check_inside(value, mistakes));
            }
            _ => check_inside(plain, mistakes),
        },
    }
}

/// Notes borrowed types within `ty`.
fn check_inside(ty: &Type, mistakes: &mut Mistakes) {
    match plain(ty) {
        Type::Reference(reference) => mistakes.at(
            ty,
            format!(
                "what travels in a message is owned: write `{}` in place of `{}`",
                owned(&reference.elem),
                show(ty)
            ),
        ),
        Type::ImplTrait(_) => {
            mistakes.at(ty, format!("a message must name a concrete type: write it in place of `{}`", show(ty)));
        }
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|elem| check_inside(elem, mistakes)),
        Type::Array(array) => check_inside(&array.elem, mistakes),
        Type::Path(path) => {
            for segment in &path.path.segments {
                let PathArguments::AngleBracketed(arguments) = &segment.arguments else { continue };
                for argument in &arguments.args {
                    match argument {
                        GenericArgument::Type(inner) => check_inside(inner, mistakes),
                        GenericArgument::Lifetime(lifetime) if lifetime.ident != "static" => mistakes.at(
                            lifetime,
                            format!("what travels in a message borrows nothing: write an owned type, or `'static` in place of `{lifetime}`"),
                        ),
                        _ => {}
                    }
                }
            }
        }
        _ => {}
    }
}

/// Returns the owned counterpart of a borrowed type: `String` for `&str`.
fn owned(ty: &Type) -> String {
    let ty = plain(ty);
    match ty {
        Type::Slice(slice) => return format!("Vec<{}>", show(&slice.elem)),
        Type::Reference(reference) => return owned(&reference.elem),
        Type::TraitObject(_) => return format!("Box<{}>", show(ty)),
        _ => {}
    }
    match last_segment(ty).map(|segment| segment.ident.to_string()).as_deref() {
        Some("str") => "String".to_owned(),
        Some("Path") => "std::path::PathBuf".to_owned(),
        _ => show(ty),
    }
}

/// Returns a type's text as a person would write it; tokens by themselves print with a space between all of them.
pub(crate) fn show(ty: &Type) -> String {
    let ty = plain(ty);
    tidy(&quote!(#ty))
}

fn tidy(tokens: &TokenStream) -> String {
    let mut text = String::new();
    for word in tokens.to_string().split_whitespace() {
        let glued = text.is_empty()
            || text.ends_with(['<', '(', '[', '&', ':', '*', '\''])
            || (word.starts_with(['<', '>', ')', ']', ',', ':', ';']) && !text.ends_with("->"));
        // `x: T` inside a type is rare (`for`, bounds); paths are everywhere.
        if !glued && !(text.ends_with('!')) {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Type {
        syn::parse_str(text).expect("the tests write types")
    }

    #[test]
    fn types_are_shown_as_people_write_them() {
        for text in [
            "i64",
            "Vec<u8>",
            "Option<Vec<String>>",
            "std::collections::HashMap<String, (i64, bool)>",
            "[u8; 4]",
            "()",
            "Result<(), my::Error>",
            "<X as Y>::Z",
            "&str",
            "Cow<'static, str>",
        ] {
            assert_eq!(show(&parse(text)), text);
        }
    }

    #[test]
    fn borrowed_types_are_refused_with_the_owned_one() {
        for (text, remedy) in [
            ("&str", "`x: String`"),
            ("&[u8]", "`x: Vec<u8>`"),
            ("&mut Order", "`x: Order`"),
            ("&&str", "`x: String`"),
            ("&std::path::Path", "PathBuf"),
            ("[u8]", "`x: Vec<u8>`"),
            ("Option<&str>", "`String` in place of `&str`"),
            ("Vec<(i64, &[u8])>", "`Vec<u8>`"),
            ("impl Into<String>", "concrete type"),
            ("Cow<'a, str>", "`'static`"),
        ] {
            let mut mistakes = Mistakes::default();
            check_parameter("x", &parse(text), &mut mistakes);
            let message = mistakes.into_compile_errors().to_string();
            assert!(message.contains(remedy), "{text}: {message}");
        }
    }

    #[test]
    fn owned_types_pass() {
        for text in
            ["String", "Vec<u8>", "[u8; 4]", "(i64, String)", "Cow<'static, str>", "HashMap<String, Option<i64>>"]
        {
            let mut mistakes = Mistakes::default();
            check_parameter("x", &parse(text), &mut mistakes);
            assert!(mistakes.is_empty(), "{text}");
        }
    }
}
