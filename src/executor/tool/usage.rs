//! Reads tokens and cost from the responses of a declared tool, in the formats of the common providers.
//!
//! The input of OpenAI (`prompt_tokens`, or `input_tokens` of the Responses API) and Gemini (`promptTokenCount`)
//! includes cached tokens. The input of Anthropic and Bedrock (`input_tokens`, `inputTokens`, with
//! `cache_read_input_tokens`, `cacheReadInputTokens` separately) does not, and Gemini's output excludes its thoughts.
//! These are added here, so that [`Usage`] has the same meaning for all. In a stream, providers repeat the usage so
//! far, partly at the beginning and partly at the end. Therefore the newest value of each field counts, and nothing is
//! added up.
//!
//! Unreadable usage does not fail an attempt. It is counted, and logged once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

use super::OutputSink;
use super::mask::Mask;
use super::pick::Pick;
use crate::model::{Cost, Price, TOKENS_MAX, Usage};

/// The longest name of a model or a provider that is told, in bytes; a longer one is left out.
const NAME_BYTES_MAX: usize = 128;

/// How what the attempts of a declared tool use is found and priced.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UsageSpec {
    /// An expression that picks it: of an http tool over `event`, the parsed JSON of one event of a streamed answer or of
    /// the whole of another; of a command over `output`, what it printed.
    pub pick: Option<String>,
    /// What a million tokens cost, where the answer does not say what all of them did.
    pub price: Option<Price>,
    /// Who runs the model, where the answer does not say.
    pub provider: Option<String>,
}

/// What of a tool's answers could not be read, counted since the start.
#[derive(Debug, Default)]
pub(crate) struct UsageFaults {
    malformed: AtomicU64,
    missing: AtomicU64,
}

impl UsageFaults {
    /// Counts of attempts whose picked value was not usage, and of attempts without a picked value.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        [("malformed", self.malformed.load(Ordering::Relaxed)), ("missing", self.missing.load(Ordering::Relaxed))]
    }
}

/// A [`UsageSpec`] of a tool, compiled.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    tool: Arc<str>,
    pick: Pick,
    price: Option<Price>,
    provider: Option<Arc<str>>,
    faults: Arc<UsageFaults>,
}

impl Meter {
    /// Of the tool called so, whose expression is over `root`; nothing where it declares none.
    ///
    /// # Errors
    /// One sentence that begins with the field.
    pub(super) fn compile(tool: &str, spec: UsageSpec, root: &'static str) -> Result<Option<Self>, String> {
        let UsageSpec { pick, price, provider } = spec;
        let Some(pick) = pick else {
            let field = price.map(|_| "price").or(provider.map(|_| "provider"));
            return field.map_or(Ok(None), |field| Err(format!("{field}: requires usage")));
        };
        let pick = Pick::compile(&pick, root).map_err(|problem| format!("usage: {problem}"))?;
        let provider = provider.map(Into::into);
        Ok(Some(Self { tool: tool.into(), pick, price, provider, faults: Arc::default() }))
    }

    pub(super) fn faults(&self) -> Arc<UsageFaults> {
        self.faults.clone()
    }

    /// For one attempt.
    pub(super) fn start<'a>(&'a self, mask: &'a Mask, output: &'a dyn OutputSink) -> Tally<'a> {
        Tally { meter: self, mask, output, seen: Seen::default(), told: None, is_malformed: false }
    }

    fn count(&self, counter: &AtomicU64, what: &str) {
        if counter.fetch_add(1, Ordering::Relaxed) == 0 {
            log::warn!("tool {}: {what}; further cases are counted but not logged", self.tool);
        }
    }
}

/// What one attempt has used so far.
pub(super) struct Tally<'a> {
    meter: &'a Meter,
    mask: &'a Mask,
    output: &'a dyn OutputSink,
    seen: Seen,
    told: Option<Usage>,
    is_malformed: bool,
}

