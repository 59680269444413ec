//! The function below `#[task]`: its parts, and the checks that it can be a task.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, FnArg, Ident, Pat, PatType, ReturnType, Signature, Token, Type, Visibility};

use crate::errors::Mistakes;
use crate::types;

/// A function, with or without a body. The body is kept as it was written: mistakes in there are reported by the
/// compiler.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: Option<Group>,
}

/// The parameters and the result of a task.
pub(crate) struct Shape {
    pub(crate) context: Option<ContextParameter>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) returns: Returns,
}

/// The way in which a task takes its context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextParameter {
    ByReference,
    ByValue,
}

pub(crate) struct Parameter {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
}

/// The return type, as far as the source text shows it.
#[allow(clippy::large_enum_variant, reason = "there is one per task, and it does not travel")]
pub(crate) enum Returns {
    /// A plain value; `None` is `()`.
    Value(Option<Type>),
    /// A `Result`. `value` is its value's type, or `None` where an alias hides it from the macro.
    Result { whole: Type, value: Option<Type>, error: Option<Type> },
    /// A name that ends in `Result` and may be an alias of one.
    Perhaps(Type),
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let starts_function = [input.peek(Token![fn]), input.peek(Token![async]), input.peek(Token![unsafe])];
        if !starts_function.contains(&true) && !input.peek(Token![const]) && !input.peek(Token![extern]) {
            return Err(
                input.error("`#[task]` goes on a function: `#[task] async fn add(x: i64, y: i64) -> i64 { x + y }`")
            );
        }
        let sig = input.parse()?;
        let body = if input.peek(Token![;]) {
            input.parse::<Token![;]>()?;
            None
        } else {
            match input.parse()? {
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => Some(body),
                other => {
                    return Err(syn::Error::new_spanned(
                        other,
                        "expected the body of the task, or `;` if it lives elsewhere",
                    ));
                }
            }
        };
        Ok(Self { attrs, vis, sig, body })
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.attrs.iter().map(ToTokens::to_token_stream));
        self.vis.to_tokens(tokens);
        self.sig.to_tokens(tokens);
        self.body.to_tokens(tokens);
    }
}

impl Function {
    /// Returns whether the function takes `self`, which is only allowed inside an `impl`.
    pub(crate) fn has_receiver(&self) -> bool {
        self.sig.inputs.iter().any(|input| matches!(input, FnArg::Receiver(_)))
    }

    /// Returns the parameters and the result, if nothing prevents the function from being a task.
    pub(crate) fn shape(&self, mistakes: &mut Mistakes) -> Option<Shape> {
        let mut found = Mistakes::default();
        self.check_qualifiers(&mut found);
        self.check_generics(&mut found);
        let (context, parameters) = self.read_parameters(&mut found);
        types::check_result(&self.sig.output, &mut found);
        let sound = found.is_empty();
        mistakes.merge(found);
        sound.then(|| Shape { context, parameters, returns: read_result(&self.sig.output) })
    }

    fn check_qualifiers(&self, mistakes: &mut Mistakes) {
        let sig = &self.sig;
        if let Some(constness) = &sig.constness {
            mistakes.at(constness, "a task runs on a worker, never in the compiler: leave `const` out");
        }
        if let syn::Safety::Unsafe(unsafety) = &sig.safety {
            mistakes.at(
                unsafety,
                "anybody who can send a message can call a task, so none is `unsafe`: leave it out and write an `unsafe` block \
                 in the body, around what has been checked there",
            );
        }
        if let Some(abi) = &sig.abi {
            mistakes.at(abi, "a task is called by a worker, not by other languages: leave `extern` out");
        }
        if let Some(variadic) = &sig.variadic {
            mistakes.at(variadic, "a task has a fixed number of parameters: write a `Vec<T>` in place of `...`");
        }
    }

