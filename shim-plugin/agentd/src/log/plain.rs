//! What the log writes of others is plain: a name that a container, an interface or a host has was
//! chosen by somebody, and an error repeats what a peer said. On one line, and with no character
//! that the terminal of whoever reads the log would obey.

use flow_model::{is_plain, shown};
use std::fmt::Debug;
use tracing::field::{Field, Value, Visit, display};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Hands events on, their texts as [`shown`]: whatever writes them, a terminal or the journal. Our
/// own spans have names and no fields.
#[derive(Debug)]
pub struct Plain<L>(pub L);

/// Whether there is anything to do: most often not.
#[derive(Debug, Default)]
struct Look {
    is_needed: bool,
}

impl Visit for Look {
    fn record_str(&mut self, _: &Field, text: &str) {
        self.is_needed |= !text.chars().all(is_plain);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_i64(&mut self, _: &Field, _: i64) {}
    fn record_u64(&mut self, _: &Field, _: u64) {}
    fn record_bool(&mut self, _: &Field, _: bool) {}
}

/// The fields again, by their place; numbers stay numbers.
struct Texts(Vec<Option<Box<dyn Value>>>);

impl Texts {
    fn put(&mut self, field: &Field, value: impl Value + 'static) {
        if let Some(place) = self.0.get_mut(field.index()) {
            *place = Some(Box::new(value));
        }
    }
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, text: &str) {
        self.put(field, shown(text).into_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, display(shown(&format!("{value:?}")).into_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Plain<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut look = Look::default();
        event.record(&mut look);
        if !look.is_needed {
            return self.0.on_event(event, context);
        }
        let metadata = event.metadata();
        let mut texts = Texts(metadata.fields().iter().map(|_| None).collect());
        event.record(&mut texts);
        let values: Vec<Option<&dyn Value>> = texts.0.iter().map(Option::as_deref).collect();
        let values = metadata.fields().value_set_all(&values);
        self.0.on_event(&Event::new(metadata, &values), context);
    }

    fn on_layer(&mut self, subscriber: &mut S) {
        self.0.on_layer(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.0.enabled(metadata, context)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(span, values, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.on_close(id, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use parking_lot::Mutex;
    use std::io::{self, Write};
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Debug, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_name_begins_a_line_or_moves_a_terminal() {
        let written = Written::default();
        let writer = {
            let written = written.clone();
            move || written.clone()
        };
        let layer = tracing_subscriber::fmt::layer().json().without_time().with_target(false).flatten_event(true);
        let text = tracing_subscriber::fmt::layer().without_time().with_ansi(false).with_target(false);
        let both = tracing_subscriber::registry()
            .with(Plain(layer.with_writer(writer.clone())))
            .with(Plain(text.with_writer(writer)));
        tracing::subscriber::with_default(both, || {
            let iface = "eth0\x1b[2J\u{202e}";
            let error = io::Error::other("no\nERROR forged \u{9b}2J");
            tracing::warn!(slot = 7, ok = true, share = 0.5, iface, %error, "cannot attach to {iface}");
            tracing::warn!(slot = 7, iface = "eth0", "attached");
        });
        let text = String::from_utf8(written.0.lock().clone()).expect("UTF-8");
        assert!(text.chars().all(|c| c == '\n' || is_plain(c)), "{text:?}");
        expect![[r#"
            {"level":"WARN","message":"cannot attach to eth0\\u{1b}[2J\\u{202e}","slot":7,"ok":true,"share":0.5,"iface":"eth0\\u{1b}[2J\\u{202e}","error":"no\\nERROR forged \\u{9b}2J"}
             WARN cannot attach to eth0\u{1b}[2J\u{202e} slot=7 ok=true share=0.5 iface="eth0\\u{1b}[2J\\u{202e}" error=no\nERROR forged \u{9b}2J
            {"level":"WARN","message":"attached","slot":7,"iface":"eth0"}
             WARN attached slot=7 iface="eth0"
        "#]]
        .assert_eq(&text);
    }
}
