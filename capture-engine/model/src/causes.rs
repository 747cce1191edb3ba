//! An error as one text.

use std::error::Error;

/// The error with its causes on one line, the outermost first, joined by ": ". A cause that is
/// already told by what wraps it is left out.
#[must_use]
pub fn in_full(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Said(&'static str, Option<Box<Said>>);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
        }
    }

    #[test]
    fn causes_follow_and_what_is_told_already_is_not_repeated() {
        let cause = Said("no such device", None);
        let error = Said("attach to eth0", Some(Box::new(Said("open it: no such device", Some(Box::new(cause))))));
        assert_eq!(in_full(&error), "attach to eth0: open it: no such device");
    }
}
