//! Pairing requests with responses, for protocols that answer in the order of asking.

use std::collections::VecDeque;

/// Open requests in the order in which they were sent, which is that of their responses.
///
/// Nearly always there is at most one; only pipelines allocate, and what they allocated is freed when they end.
#[derive(Debug)]
pub(crate) struct InOrder<T> {
    front: Option<T>,
    #[expect(clippy::box_collection, reason = "8 bytes in each connection instead of 32; few connections pipeline")]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        InOrder { front: None, rest: None }
    }
}

impl<T> InOrder<T> {
    pub(crate) fn push(&mut self, open: T) {
        if self.front.is_none() {
            self.front = Some(open);
        } else {
            self.rest.get_or_insert_default().push_back(open);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let open = self.front.take()?;
        if let Some(rest) = &mut self.rest {
            self.front = rest.pop_front();
            if rest.is_empty() {
                self.rest = None;
            }
        }
        Some(open)
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.front.as_ref()
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.front.as_mut()
    }

    /// The newest.
    pub(crate) fn back_mut(&mut self) -> Option<&mut T> {
        match &mut self.rest {
            Some(rest) => rest.back_mut(),
            None => self.front.as_mut(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.front.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.front.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_none()
    }
}
