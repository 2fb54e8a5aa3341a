//! The manager with fake sockets.
