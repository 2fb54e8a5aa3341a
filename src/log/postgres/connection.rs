//! A connection to PostgreSQL that is opened when it is needed, and opened again after it was lost.
//!
//! The client is asynchronous, because only then can a call be given up if the database does not answer. It runs on a
//! runtime of this connection, on the thread of the caller, and only while the caller waits. A call has a time limit,
//! which grows with the amount of data sent and starts again with every row received. No further threads are created.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::error::Elapsed;
use tokio::time::{timeout, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Row, Socket, Statement};

use super::address::DatabaseAddress;
use super::failure::{Failure, code};
use super::tls::Secured;

/// The slowest supported link: calls that send more bytes get more time.
const BYTES_A_SECOND: u64 = 1024 * 1024;

/// Where no connection was made in time, none is tried for as long: each try would take as long again.
const RECONNECT_PACE: Duration = Duration::from_secs(1);

/// How long the engine has to accept the cancellation of a call.
const CANCEL_MAX: Duration = Duration::from_secs(1);

const NO_ANSWER: &str = "no answer within the time limit";

/// A statement, and its parameters.
pub(super) struct Step<'a> {
    pub(super) sql: &'static str,
    pub(super) values: Vec<&'a (dyn ToSql + Sync)>,
}

/// What makes one of several steps of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Together {
    /// Nothing: each is kept by itself.
    No,
    /// All of them are one transaction, which begins with this.
    Whole(&'static str),
    /// A transaction that begins with this, and goes on after them.
    Begun(&'static str),
    /// Some of a transaction that was begun before, and goes on.
    Within,
    /// The last ones of a transaction that was begun before.
    Ended,
}

impl Together {
    /// Are they of a transaction that another call has begun? On another connection than that one's they are nothing.
    fn goes_on(self) -> bool {
        matches!(self, Self::Within | Self::Ended)
    }
}

/// See the top of this file.
pub(super) struct Connection {
    address: Arc<DatabaseAddress>,
    runtime: Runtime,
    call_max: Duration,
    live: Option<Live>,
    /// Counts the connections that were made.
    made: u64,
    /// What every new connection does first.
    greeting: Option<String>,
    /// When one was to be made for the last time, and it took long and came to nothing.
    unanswered_at: Option<Instant>,
}

/// A connection that was made.
struct Live {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    inbox: Arc<Mutex<Inbox>>,
}

/// Notifications that have come.
#[derive(Default)]
struct Inbox {
    notified: Vec<String>,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Connection {
    /// A connection to `address`, each call on which takes `call_max` at most. It is made by the first.
    pub(super) fn new(address: Arc<DatabaseAddress>, call_max: Duration) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| Failure::Unreachable(format!("cannot start the runtime: {error}")))?;
        Ok(Self { address, runtime, call_max, live: None, made: 0, greeting: None, unanswered_at: None })
    }

    /// How long a call may take from here on.
    pub(super) fn be_patient_for(&mut self, call_max: Duration) {
        self.call_max = call_max;
    }

    /// Has every new connection do this first.
    pub(super) fn greet_with(&mut self, sql: String) {
        self.greeting = Some(sql);
    }

    pub(super) fn address(&self) -> &Arc<DatabaseAddress> {
        &self.address
    }

    /// Opens a connection if there is none. Returns its number, counted from 1.
    pub(super) fn ensure(&mut self) -> Result<u64, Failure> {
        if self.live.as_ref().is_none_or(|live| live.client.is_closed()) {
            self.live = None;
            if self.unanswered_at.is_some_and(|at| at.elapsed() < RECONNECT_PACE.min(self.call_max)) {
                return Err(Failure::Unreachable(NO_ANSWER.to_owned()));
            }
            self.live = Some(self.connect()?);
            self.made += 1;
        }
        Ok(self.made)
    }

    pub(super) fn is_made(&self) -> bool {
        self.live.is_some()
    }

    /// Which connection it is, where there is one.
    pub(super) fn made(&self) -> Option<u64> {
        self.live.is_some().then_some(self.made)
    }

    /// Lets the connection go: the next call makes another.
    pub(super) fn let_go(&mut self) {
        self.live = None;
    }

    /// The rows of one statement.
    pub(super) fn query(&mut self, sql: &'static str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
        self.query_within(Together::No, sql, values)
    }

    /// The same within a transaction.
    pub(super) fn query_within(
        &mut self,
        together: Together,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let mut rows = self.run(together, &[Step { sql, values: values.to_vec() }])?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// The rows of several statements that are sent together, so that they take the time of one. Where one of a transaction
    /// fails, that is what came of all.
    pub(super) fn run(&mut self, together: Together, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        self.run_with(together, steps, 0, None)
    }

    /// The same for statements with this many bytes of values, which get more time, as while rows come. `aside` is sent
    /// after all of them, whatever their results, and its result is not awaited.
    pub(super) fn run_with(
        &mut self,
        together: Together,
        steps: &[Step<'_>],
        bytes: u64,
        aside: Option<&Step<'_>>,
    ) -> Result<Vec<Vec<Row>>, Failure> {
        let more = Duration::from_millis(bytes.saturating_mul(1000) / BYTES_A_SECOND);
        let call_max = self.call_max.saturating_add(more);
        let was_made = self.is_made();
        if together.goes_on() && self.live.as_ref().is_none_or(|live| live.client.is_closed()) {
            self.live = None;
            return Err(Failure::Lost("the connection was lost in the middle of a transaction".to_owned()));
        }
        self.ensure()?;
        let statements = || steps.iter().chain(aside).map(|step| step.sql);
        let prepared = self.prepare(statements());
        match prepared {
            Err(Failure::Unreachable(why)) if together.goes_on() => return Err(Failure::Lost(why)),
            // It may have been lost long before, which nobody has noticed; nothing was asked.
            Err(Failure::Unreachable(_)) if was_made => {
                self.ensure()?;
                self.prepare(statements())?;
            }
            prepared => prepared?,
        }
        let Some(live) = &self.live else { return Err(Failure::Unreachable("not connected".to_owned())) };
        let statement = |step: &Step<'_>| live.statements.get(step.sql).cloned();
        let prepared: Vec<_> = steps.iter().filter_map(statement).collect();
        let client = &live.client;
        let mut sent: Vec<Sent<'_>> = Vec::with_capacity(steps.len() + 2);
        let command = |sql: String| -> Sent<'_> {
            Box::pin(async move { client.batch_execute(&sql).await.map(|()| Vec::new()) })
        };
        // A long transfer does not mean that nothing comes any more.
        let patience = format!("SET LOCAL idle_in_transaction_session_timeout = {}", call_max.as_millis());
        match together {
            Together::Whole(begin) if !more.is_zero() => sent.push(command(format!("{begin}; {patience}"))),
            Together::Whole(begin) | Together::Begun(begin) => sent.push(command(begin.to_owned())),
            Together::Ended => sent.push(command(patience)),
            Together::No | Together::Within => {}
        }
        let came_at = Cell::new(Instant::now());
        for (step, statement) in steps.iter().zip(&prepared) {
            sent.push(Box::pin(rows(client, statement, &step.values, &came_at)));
        }
        if matches!(together, Together::Whole(_) | Together::Ended) {
            sent.push(command("COMMIT".to_owned()));
        }
        let aside = aside.and_then(|step| Some((step, live.statements.get(step.sql)?)));
        let aside =
            aside.map(|(step, statement)| -> Sent<'_> { Box::pin(rows(client, statement, &step.values, &came_at)) });
        let outcome = self.runtime.block_on(within(call_max, &came_at, all(sent, aside)));
        let outcomes = self.in_time(outcome)?;
        let mut rows = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            rows.push(outcome.map_err(Failure::from).inspect_err(|failure| self.note(failure))?);
        }
        if matches!(together, Together::Whole(_) | Together::Ended) {
            rows.pop();
        }
        if !matches!(together, Together::No | Together::Within) {
            rows.remove(0);
        }
        Ok(rows)
    }

    /// Does what has no parameters: one statement, or several.
    pub(super) fn execute(&mut self, sql: &str) -> Result<(), Failure> {
        self.ensure()?;
        let Some(live) = &self.live else { return Err(Failure::Unreachable("not connected".to_owned())) };
        let client = &live.client;
        let outcome = self.runtime.block_on(async { timeout(self.call_max, client.batch_execute(sql)).await });
        self.in_time(outcome)?.map_err(Failure::from).inspect_err(|failure| self.note(failure))
    }

    /// Waits until it is notified of something, or `up_to` has passed: of what.
    pub(super) fn wait(&mut self, up_to: Duration) -> Result<Vec<String>, Failure> {
        self.ensure()?;
        let Some(live) = &self.live else { return Err(Failure::Unreachable("not connected".to_owned())) };
        let inbox = live.inbox.clone();
        let heard = poll_fn(|context| lock(&inbox).poll_notified(context));
        match self.runtime.block_on(async { timeout(up_to, heard).await }) {
            Err(_) => Ok(Vec::new()),
            Ok(Some(notified)) => Ok(notified),
            Ok(None) => {
                self.live = None;
                Err(Failure::Lost("the connection was closed".to_owned()))
            }
        }
    }

    fn connect(&mut self) -> Result<Live, Failure> {
        let began = Instant::now();
        let work = async {
            let (client, connection) = self.address.connect().await.map_err(Failure::from)?;
            let inbox = Arc::new(Mutex::new(Inbox::default()));
            tokio::spawn(carry(connection, inbox.clone()));
            if let Some(greeting) = &self.greeting {
                client.batch_execute(greeting).await.map_err(Failure::from)?;
            }
            Ok(Live { client, statements: HashMap::new(), inbox })
        };
        let outcome = self.runtime.block_on(async { timeout(self.call_max, work).await });
        let outcome = outcome.unwrap_or_else(|_| Err(Failure::Unreachable(NO_ANSWER.to_owned())));
        // One host may have had less time than all.
        let has_taken_long = began.elapsed() >= self.call_max / 4;
        self.unanswered_at = (outcome.is_err() && has_taken_long).then(Instant::now);
        outcome.map_err(|failure| Failure::Unreachable(failure.to_string()))
    }

    /// Has the engine read those of the statements that this connection has not had so far. Whatever becomes of that, nothing of
    /// what they do is done.
    fn prepare(&mut self, statements: impl Iterator<Item = &'static str>) -> Result<(), Failure> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let mut failed = None;
        for sql in statements {
            let Entry::Vacant(place) = live.statements.entry(sql) else { continue };
            match self.runtime.block_on(async { timeout(self.call_max, live.client.prepare(sql)).await }) {
                Ok(Ok(statement)) => drop(place.insert(statement)),
                Ok(Err(error)) => failed = Some(Failure::from(error)),
                Err(_) => failed = Some(Failure::Unreachable(NO_ANSWER.to_owned())),
            }
            if failed.is_some() {
                break;
            }
        }
        let Some(failure) = failed else { return Ok(()) };
        match failure {
            Failure::Refused(_) => Err(failure),
            Failure::Lost(why) | Failure::Late(why) | Failure::Unreachable(why) => {
                self.live = None;
                Err(Failure::Unreachable(why))
            }
        }
    }

    /// The result of a call, if it came in time. Otherwise the call is cancelled and the connection is dropped.
    fn in_time<T>(&mut self, outcome: Result<T, Elapsed>) -> Result<T, Failure> {
        if let Ok(outcome) = outcome {
            return Ok(outcome);
        }
        if let Some(live) = self.live.take() {
            let cancel = live.client.cancel_token();
            // Whether it hears of that is not known either way.
            let _ = self.runtime.block_on(async { timeout(CANCEL_MAX, cancel.cancel_query(self.address.tls())).await });
        }
        Err(Failure::Late(NO_ANSWER.to_owned()))
    }

    fn note(&mut self, failure: &Failure) {
        // A server that refuses writes has become a replica: looks for the next one.
        if matches!(failure, Failure::Lost(_)) || failure.code() == Some(code::READ_ONLY) {
            self.live = None;
        }
    }
}

impl Inbox {
    /// The notifications that have come; none if the connection has ended.
    fn poll_notified(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<String>>> {
        if !self.notified.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut self.notified)));
        }
        if self.is_closed {
            return Poll::Ready(None);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A statement on its way.
type Sent<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, tokio_postgres::Error>> + 'a>>;

/// The rows of a statement; `came_at` says when the last of them came.
async fn rows(
    client: &Client,
    statement: &Statement,
    values: &[&(dyn ToSql + Sync)],
    came_at: &Cell<Instant>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let values = values.iter().map(|value| *value as &dyn ToSql);
    let mut stream = Box::pin(client.query_raw(statement, values).await?);
    let mut rows = Vec::new();
    while let Some(row) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
        rows.push(row?);
        came_at.set(Instant::now());
    }
    Ok(rows)
}

