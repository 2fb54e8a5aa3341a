//! What a run has used, as AG-UI tells it: one entry a provider and model.

use serde_json::{Value, json};

use crate::model::{RunState, Usage};

/// The entries, in the order in which the steps name models first. Steps whose attempts asked several have one without.
pub(super) fn by_model(state: &RunState) -> Vec<Value> {
    let mut sums: Vec<Usage> = Vec::new();
    for used in state.steps.iter().filter_map(|step| step.usage.as_deref()) {
        let is_same = |sum: &&mut Usage| sum.model == used.model && sum.provider == used.provider;
        match sums.iter_mut().find(is_same) {
            Some(sum) => sum.add(used),
            None => sums.push(used.clone()),
        }
    }
    sums.iter().map(entry).collect()
}

/// A field that is not known is left out: a client takes null for an error.
fn entry(usage: &Usage) -> Value {
    let Usage { input_tokens, output_tokens, total_tokens, cached_tokens, cost, model, provider } = usage;
    let mut entry = json!({"inputTokens": input_tokens, "outputTokens": output_tokens, "totalTokens": total_tokens});
    let more = [
        ("cachedInputTokens", cached_tokens.map(|cached| json!(cached))),
        ("cost", cost.map(|cost| json!(cost))),
        ("model", model.as_ref().map(|model| json!(model))),
        ("provider", provider.as_ref().map(|provider| json!(provider))),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            entry[name] = value;
        }
    }
    entry
}
