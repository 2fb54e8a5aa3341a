//! The commands: what `stepcast serve`, `run`, `check`, `token` and `demo` do.
