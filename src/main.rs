//! The `stepcast` program.

fn main() {}
