//! The state of the loop before its thread exists: its sockets, its inbox, and what it shows of other threads.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use mio::{Poll, Waker};

use super::super::core::{Node, Server};
use super::super::error::{StartError, failed};
use super::super::event_loop::{Ended, EventLoop, Hands};
use super::super::inbox::{InboxReceiver, InboxSender, inbox};
use super::super::listen::{Listeners, WAKER};
use super::super::listener::Listener;
use super::super::membership::Joined;
use super::super::passed::PassedConnection;
use super::super::running::LoopControl;
use super::super::settings::{descriptors, hosts, server_settings, verifier};
use super::super::socket::ClientSocket;
use super::super::storage::Storage;
use super::super::threads::{random_or_abort, spawn};
use super::super::tls::Tls;
use crate::api::{Api, ApiSettings};
use crate::auth::{IdSigner, Origins, TicketBook, TicketMemory};
use crate::config::Config;
use crate::executor::Context;
use crate::log::Journal;
use crate::webhooks::Board;
use crate::{random, schedules};

/// The event loop before it runs.
pub(super) struct Front {
    pub(super) listeners: Arc<Vec<Listener>>,
    pub(super) inbox: InboxSender,
    tls: Option<Tls>,
    server: Server<ClientSocket>,
    poll: Poll,
    receiver: InboxReceiver,
    acceptors: Listeners,
}

/// What other threads write and the loop shows.
pub(super) struct Boards {
    pub(super) webhooks: Arc<Board>,
    pub(super) firings: Arc<schedules::Board>,
}

impl Front {
    /// Prepares to accept at these listeners.
    pub(super) fn new(
        config: &Config,
        api: Api,
        listeners: Vec<Listener>,
        tls: Option<Tls>,
    ) -> Result<Self, StartError> {
        let server = Server::new(server_settings(config, descriptors()), api, u64::from_ne_bytes(random::bits()?));
        let poll = Poll::new().map_err(|error| failed("create an epoll instance", &error))?;
        let (inbox, receiver) = waking_inbox(&poll)?;
        let acceptors = Listeners::of(&listeners, &config.tls).map_err(|error| failed("listen", &error))?;
        Ok(Self { listeners: Arc::new(listeners), inbox, tls, server, poll, receiver, acceptors })
    }

    /// Passes the loop what it shows about the other threads.
    pub(super) fn show(
        &mut self,
        config: &Config,
        context: &Context,
        journal: &Journal,
        joined: Option<&Joined>,
    ) -> Boards {
        let (webhooks, firings) = (Arc::new(Board::of(&config.webhooks)), Arc::default());
        self.server.count_watchers(journal.watchers());
        self.server.show_webhooks(Arc::clone(&webhooks));
        self.server.show_firings(Arc::clone(&firings));
        if let Some(tls) = &self.tls {
            self.server.show_tls(tls.counts());
        }
        self.server.show_usage_faults(context.registry.usage_faults());
        if let Some(joined) = joined {
            self.server.show_node(Node { vitals: Arc::clone(&joined.vitals), counts: Arc::clone(&joined.counts) });
        }
        Boards { webhooks, firings }
    }

    /// Starts to serve: first the connections that another process has `passed` on, then new ones.
    pub(super) fn start(
        self,
        hands: Hands,
        control: LoopControl,
        passed: Vec<PassedConnection>,
    ) -> Result<JoinHandle<io::Result<Ended>>, StartError> {
        let acceptors = (self.acceptors, self.tls);
        let event_loop = EventLoop::new(self.poll, acceptors, self.server, self.receiver, hands, control);
        spawn("loop", move || event_loop.run(passed))
    }
}

/// Creates the inbox of the loop, whose sender wakes the poll.
fn waking_inbox(poll: &Poll) -> Result<(InboxSender, InboxReceiver), StartError> {
    let waker = Waker::new(poll.registry(), WAKER).map_err(|error| failed("create a waker", &error))?;
    Ok(inbox(move || {
        // Fails only when the poll is gone, and with it the loop.
        let _ = waker.wake();
    }))
}

/// Creates what answers requests.
pub(super) fn api(config: &Config, storage: &Storage, signer: &IdSigner) -> Result<Api, StartError> {
    Ok(Api::new(api_settings(config, storage, signer)?, Box::new(random_or_abort)))
}

fn api_settings(config: &Config, storage: &Storage, signer: &IdSigner) -> Result<ApiSettings, StartError> {
    let ticket_key = || storage.ticket_key.clone();
    let memory = match (storage.is_durable, &storage.shared) {
        (false, _) => TicketMemory::SinceStart(random::bits()?),
        (true, None) => TicketMemory::All,
        (true, Some(_)) => TicketMemory::Shared,
    };
    let mut tickets = TicketBook::new(ticket_key(), config.auth.ticket_ttl, memory);
    tickets = tickets.remembering(config.limits.tickets);
    storage.tickets.iter().for_each(|note| tickets.apply(note));
    let origins = Origins::new(config.cors.allowed_origins.as_slice());
    Ok(ApiSettings {
        verifier: verifier(config)?,
        hosts: hosts(config),
        origins: origins.map_err(|error| StartError(error.to_string()))?,
        signer: signer.clone(),
        ticket_key: ticket_key(),
        tickets,
        ticket_ttl: config.auth.ticket_ttl,
        serves_metrics: config.metrics.listen.is_none(),
    })
}
