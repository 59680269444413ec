//! The `key = value` pairs between the parentheses of `#[task(…)]`, read one by one.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, ExprLit, Ident, Lit, LitStr, Token};

use crate::errors::Mistakes;

/// One `key = value` pair.
pub(crate) struct Entry {
    pub(crate) key: Ident,
    /// The value; `None` for a key alone.
    pub(crate) value: Option<Expr>,
}

/// Reads all pairs that can be read. A pair that cannot is noted as a mistake, and reading continues after the next
/// comma.
pub(crate) fn read_all(tokens: TokenStream, mistakes: &mut Mistakes) -> Vec<Entry> {
    let mut entries = Vec::new();
    let parser = |input: ParseStream<'_>| -> syn::Result<()> {
        while !input.is_empty() {
            match read(input) {
                Ok(entry) => entries.push(entry),
                Err(error) => mistakes.add(error),
            }
            while !input.is_empty() && !input.peek(Token![,]) {
                input.parse::<TokenTree>()?;
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    };
    if let Err(error) = parser.parse2(tokens) {
        mistakes.add(error);
    }
    entries
}

fn read(input: ParseStream<'_>) -> syn::Result<Entry> {
    if !input.peek(Ident::peek_any) {
        let message = "options are written `key = value`: for example `#[task(queue = \"mail\", retries = 5)]`";
        return Err(input.error(message));
    }
    let key = Ident::parse_any(input)?;
    let value = if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        if input.is_empty() || input.peek(Token![,]) {
            return Err(syn::Error::new(key.span(), format!("`{key}` has no value; {}", form(&key))));
        }
        Some(input.parse().map_err(|error| syn::Error::new(error.span(), format!("{error}; {}", form(&key))))?)
    } else {
        None
    };
    if !input.is_empty() && !input.peek(Token![,]) {
        let message = match value {
            None => format!("`{key}` is set with `=`; {}", form(&key)),
            Some(_) => format!("a comma is missing between the value of `{key}` and this"),
        };
        return Err(input.error(message));
    }
    Ok(Entry { key, value })
}

/// Describes the form to write for `key`.
fn form(key: &Ident) -> String {
    match crate::attribute::example(&key.to_string()) {
        Some(value) => format!("write for example `{key} = {value}`"),
        None => format!("write `{key} = value`"),
    }
}

impl Entry {
    /// Returns the place of the value, or of the key if there is no value.
    pub(crate) fn span(&self) -> Span {
        match &self.value {
            Some(value) => syn::spanned::Spanned::span(value),
            None => self.key.span(),
        }
    }

    /// Returns the value as text.
    pub(crate) fn text(&self, mistakes: &mut Mistakes) -> Option<LitStr> {
        if let Some(Lit::Str(text)) = self.literal() {
            return Some(text.clone());
        }
        self.wrong("wants text in quotes", mistakes)
    }

    /// Returns the value as text, converted by `parse`.
    pub(crate) fn parsed<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, String>,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        let text = self.text(mistakes)?;
        parse(&text.value()).map_err(|message| mistakes.at(&text, message)).ok()
    }

    /// Returns the value as an integer that fits into a `T`; `bounds` describes those in words.
    pub(crate) fn number<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        bounds: &str,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        if let Some(Lit::Int(number)) = self.literal()
            && let Ok(number) = number.base10_parse()
        {
            return Some(number);
        }
        self.wrong(&format!("is a whole number, {bounds}"), mistakes)
    }

    /// Returns the value as a flag; the key alone means true.
    pub(crate) fn flag(&self, mistakes: &mut Mistakes) -> Option<bool> {
        match self.literal() {
            None if self.value.is_none() => Some(true),
            Some(Lit::Bool(flag)) => Some(flag.value),
            _ => self.wrong("is a flag", mistakes),
        }
    }

    /// Returns the value as the path of a function.
    pub(crate) fn function(&self, mistakes: &mut Mistakes) -> Option<syn::ExprPath> {
        match self.plain() {
            Some(Expr::Path(path)) => Some(path.clone()),
            _ => self.wrong("is the path of a function, without quotes", mistakes),
        }
    }

    fn wrong<T>(&self, what: &str, mistakes: &mut Mistakes) -> Option<T> {
        let message = format!("`{}` {what}; {}", self.key, form(&self.key));
        match &self.value {
            Some(value) => mistakes.at(value, message),
            None => mistakes.at(&self.key, message),
        }
        None
    }

    fn literal(&self) -> Option<&Lit> {
        match self.plain() {
            Some(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
            _ => None,
        }
    }

    /// Returns the value without the invisible groups that `macro_rules!` puts around the tokens it passes on.
    fn plain(&self) -> Option<&Expr> {
        let mut value = self.value.as_ref()?;
        while let Expr::Group(group) = value {
            value = &group.expr;
        }
        Some(value)
    }
}
