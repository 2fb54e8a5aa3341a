//! `stepcast webhooks test`: sends a test event to a webhook, exactly as a server would.

use std::process::ExitCode;

use super::args::Settings;
use super::error::CommandError;
use super::load;
use super::output::say;
use crate::config::WebhookDeclaration;
use crate::webhooks::Sent;

pub(super) fn test(settings: Settings, name: &str) -> Result<ExitCode, CommandError> {
    let config = load(settings)?;
    let Some(webhook) = config.webhooks.iter().find(|webhook| webhook.name == name) else {
        let names: Vec<_> = config.webhooks.iter().map(|webhook| webhook.name.as_str()).collect();
        let known = if names.is_empty() {
            "the configuration declares none".to_owned()
        } else {
            format!("declared webhooks: {}", names.join(", "))
        };
        return Err(CommandError::new(format!("unknown webhook {name}; {known}")));
    };
    let sent = send(webhook)?;
    say(format_args!("webhook {name}: {sent}"))?;
    Ok(match sent {
        Sent::Answered { status: 200..=299, .. } => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

#[cfg(feature = "http-tool")]
fn send(webhook: &WebhookDeclaration) -> Result<Sent, CommandError> {
    let id = crate::model::RunId::from_random(crate::random::bits()?).to_string().replace("run_", "ping_");
    crate::webhooks::ping(webhook, &id, crate::clock::wall()).map_err(CommandError::new)
}

#[cfg(not(feature = "http-tool"))]
fn send(_: &WebhookDeclaration) -> Result<Sent, CommandError> {
    Err(CommandError::new("webhooks are not supported: this program was built without the feature http-tool"))
}
