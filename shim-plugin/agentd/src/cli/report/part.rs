//! One file of a report: what it holds, or why it could not be had.

use std::time::Duration;

/// How a file is written, so that it can be masked and cut without becoming something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One document.
    Json,
    /// An object a line.
    JsonLines,
    /// Prometheus' text format.
    Metrics,
    /// Anything; names and addresses are looked for everywhere.
    Text,
}

/// A file as it was collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in the archive.
    pub file: &'static str,
    pub form: Form,
    /// None where nothing could be had; `detail` then says why.
    pub content: Option<String>,
    /// Bytes that are missing at its end; None where nobody knows how many.
    pub cut: Cut,
    /// What was said beside the content, or why there is none.
    pub detail: String,
    pub took: Duration,
}

/// What is missing at the end of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    #[default]
    Nothing,
    /// So many bytes.
    Bytes(usize),
    /// There was more than is read of any part.
    Unknown,
}

impl Part {
    pub fn whole(file: &'static str, form: Form, content: String) -> Part {
        let (cut, detail, took) = (Cut::Nothing, String::new(), Duration::ZERO);
        Part { file, form, content: Some(content), cut, detail, took }
    }

    pub fn missing(file: &'static str, form: Form, why: impl Into<String>) -> Part {
        Part { content: None, detail: why.into(), ..Part::whole(file, form, String::new()) }
    }

    pub fn bytes(&self) -> usize {
        self.content.as_ref().map_or(0, String::len)
    }

    /// Keeps `most` bytes at the most, whole lines only. Of lines that came one after the other the
    /// last ones are kept: they are the news.
    pub fn shorten(&mut self, most: usize) {
        let Some(content) = &mut self.content else { return };
        let all = content.len();
        if all <= most {
            return;
        }
        let kept = match self.form {
            Form::JsonLines => last_lines(content, most),
            Form::Json | Form::Metrics | Form::Text => first_lines(content, most),
        };
        *content = kept.to_owned();
        self.cut = match self.cut {
            Cut::Unknown => Cut::Unknown,
            Cut::Nothing => Cut::Bytes(all - content.len()),
            Cut::Bytes(before) => Cut::Bytes(before + all - content.len()),
        };
    }
}

/// Whole lines from the start.
pub fn first_lines(text: &str, most: usize) -> &str {
    let head = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    head.get(..head.rfind('\n').map_or(0, |end| end + 1)).unwrap_or_default()
}

/// Whole lines up to the end.
fn last_lines(text: &str, most: usize) -> &str {
    // One byte more than may stay: whether the tail begins with a line is up to what is before it.
    let from = text.ceil_char_boundary(text.len().saturating_sub(most + 1));
    let tail = text.get(from..).unwrap_or_default();
    tail.find('\n').and_then(|end| tail.get(end + 1..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_loses_whole_lines_and_says_how_much() {
        let mut part = Part::whole("a", Form::Text, "one\ntwo\nthree\n".into());
        part.shorten(14);
        assert_eq!(part.cut, Cut::Nothing);
        part.shorten(9);
        assert_eq!((part.content.as_deref(), part.cut), (Some("one\ntwo\n"), Cut::Bytes(6)));
        part.shorten(5);
        assert_eq!((part.content.as_deref(), part.cut), (Some("one\n"), Cut::Bytes(10)));
    }

    #[test]
    fn of_a_log_the_last_lines_stay() {
        let mut part = Part::whole("a", Form::JsonLines, "one\ntwo\nthree\n".into());
        part.shorten(10);
        assert_eq!((part.content.as_deref(), part.cut), (Some("two\nthree\n"), Cut::Bytes(4)));
        part.shorten(9);
        assert_eq!((part.content.as_deref(), part.cut), (Some("three\n"), Cut::Bytes(8)));
    }

    #[test]
    fn a_cut_falls_between_characters() {
        let text = "\u{7f51}\u{7f51}\n\u{7f51}\n";
        for most in 0..text.len() {
            assert!(first_lines(text, most).len() <= most && last_lines(text, most).len() <= most);
        }
    }
}
