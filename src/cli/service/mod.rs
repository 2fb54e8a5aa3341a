//! Communication with a service manager (systemd).
//!
//! | part | what it is |
//! |---|---|
//! | `activation` | sockets that the manager has bound (sd_listen_fds(3)) |
//! | `notify` | notifications to the manager (sd_notify(3)) |
//! | `watchdog` | keep-alive messages that show that the event loop is running |

pub(super) mod activation;
mod notify;
mod watchdog;

pub(super) use self::notify::Notifier;
