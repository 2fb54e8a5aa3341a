//! Upgrade in place: on SIGUSR2 a server starts its program again and hands over to the new process, so that no client
//! is refused.
//!
//! 1. The old process starts the new one: the same command line, read again from disk. The stdin of the new process is a
//!    socket between the two, over which the listening sockets are sent.
//! 2. The new process reads its configuration, checks everything that can be checked, and says that it is ready. If it
//!    ends instead, or takes too long, the old process continues as if nothing had happened.
//! 3. The old process starts no further steps and gives running steps their grace period; everything else continues. Then
//!    it stops accepting and reading, so that new connections and requests wait in the kernel, ends its streams, closes
//!    the store, and hands over the connections that are between two requests.
//! 4. The new process opens the store, continues the runs, serves, and says so. The old process ends. If the new process
//!    ends instead, the old one opens the store again and serves.
//!
//! | part | what it is |
//! |---|---|
//! | `line` | the socket between the two processes, and their messages |
//! | `successor` | the new process, as the old one sees it |
//! | `predecessor` | the old process, as the new one sees it |
//! | `succession` | the steps of the old process |

mod line;
mod predecessor;
mod succession;
mod successor;

pub(super) use self::predecessor::{Predecessor, restore_limit};
pub(super) use self::succession::{HandedOver, Succession};

/// The variable that tells a process that it was started to take over: the id of the old process, a colon, and the
/// descriptor limit for the programs that it starts (empty if there is no limit).
const VARIABLE: &str = "UPGRADE_OF_STEPCAST";