/// The result of `work`, unless nothing comes for `call_max`.
async fn within<T>(call_max: Duration, came_at: &Cell<Instant>, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    loop {
        let deadline = came_at.get() + call_max;
        match timeout_at(deadline.into(), work.as_mut()).await {
            Err(_) if came_at.get() + call_max > deadline => {}
            outcome => return outcome,
        }
    }
}

/// The results of all of these. All are sent in order, and `aside` after them, before any is awaited.
async fn all(mut sent: Vec<Sent<'_>>, mut aside: Option<Sent<'_>>) -> Vec<Result<Vec<Row>, tokio_postgres::Error>> {
    let mut outcomes: Vec<_> = sent.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, outcome) in sent.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *outcome = Some(ready);
            }
        }
        if let Some(mut aside) = aside.take() {
            // It is sent when it is asked for the first time.
            let _ = aside.as_mut().poll(context);
        }
        if outcomes.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}

/// Drives a connection until it ends.
async fn carry(mut connection: tokio_postgres::Connection<Socket, Secured>, inbox: Arc<Mutex<Inbox>>) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message {
            let mut inbox = lock(&inbox);
            inbox.notified.push(notification.payload().to_owned());
            inbox.wake();
        }
    }
    let mut inbox = lock(&inbox);
    inbox.is_closed = true;
    inbox.wake();
}

fn lock(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}
