//! What a case does, and how it may fail.

use std::error::Error;
use std::hint::black_box;

pub type Done<T> = Result<T, Box<dyn Error>>;

/// Does a case's work once.
pub type Work = Box<dyn FnMut() -> Done<()>>;

/// Keeps the compiler from doing away with `value`.
pub fn used<T>(value: T) -> Done<()> {
    black_box(value);
    Ok(())
}
