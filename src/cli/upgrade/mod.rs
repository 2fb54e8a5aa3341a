//! Upgrade in place: on SIGUSR2 a server starts its program anew and hands over to that, so that nobody is refused.
//!
//! 1. The old process starts the new one: the same command line, read from the disk anew. Between them is a socket, the
//!    new one's stdin; by it go the listeners.
//! 2. The new process reads its configuration, checks all that can be checked, and says that it is ready. Where it ends
//!    instead, or takes too long, the old one goes on as if nothing had happened.
//! 3. The old process begins no step more and gives those that run their grace; everything else goes on. Then it accepts
//!    and reads nothing more, so that both wait in the kernel, ends its streams, closes the store, and hands over the
//!    connections that are between two requests.
//! 4. The new process opens the store, goes on with the runs, serves, and says so. The old one ends. Where the new one ends
//!    instead, the old one opens the store again and serves.
//!
//! | part | what it is |
//! |---|---|
//! | `line` | the socket between the two, and what they say |
//! | `successor` | the new process, as the old one sees it |
//! | `predecessor` | the old process, as the new one sees it |
//! | `succession` | when the old process does what |

mod line;
mod predecessor;
mod succession;
mod successor;

pub(super) use self::predecessor::{Predecessor, restore_limit};
pub(super) use self::succession::{HandedOver, Succession};

/// The variable that tells a process that it was started to take over: the old process's id, a colon, and how many
/// descriptors programs that it starts may have (nothing for as many as there are).
const VARIABLE: &str = "UPGRADE_OF_STEPCAST";
