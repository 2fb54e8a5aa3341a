//! Settings, parsed and checked once: file, environment and flags, through one table of keys.
