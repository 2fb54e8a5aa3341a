//! The thread that fetches the keys of an identity provider: at start, periodically, and when a token names an unknown
//! key. Only this thread waits for the provider.

mod news;
mod pace;
mod source;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use self::news::News;
use self::pace::Pace;
pub(super) use self::source::{FETCH_TIMEOUT, Source};
use super::error::StartError;
use super::inbox::{Inbox, InboxSender};
use super::threads::spawn;
use crate::auth::KeySet;

/// How long a start waits for the first answer. Without keys the server starts anyway, and refuses tokens with a
/// message that says so.
const START_WAIT: Duration = Duration::from_secs(3);

/// The result of a fetch.
#[derive(Debug)]
pub struct KeyNews {
    /// The newest request for keys that it answers; 0 if there was none.
    pub answers: u64,
    /// The keys, or why there are none.
    pub keys: Result<KeySet, String>,
}

/// Asks for keys. When it is dropped, the thread ends.
pub(super) struct Asks {
    /// There until dropped.
    wishes: Option<Sender<u64>>,
    source: Arc<Source>,
}

impl Asks {
    /// Asks for keys by a request with this number. If an earlier one was not seen yet, this one is lost, and the
    /// requests that wait for it time out.
    pub(super) fn ask(&self, wish: u64) {
        if let Some(wishes) = &self.wishes {
            let _ = wishes.try_send(wish);
        }
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        // First, so that the thread knows why its fetch has ended.
        self.wishes = None;
        self.source.give_up();
    }
}

/// Starts the thread, and waits a moment for the first keys.
///
/// # Errors
/// If no thread can be started.
pub(super) fn start(source: Source, inbox: InboxSender) -> Result<Asks, StartError> {
    let source = Arc::new(source);
    let (wishes, asked) = bounded(1);
    let (first, has_first) = bounded(1);
    let tell = move |news| {
        inbox.send(Inbox::Keys(news));
        // Only the first fetch is waited for.
        let _ = first.try_send(());
    };
    let shared = source.clone();
    // The thread is not waited for: it has nothing to finish.
    drop(spawn("keys", move || run(&shared, &asked, tell))?);
    let _ = has_first.recv_timeout(START_WAIT);
    Ok(Asks { wishes: Some(wishes), source })
}

fn run(source: &Source, asked: &Receiver<u64>, tell: impl Fn(KeyNews)) {
    let (mut news, mut pace) = (News::default(), Pace::default());
    let mut answers = 0;
    loop {
        let fetched = source.fetch();
        let meanwhile = asked.try_recv();
        if meanwhile == Err(TryRecvError::Disconnected) {
            return;
        }
        news.lines(&fetched).into_iter().for_each(|(level, line)| log::log!(level, "auth.jwks: {line}"));
        let wait = pace.wait(&fetched);
        tell(KeyNews { answers, keys: fetched.map(|fetched| fetched.read.keys) });
        match meanwhile.or_else(|_| asked.recv_timeout(wait)) {
            Ok(wish) => answers = wish,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
