//! Starts the threads beside the log, the executor and the loop. Each sends commands to the log, and may wait for it.

use std::sync::Arc;
use std::thread::JoinHandle;
#[cfg(feature = "http-tool")]
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::super::children::{Children, Nursery};
use super::super::error::StartError;
use super::super::inbox::InboxSender;
use super::super::intake::{Intake, Work};
#[cfg(feature = "http-tool")]
use super::super::settings::size;
use super::super::threads::{random_or_abort, spawn};
use crate::config::Config;
use crate::executor::{ChildWish, Context, ExecutorHandle};
use crate::log::LogHandle;
use crate::schedules::{self, Scheduler, SchedulerHandle};
#[cfg(feature = "http-tool")]
use crate::webhooks::Courier;
use crate::webhooks::{Board, CourierHandle, Rung};

/// How often a node checks for webhook events of other nodes.
#[cfg(feature = "http-tool")]
const WEBHOOKS_LOOK: Duration = Duration::from_secs(2);

/// What all these threads need.
pub(super) struct Beside<'a> {
    pub(super) config: &'a Config,
    pub(super) context: &'a Arc<Context>,
    pub(super) log: &'a LogHandle,
    /// Whether other nodes share the store.
    pub(super) is_shared: bool,
}

impl Beside<'_> {
    /// Starts the thread that checks plans, and returns its sender.
    pub(super) fn start_intake(&self, inbox: &InboxSender) -> Result<(Sender<Work>, JoinHandle<()>), StartError> {
        let intake = Intake {
            context: Arc::clone(self.context),
            steps_max: self.config.limits.plan_steps,
            log: self.log.clone(),
            inbox: inbox.clone(),
            random: random_or_abort,
        };
        let (intake, take_in) = intake.into_work();
        Ok((intake, spawn("intake", take_in)?))
    }

    /// Starts the thread that starts child runs.
    pub(super) fn start_children(
        &self,
        wishes: Receiver<ChildWish>,
        executor: ExecutorHandle,
    ) -> Result<JoinHandle<()>, StartError> {
        let nursery = Nursery::new(Arc::clone(self.context), self.config.limits.plan_steps);
        let children = Children { wishes, log: self.log.clone(), executor, nursery };
        spawn("children", move || children.run())
    }

    /// Starts the thread that starts the runs of schedules, and returns a handle to it.
    pub(super) fn start_scheduler(
        &self,
        firings: Arc<schedules::Board>,
        rung: Receiver<()>,
    ) -> Result<(JoinHandle<()>, SchedulerHandle), StartError> {
        let (log, context, steps_max) = (self.log.clone(), Arc::clone(self.context), self.config.limits.plan_steps);
        let (scheduler, handle) = Scheduler::new(log, context, steps_max, firings, rung, self.is_shared);
        Ok((spawn("schedules", move || scheduler.run())?, handle))
    }

    /// Starts the thread that sends webhooks, if any are declared.
    #[cfg(feature = "http-tool")]
    pub(super) fn start_courier(
        &self,
        board: Arc<Board>,
        rung: Rung,
    ) -> Result<Option<(CourierHandle, JoinHandle<()>)>, StartError> {
        let config = self.config;
        if config.webhooks.is_empty() {
            return Ok(None);
        }
        let looks_each = self.is_shared.then_some(WEBHOOKS_LOOK);
        let body_bytes_max = size(config.limits.webhook_body_bytes);
        let courier = Courier::new(&config.webhooks, body_bytes_max, self.log.clone(), board, rung, looks_each);
        let (courier, handle) = courier.map_err(StartError)?;
        Ok(Some((handle, spawn("webhooks", move || courier.run())?)))
    }

    #[cfg(not(feature = "http-tool"))]
    pub(super) fn start_courier(
        &self,
        _: Arc<Board>,
        _: Rung,
    ) -> Result<Option<(CourierHandle, JoinHandle<()>)>, StartError> {
        match self.config.webhooks.first() {
            None => Ok(None),
            Some(first) => Err(StartError(format!(
                "webhook {}: webhooks are not supported: this program was built without the feature http-tool",
                first.name
            ))),
        }
    }
}