    fn check_generics(&self, mistakes: &mut Mistakes) {
        let generics = &self.sig.generics;
        if !generics.params.is_empty() {
            let only_lifetimes = generics.params.iter().all(|param| matches!(param, syn::GenericParam::Lifetime(_)));
            let what = if only_lifetimes {
                "what travels in a message borrows nothing, so a task has no lifetimes: take owned types, `String` in \
                 place of `&str`"
            } else {
                "a message names one task with concrete types, so a task is not generic: write one task per type, and let \
                 them call a generic function"
            };
            mistakes.at(generics, what);
        }
        if let Some(clause) = &generics.where_clause {
            mistakes
                .at(clause, "a task has concrete types, of which nothing need be said: leave the `where` clause out");
        }
    }

    fn read_parameters(&self, mistakes: &mut Mistakes) -> (Option<ContextParameter>, Vec<Parameter>) {
        let mut context = None;
        let mut parameters = Vec::new();
        for (index, input) in self.sig.inputs.iter().enumerate() {
            let input = match input {
                FnArg::Typed(input) => input,
                FnArg::Receiver(receiver) => {
                    mistakes.at(
                        receiver,
                        "a task is a free function, since a message has no `self` to bring along: take what is needed of it as \
                         parameters, or share it with the worker's tasks by `ctx.state::<T>()`",
                    );
                    continue;
                }
            };
            for attribute in &input.attrs {
                mistakes.at(attribute, "a task's parameters carry no attributes: put it on the function");
            }
            match is_context(&input.ty) {
                None => parameters.extend(read_parameter(input, mistakes)),
                Some(how) if index == 0 && self.body.is_some() => {
                    check_context(input, mistakes);
                    context = Some(how);
                }
                Some(_) if self.body.is_none() => {
                    mistakes.at(input, "a declaration without a body lists the arguments alone: leave the context out");
                }
                Some(_) if context.is_some() => {
                    mistakes.at(input, "the context is there already: leave one of the two out");
                }
                Some(_) => {
                    mistakes.at(input, "the context goes first: write `ctx: &Context` before the other parameters");
                }
            }
        }
        (context, parameters)
    }
}

/// Returns how the context is taken, if the type's name ends in `Context`.
fn is_context(ty: &Type) -> Option<ContextParameter> {
    let (inner, how) = match types::plain(ty) {
        Type::Reference(reference) => (&*reference.elem, ContextParameter::ByReference),
        other => (other, ContextParameter::ByValue),
    };
    types::last_segment(inner).is_some_and(|segment| segment.ident == "Context").then_some(how)
}

fn check_context(input: &PatType, mistakes: &mut Mistakes) {
    if let Type::Reference(reference) = types::plain(&input.ty) {
        if reference.mutability.is_some() {
            mistakes.at(&input.ty, "the context is shared and changes nothing of itself: write `&Context`");
        } else if let Some(lifetime) = &reference.lifetime {
            mistakes
                .at(lifetime, "the context lives as long as the attempt: write `&Context`, or `Context` to keep it");
        }
    }
}

fn read_parameter(input: &PatType, mistakes: &mut Mistakes) -> Option<Parameter> {
    let shown = types::show(&input.ty);
    match &*input.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {
            types::check_parameter(&pat.ident.to_string(), &input.ty, mistakes);
            return Some(Parameter { ident: pat.ident.clone(), ty: (*input.ty).clone() });
        }
        Pat::Wild(wild) => {
            mistakes.at(wild, format!("callers may pass arguments by name, so each has one: write `_unused: {shown}`"));
        }
        pattern => mistakes.at(
            pattern,
            format!(
                "callers may pass arguments by name, so each has one: write `name: {shown}` and take it apart in the body with \
                 `let`"
            ),
        ),
    }
    types::check_parameter("name", &input.ty, mistakes);
    None
}

fn read_result(output: &ReturnType) -> Returns {
    let ReturnType::Type(_, whole) = output else { return Returns::Value(None) };
    let whole = types::plain(whole);
    let Some(segment) = types::last_segment(whole) else { return Returns::Value(Some(whole.clone())) };
    if segment.ident == "Result" {
        let mut arguments = types::type_arguments(segment).cloned();
        return Returns::Result { whole: whole.clone(), value: arguments.next(), error: arguments.next() };
    }
    if segment.ident.to_string().ends_with("Result") {
        Returns::Perhaps(whole.clone())
    } else {
        Returns::Value(Some(whole.clone()))
    }
}
