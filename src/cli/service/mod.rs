//! What a service manager (systemd) and this program tell each other.
//!
//! | part | what it is |
//! |---|---|
//! | `activation` | listeners that the manager has bound (sd_listen_fds(3)) |
//! | `notify` | what the manager is told (sd_notify(3)) |
//! | `watchdog` | beats that say that the loop goes round |

pub(super) mod activation;
mod notify;
mod watchdog;

pub(super) use self::notify::Notifier;
