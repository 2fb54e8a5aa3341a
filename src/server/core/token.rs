//! Who is meant: sockets to the poll.

/// Which socket: what the poll knows it by. It keeps its token when its connection becomes a stream, so that the poll
/// need not be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(pub usize);

/// What a socket is now, and its place in that slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Connection(u32),
    Stream(u32),
}