impl Tally<'_> {
    /// Reads one event of an answer, or the whole of one, and tells what is new.
    pub(super) fn read(&mut self, answer: &Arc<Value>) {
        match self.meter.pick.of(answer) {
            Ok(Value::Object(picked)) => {
                if let Err(problem) = self.seen.take(&picked, answer, self.mask) {
                    self.complain(&problem);
                }
                self.tell();
            }
            // Most events of a stream have none; some say so by null.
            Ok(Value::Null | Value::Bool(false)) => {}
            Ok(_) => self.complain("the expression does not select an object"),
            Err(problem) => self.complain(&problem),
        }
    }

    /// The answer came whole.
    pub(super) fn finish(&self) {
        if self.told.is_none() && !self.is_malformed {
            self.meter.count(&self.meter.faults.missing, "the expression in `usage` selected nothing from a response");
        }
    }

    /// Once an attempt, however many events of it are malformed.
    fn complain(&mut self, problem: &str) {
        if !std::mem::replace(&mut self.is_malformed, true) {
            let problem = format!("the usage in a response can't be read: {problem}");
            self.meter.count(&self.meter.faults.malformed, &problem);
        }
    }

    fn tell(&mut self) {
        let usage = self.seen.usage(self.meter).filter(|usage| self.told.as_ref() != Some(usage));
        if let Some(usage) = usage {
            self.output.usage(&usage);
            self.told = Some(usage);
        }
    }
}

/// The newest of each that was said.
#[derive(Debug, Default)]
struct Seen {
    input: Option<u64>,
    /// Beside the input: what tools answered the model, what it read from a cache, what it wrote to one.
    beside_input: [Option<u64>; 3],
    /// Within the input.
    cached: Option<u64>,
    output: Option<u64>,
    thoughts: Option<u64>,
    total: Option<u64>,
    cost: Option<Cost>,
    model: Option<Arc<str>>,
    provider: Option<Arc<str>>,
}

