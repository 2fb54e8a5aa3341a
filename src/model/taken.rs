//! Resources that are taken for a request that may still be refused: a part of a publish rate, the single use of a
//! ticket. They are given back automatically when the request fails, and kept when it succeeds. So a refused request
//! costs nothing, in whatever way it was refused.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Something that is taken for now. It goes back when this is dropped, unless it was [kept](Self::keep).
pub struct Taken<T> {
    what: Option<T>,
    back: Sender<T>,
}

/// Where things are taken from and go back to.
pub struct Lender<T> {
    back: Sender<T>,
    returned: Receiver<T>,
}

impl<T> Taken<T> {
    /// Keeps what was taken.
    pub fn keep(mut self) -> T {
        self.what.take().expect("it is there until it is kept or dropped")
    }
}

impl<T> AsRef<T> for Taken<T> {
    fn as_ref(&self) -> &T {
        self.what.as_ref().expect("it is there until it is kept or dropped")
    }
}

impl<T> AsMut<T> for Taken<T> {
    fn as_mut(&mut self) -> &mut T {
        self.what.as_mut().expect("it is there until it is kept or dropped")
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        if let Some(what) = self.what.take() {
            // Fails if the lender is gone, and then nothing is counted any more.
            let _ = self.back.send(what);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&self.what).finish()
    }
}

impl<T: PartialEq> PartialEq for Taken<T> {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

impl<T: Eq> Eq for Taken<T> {}

impl<T> Lender<T> {
    /// Wraps what the caller has taken.
    pub fn lend(&self, what: T) -> Taken<T> {
        Taken { what: Some(what), back: self.back.clone() }
    }

    /// What was given back since the last call. A counter has to call this before it counts.
    pub fn returned(&self) -> Vec<T> {
        self.returned.try_iter().collect()
    }
}

impl<T> Default for Lender<T> {
    fn default() -> Self {
        let (back, returned) = channel();
        Self { back, returned }
    }
}

impl<T> fmt::Debug for Lender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lender")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_comes_back_and_what_is_kept_does_not() {
        let lender = Lender::default();
        let (dropped, kept) = (lender.lend(1), lender.lend(2));
        assert_eq!((dropped.as_ref(), lender.returned()), (&1, vec![]));
        drop(dropped);
        assert_eq!((kept.keep(), lender.returned()), (2, vec![1]));
        let outlives = lender.lend(3);
        drop(lender);
        drop(outlives);
    }
}
