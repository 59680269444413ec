//! The expansion of a task: a function that makes calls, a type that carries its name and body, and an entry in the
//! registry.
//!
//! The function is in the namespace of values and the type, a braced struct, in that of types, so both can have the
//! task's name. That also works inside functions, where a generated module could not see the types around it.
//!
//! Generated tokens have the span [`Span::mixed_site`]: their local names cannot collide with the user's, and lints
//! leave them alone.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Ident, Type};

use crate::attribute::Attribute;
use crate::attrs::Attrs;
use crate::signature::{ContextParameter, Function, Returns, Shape};
use crate::{options, types};

/// The parts from which everything is written.
pub(crate) struct Task<'a> {
    pub(crate) attribute: &'a Attribute,
    pub(crate) function: &'a Function,
    pub(crate) shape: &'a Shape,
    /// The name in messages.
    pub(crate) name: String,
    /// The package that the task is in.
    pub(crate) package: String,
}

impl Task<'_> {
    /// The whole expansion.
    pub(crate) fn expand(&self) -> TokenStream {
        let attrs = Attrs::sort(&self.function.attrs);
        let call = self.expand_call(&attrs);
        let carrier = self.expand_carrier(&attrs);
        let registration = self.function.body.as_ref().map(|_| self.expand_registration(&attrs));
        quote!(#call #carrier #registration)
    }

    /// `fn add(x: impl IntoArg<i64>, …) -> Call<i64>`.
    fn expand_call(&self, attrs: &Attrs<'_>) -> TokenStream {
        let (private, ident) = (self.private(), &self.function.sig.ident);
        // The compiler reports errors in this function at the user's function.
        let here = Span::mixed_site().located_at(ident.span());
        let (vis, attrs) = (&self.function.vis, attrs.for_call());
        let (carrier, value) = (self.carrier(), self.value());
        let types: Vec<_> = self.shape.parameters.iter().map(|parameter| &parameter.ty).collect();
        let names: Vec<_> = self.shape.parameters.iter().map(|parameter| own(&parameter.ident)).collect();
        let texts = names.iter().map(|name| name.unraw().to_string());
        quote_spanned! {here=>
            #(#attrs)*
            #vis fn #ident(#(#names: impl #private::IntoArg<#types>),*) -> #private::Call<#value> {
                let __taskq_call = #private::Call::new(<#carrier>::NAME, const { &<#carrier>::__TASKQ_OPTIONS });
                #(
                    let __taskq_call = <#types as #private::TaskArgument>::pass(
                        __taskq_call,
                        #texts,
                        &#private::IntoArg::<#types>::into_arg(#names),
                    );
                )*
                __taskq_call
            }
        }
    }

    /// `struct add {}` with `NAME` and `run`.
    fn expand_carrier(&self, attrs: &Attrs<'_>) -> TokenStream {
        let (site, private, carrier) = (Span::mixed_site(), self.private(), self.carrier());
        let (vis, name, cfg) = (&self.function.vis, &self.name, attrs.for_all());
        let options = options::expand(self.attribute, &private);
        let run = self.function.body.as_ref().map(|body| {
            let (attrs, sig) = (attrs.for_run(), &self.function.sig);
            let (asyncness, fn_token, inputs, output) = (&sig.asyncness, &sig.fn_token, &sig.inputs, &sig.output);
            let run = Ident::new("run", site.located_at(sig.ident.span()));
            quote_spanned! {site=>
                /// The function itself, here and now, without a queue.
                ///
                #(#attrs)*
                // `async` decides where a task runs, and its arguments must be owned; the body has no choice in either.
                #[allow(clippy::unused_async, clippy::needless_pass_by_value)]
                #vis #asyncness #fn_token #run(#inputs) #output #body
            }
        });
        quote_spanned! {site=>
            #(#cfg)*
            #[doc(hidden)]
            #[allow(non_camel_case_types)]
            #vis struct #carrier {}

            #(#cfg)*
            impl #carrier {
                /// The task's name in messages.
                #vis const NAME: &'static str = #name;
                const __TASKQ_OPTIONS: #private::TaskOptions = #options;
                #run
            }
        }
    }

    /// Writes the entry in the registry, with the function that decodes arguments and starts an attempt.
    fn expand_registration(&self, attrs: &Attrs<'_>) -> TokenStream {
        let (site, private, carrier) = (Span::mixed_site(), self.private(), self.carrier());
        let (cfg, package) = (attrs.for_all(), &self.package);
        let sig = &self.function.sig;
        let parameters = self.shape.parameters.iter().map(|parameter| {
            let (name, type_name) = (parameter.ident.unraw().to_string(), types::show(&parameter.ty));
            quote_spanned!(site=> #private::Parameter::new(#name, #type_name))
        });
        let result = match &sig.output {
            syn::ReturnType::Default => "()".to_owned(),
            syn::ReturnType::Type(_, ty) => types::show(ty),
        };
        // `file!` and `line!` give the place of their tokens, so they take the span of the function's name.
        let file = quote_spanned!(sig.ident.span()=> ::core::file!());
        let line = quote_spanned!(sig.ident.span()=> ::core::line!());
        let start = self.expand_start();
        let alias_check = self.expand_alias_check();
        quote_spanned! {site=>
            #(#cfg)*
            const _: () = {
                const __TASKQ_PARAMETERS: &[#private::Parameter] = &[#(#parameters),*];
                #start
                #alias_check
                static __TASKQ_DEFINITION: #private::Definition = #private::Definition::new(
                    <#carrier>::NAME,
                    #private::SourceLocation::new(#package, #file, #line),
                    __taskq_start,
                )
                .with_options(<#carrier>::__TASKQ_OPTIONS)
                .with_parameters(__TASKQ_PARAMETERS)
                .with_result(#result);
                #private::inventory::submit! { #private::Registration(&__TASKQ_DEFINITION) }
            };
        }
    }

    fn expand_start(&self) -> TokenStream {
        let (site, private, carrier) = (Span::mixed_site(), self.private(), self.carrier());
        let here = site.located_at(self.function.sig.ident.span());
        let types: Vec<_> = self.shape.parameters.iter().map(|parameter| &parameter.ty).collect();
        let names: Vec<_> = (0..types.len()).map(|index| Ident::new(&format!("argument_{index}"), site)).collect();
        let indices = 0..types.len();
        let context = match self.shape.context {
            None => None,
            Some(ContextParameter::ByReference) => Some(quote_spanned!(site=> &context,)),
            Some(ContextParameter::ByValue) => Some(quote_spanned!(site=> context,)),
        };
        let run = quote_spanned!(here=> <#carrier>::run(#context #(#names),*));
        let body = if self.function.sig.asyncness.is_some() {
            let settled = self.settle(&quote_spanned!(here=> #run.await));
            quote_spanned!(here=> #private::Body::Async(::std::boxed::Box::pin(async move { #settled })))
        } else {
            let settled = self.settle(&run);
            quote_spanned!(here=> #private::Body::Blocking(::std::boxed::Box::new(move || #settled)))
        };
        let unused_context = self.shape.context.is_none().then(|| quote_spanned!(site=> let _ = context;));
        quote_spanned! {site=>
            fn __taskq_start(
                context: #private::Context,
                arguments: &#private::Arguments<'_>,
            ) -> ::core::result::Result<#private::Body, #private::ArgumentError> {
                arguments.check(<#carrier>::NAME, __TASKQ_PARAMETERS)?;
                #(
                    let #names = <#types as #private::TaskArgument>::take(
                        arguments,
                        <#carrier>::NAME,
                        #indices,
                        &__TASKQ_PARAMETERS[#indices],
                    )?;
                )*
                #unused_context
                ::core::result::Result::Ok(#body)
            }
        }
    }

    /// Converts `outcome`, an expression that calls the function, into a `TaskResult`.
    fn settle(&self, outcome: &TokenStream) -> TokenStream {
        let (site, private) = (Span::mixed_site(), self.private());
        let inferred = quote_spanned!(site=> _);
        let (value, error) = match (&self.shape.returns, &self.attribute.retry_if) {
            (Returns::Value(ty), _) => {
                let ty = ty.as_ref().map_or_else(|| quote_spanned!(site=> ()), |ty| quote!(#ty));
                return quote_spanned!(site=> <#ty as #private::TaskOutput>::settle(&#outcome));
            }
            (Returns::Perhaps(ty), None) => {
                let fallible = self.fallible(ty);
                return quote_spanned!(site=> <#ty as #private::TaskReturn<#fallible>>::settle(#outcome));
            }
            (Returns::Perhaps(_), Some(_)) => (inferred.clone(), inferred),
            (Returns::Result { value, error, .. }, _) => {
                let or_inferred = |ty: &Option<Type>| ty.as_ref().map_or_else(|| inferred.clone(), |ty| quote!(#ty));
                (or_inferred(value), or_inferred(error))
            }
        };
        let failure = match &self.attribute.retry_if {
            None => quote_spanned!(site=> <#error as #private::TaskFailure>::into_task_error(error)),
            Some(retry_if) => {
                // A path that does not fit is reported where the function is named.
                let here = site.located_at(syn::spanned::Spanned::span(retry_if));
                let call = quote_spanned!(here=> #retry_if(&error));
                quote_spanned! {site=> {
                    let again: bool = #call;
                    <#error as #private::TaskFailure>::into_task_error_if(error, again)
                }}
            }
        };
        quote_spanned! {site=> {
            let outcome: ::core::result::Result<#value, #error> = #outcome;
            match outcome {
                ::core::result::Result::Ok(value) => <#value as #private::TaskOutput>::settle(&value),
                ::core::result::Result::Err(error) => ::core::result::Result::Err(#failure),
            }
        }}
    }

    /// Returns the type that a call gives.
    fn value(&self) -> TokenStream {
        let (site, private) = (Span::mixed_site(), self.private());
        match &self.shape.returns {
            Returns::Value(None) => quote_spanned!(site=> ()),
            Returns::Value(Some(ty)) | Returns::Result { value: Some(ty), .. } => quote!(#ty),
            Returns::Result { whole, value: None, .. } => {
                quote_spanned!(site=> <#whole as #private::TaskReturn<true>>::Value)
            }
            Returns::Perhaps(ty) => {
                let fallible = self.fallible(ty);
                quote_spanned!(site=> <#ty as #private::TaskReturn<#fallible>>::Value)
            }
        }
    }

    /// Returns a constant that tells whether `ty` is a `Result`.
    fn fallible(&self, ty: &Type) -> TokenStream {
        let (site, private) = (Span::mixed_site(), self.private());
        quote_spanned!(site=> { use #private::Infallible as _; #private::ReturnKind::<#ty>::FALLIBLE })
    }

    /// Rejects an alias of `Result` whose name does not end in `Result`: its errors would be stored as values.
    fn expand_alias_check(&self) -> Option<TokenStream> {
        let Returns::Value(Some(ty @ Type::Path(_))) = &self.shape.returns else { return None };
        let fallible = self.fallible(ty);
        let here = Span::mixed_site().located_at(syn::spanned::Spanned::span(ty));
        let message = format!(
            "`{0}` is another name of a `Result`: write `Result<T, E>` in its place, or give it a name that ends in `Result`",
            types::show(ty)
        );
        Some(quote_spanned!(here=> const _: () = ::core::assert!(!#fallible, #message);))
    }

    /// Returns the struct that has the task's name.
    fn carrier(&self) -> Ident {
        own(&self.function.sig.ident)
    }

    fn private(&self) -> TokenStream {
        let site = Span::mixed_site();
        if let Some(krate) = &self.attribute.krate {
            quote_spanned!(site=> #krate::__private)
        } else {
            quote_spanned!(site=> ::taskq::__private)
        }
    }
}

/// Returns `ident` as a name of the macro's own, reported at the place where the user wrote it.
fn own(ident: &Ident) -> Ident {
    let mut own = ident.clone();
    own.set_span(Span::mixed_site().located_at(ident.span()));
    own
}