const INPUT: [&str; 6] =
    ["prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "promptTokens", "prompt_eval_count"];
const OUTPUT: [&str; 6] =
    ["completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount", "completionTokens", "eval_count"];
const TOTAL: [&str; 3] = ["total_tokens", "totalTokens", "totalTokenCount"];
const CACHED: [&str; 4] = ["cachedContentTokenCount", "prompt_cache_hit_tokens", "cachedTokens", "cachedInputTokens"];
/// Objects that hold `cached_tokens`.
const DETAILS: [&str; 2] = ["prompt_tokens_details", "input_tokens_details"];
const CACHE_READ: [&str; 2] = ["cache_read_input_tokens", "cacheReadInputTokens"];
const CACHE_WRITTEN: [&str; 2] = ["cache_creation_input_tokens", "cacheWriteInputTokens"];
const THOUGHTS: [&str; 1] = ["thoughtsTokenCount"];
const OF_TOOLS: [&str; 1] = ["toolUsePromptTokenCount"];

impl Seen {
    /// Takes the usage in `picked`; the provider of `answer` and its total cost may be next to it.
    fn take(&mut self, picked: &Map<String, Value>, answer: &Value, mask: &Mask) -> Result<(), String> {
        let mut reader = Reader::default();
        reader.count(picked, &INPUT, &mut self.input);
        reader.count(picked, &OUTPUT, &mut self.output);
        reader.count(picked, &THOUGHTS, &mut self.thoughts);
        reader.count(picked, &TOTAL, &mut self.total);
        reader.count(picked, &OF_TOOLS, &mut self.beside_input[0]);
        reader.count(picked, &CACHED, &mut self.cached);
        for details in DETAILS.iter().filter_map(|name| picked.get(*name)?.as_object()) {
            reader.count(details, &["cached_tokens"], &mut self.cached);
        }
        // An input like OpenAI's already includes it.
        if picked.contains_key(INPUT[0]) {
            reader.count(picked, &CACHE_READ, &mut self.cached);
        } else {
            reader.count(picked, &CACHE_READ, &mut self.beside_input[1]);
            reader.count(picked, &CACHE_WRITTEN, &mut self.beside_input[2]);
        }
        reader.cost(picked, answer, &mut self.cost);
        self.take_names(picked, answer, mask);
        match reader.problem {
            Some(problem) => Err(problem),
            None if self.is_empty() => Err("the selected object has no known field".to_owned()),
            None => Ok(()),
        }
    }

    fn take_names(&mut self, picked: &Map<String, Value>, answer: &Value, mask: &Mask) {
        let of_answer = [&answer["model"], &answer["message"]["model"], &answer["response"]["model"]];
        let of_answer = of_answer.into_iter().chain([&answer["modelVersion"]]);
        let model = picked.get("model").into_iter().chain(of_answer).find_map(|model| name(model, mask));
        let provider = picked.get("provider").into_iter().chain([&answer["provider"]]);
        self.model = model.or(self.model.take());
        self.provider = provider.into_iter().find_map(|provider| name(provider, mask)).or(self.provider.take());
    }

    fn is_empty(&self) -> bool {
        self.input.or(self.output).or(self.total).is_none() && self.cost.is_none()
    }

    fn usage(&self, meter: &Meter) -> Option<Usage> {
        if self.is_empty() {
            return None;
        }
        let sum = |of: &[Option<u64>]| {
            of.iter().flatten().fold(0, |sum: u64, more| sum.saturating_add(*more).min(TOKENS_MAX))
        };
        let [_, read, _] = self.beside_input;
        let input_tokens = self.beside_input.iter().chain([&self.input]).copied().collect::<Vec<_>>();
        let (input_tokens, output_tokens) = (sum(&input_tokens), sum(&[self.output, self.thoughts]));
        let mut usage = Usage {
            input_tokens,
            output_tokens,
            total_tokens: sum(&[Some(input_tokens), Some(output_tokens)]).max(self.total.unwrap_or(0)),
            cached_tokens: self.cached.or(read),
            cost: self.cost,
            model: self.model.clone(),
            provider: self.provider.clone().or_else(|| meter.provider.clone()),
        };
        usage.cost = usage.cost.or_else(|| meter.price.map(|price| price.of(&usage)));
        Some(usage)
    }
}

/// Reads fields, and remembers the first that is not what it should be.
#[derive(Default)]
struct Reader {
    problem: Option<String>,
}

impl Reader {
    /// The first of `names` that is there and not null.
    fn count(&mut self, from: &Map<String, Value>, names: &[&str], into: &mut Option<u64>) {
        let found = names.iter().find_map(|name| Some((name, from.get(*name).filter(|value| !value.is_null())?)));
        let Some((name, value)) = found else { return };
        match tokens(value) {
            Some(count) => *into = Some(count),
            None => self.complain(name, "not a number of tokens"),
        }
    }

    /// A number, or an object with the sum of its parts; some programs tell it beside what they used.
    fn cost(&mut self, picked: &Map<String, Value>, answer: &Value, into: &mut Option<Cost>) {
        let told = picked.get("cost").map(|cost| cost.get("total_cost").unwrap_or(cost));
        let told = told.or_else(|| answer.get("total_cost_usd")).filter(|cost| !cost.is_null());
        let Some(value) = told else { return };
        match value.as_f64().and_then(Cost::of_units) {
            Some(cost) => *into = Some(cost),
            None => self.complain("cost", "not an amount"),
        }
    }

    fn complain(&mut self, name: &str, what: &str) {
        self.problem.get_or_insert_with(|| format!("{name} is {what}"));
    }
}

/// A whole number, however it is written.
fn tokens(value: &Value) -> Option<u64> {
    let whole = |float: f64| (float.fract() == 0.0 && float >= 0.0).then_some(float as u64);
    value.as_u64().or_else(|| whole(value.as_f64()?)).filter(|count| *count <= TOKENS_MAX)
}

/// A name that can be shown.
fn name(value: &Value, mask: &Mask) -> Option<Arc<str>> {
    let name = mask.text(value.as_str()?);
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    fits.then(|| name.into())
}

#[cfg(test)]
mod tests;
