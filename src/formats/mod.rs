//! Messages in the formats of others, for clients that speak those. Each format is a file of its own that knows a message
//! and nothing of who asked for it.

pub mod cloudevents;
