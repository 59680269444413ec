//! The attribute's options, written out as a `TaskOptions`.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;

use crate::attribute::{Attribute, Schedule};

/// Writes the options as an expression; `private` is the path of taskq's private items. Options that are not given keep
/// their defaults.
pub(crate) fn expand(attribute: &Attribute, private: &TokenStream) -> TokenStream {
    let site = Span::mixed_site();
    let some = |value: TokenStream| quote_spanned!(site=> ::core::option::Option::Some(#value));
    let time = |time: Duration| {
        let (secs, nanos) = (time.as_secs(), time.subsec_nanos());
        quote_spanned!(site=> #private::Duration::new(#secs, #nanos))
    };
    let mut settings = TokenStream::new();
    let mut set = |field: &str, value: TokenStream| {
        let field = syn::Ident::new(field, site);
        settings.extend(quote_spanned!(site=> options.#field = #value;));
    };
    if let Some(queue) = &attribute.queue {
        set("queue", some(quote_spanned!(site=> #queue)));
    }
    if let Some(priority) = attribute.priority {
        set("priority", some(quote_spanned!(site=> #priority)));
    }
    if let Some(retries) = attribute.retries {
        set("retries", some(quote_spanned!(site=> #retries)));
    }
    if let Some((min, max)) = attribute.backoff {
        let (min, max) = (time(min), time(max));
        set("backoff", some(quote_spanned!(site=> #private::Backoff::new(#min, #max))));
    }
    for (field, limit) in [
        ("soft_time_limit", attribute.soft_time_limit),
        ("time_limit", attribute.time_limit),
        ("expires", attribute.expires),
    ] {
        if let Some(limit) = limit {
            set(field, some(time(limit)));
        }
    }
    if attribute.sealed {
        set("sealed", quote_spanned!(site=> true));
    }
    if attribute.ignore_result {
        set("ignore_result", quote_spanned!(site=> true));
    }
    if attribute.ack_early {
        set("ack", quote_spanned!(site=> #private::AckMode::Early));
    }
    match &attribute.schedule {
        Some(Schedule::Cron { line, tz }) => {
            set("schedule", some(quote_spanned!(site=> #private::ScheduleAttribute::Cron { line: #line, tz: #tz })));
        }
        Some(Schedule::Every(period)) => {
            let period = time(*period);
            set("schedule", some(quote_spanned!(site=> #private::ScheduleAttribute::Every(#period))));
        }
        None => {}
    }
    let default = quote_spanned!(site=> #private::TaskOptions::DEFAULT);
    if settings.is_empty() {
        return default;
    }
    quote_spanned!(site=> { let mut options = #default; #settings options })
}
