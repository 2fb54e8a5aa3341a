use std::sync::Mutex;

use serde_json::json;

use super::super::OutputStream;
use super::*;

/// Remembers what it was told last.
#[derive(Default)]
struct Heard(Mutex<Vec<Usage>>);

impl OutputSink for Heard {
    fn write(&self, _: OutputStream, _: &[u8]) {}

    fn usage(&self, usage: &Usage) {
        self.0.lock().expect("no test panics while it holds the lock").push(usage.clone());
    }
}

fn meter(pick: &str, price: Option<Price>) -> Meter {
    let spec = UsageSpec { pick: Some(pick.to_owned()), price, provider: None };
    Meter::compile("t", spec, "event").expect("compiles").expect("a meter")
}

/// All that was told of an answer of these events.
fn told(meter: &Meter, events: &[Value]) -> Vec<Usage> {
    let (heard, mask) = (Heard::default(), Mask::new(["hunter2!"]));
    let mut tally = meter.start(&mask, &heard);
    events.iter().for_each(|event| tally.read(&Arc::new(event.clone())));
    tally.finish();
    heard.0.into_inner().expect("no test panics while it holds the lock")
}

fn last(pick: &str, events: &[Value]) -> Value {
    json!(told(&meter(pick, None), events).last())
}

const ANY: &str = "event.usage or event.message.usage or event.response.usage or event.usageMetadata";

#[test]
fn what_providers_send_is_read_as_they_mean_it() {
    let openai_end = json!({"model": "gpt-x", "choices": [], "usage": {"prompt_tokens": 2006, "completion_tokens": 300,
        "total_tokens": 2306, "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 192}}});
    let table = [
        (
            "OpenAI Chat Completions, streamed with include_usage: null in each chunk but the last",
            vec![json!({"model": "gpt-x", "choices": [{"delta": {"content": "a"}}], "usage": null}), openai_end],
            json!({"inputTokens": 2006, "outputTokens": 300, "totalTokens": 2306, "cachedTokens": 1920,
                "model": "gpt-x"}),
        ),
        (
            "OpenAI Responses, streamed: the response so far at its beginning and at its end",
            vec![
                json!({"type": "response.created", "response": {"model": "gpt-y", "usage": null}}),
                json!({"type": "response.output_text.delta", "delta": "a"}),
                json!({"type": "response.completed", "response": {"model": "gpt-y", "usage": {"input_tokens": 328,
                    "input_tokens_details": {"cached_tokens": 128}, "output_tokens": 52,
                    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 380}}}),
            ],
            json!({"inputTokens": 328, "outputTokens": 52, "totalTokens": 380, "cachedTokens": 128, "model": "gpt-y"}),
        ),
        (
            "Anthropic, streamed: input at its beginning, output so far in each message_delta",
            vec![
                json!({"type": "message_start", "message": {"model": "claude-z", "usage": {"input_tokens": 25,
                    "cache_creation_input_tokens": 100, "cache_read_input_tokens": 1000, "output_tokens": 1}}}),
                json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}}),
                json!({"type": "message_delta", "delta": {"stop_reason": null}, "usage": {"output_tokens": 10}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}}),
            ],
            json!({"inputTokens": 1125, "outputTokens": 15, "totalTokens": 1140, "cachedTokens": 1000,
                "model": "claude-z"}),
        ),
        (
            "Anthropic with server tools: the input grows too, and is told anew",
            vec![
                json!({"type": "message_start", "message": {"usage": {"input_tokens": 2679, "output_tokens": 3,
                    "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}}}),
                json!({"type": "message_delta", "usage": {"input_tokens": 10682, "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0, "output_tokens": 510, "server_tool_use": {"web_search_requests": 1}}}),
            ],
            json!({"inputTokens": 10682, "outputTokens": 510, "totalTokens": 11192, "cachedTokens": 0}),
        ),
        (
            "Gemini, streamed: everything so far in each chunk, thoughts beside the output",
            vec![
                json!({"modelVersion": "gemini-w", "usageMetadata": {"promptTokenCount": 90, "totalTokenCount": 140,
                    "thoughtsTokenCount": 50}}),
                json!({"modelVersion": "gemini-w", "usageMetadata": {"promptTokenCount": 90, "totalTokenCount": 195,
                    "candidatesTokenCount": 20, "thoughtsTokenCount": 50, "toolUsePromptTokenCount": 35,
                    "cachedContentTokenCount": 64}}),
            ],
            json!({"inputTokens": 125, "outputTokens": 70, "totalTokens": 195, "cachedTokens": 64,
                "model": "gemini-w"}),
        ),
        (
            "OpenRouter: OpenAI's with a cost, and who ran it",
            vec![json!({"provider": "Acme", "model": "m", "usage": {"prompt_tokens": 194, "completion_tokens": 2,
                "total_tokens": 196, "cost": 0.00014875, "prompt_tokens_details": {"cached_tokens": 0}}})],
            json!({"inputTokens": 194, "outputTokens": 2, "totalTokens": 196, "cachedTokens": 0, "cost": 0.00014875,
                "model": "m", "provider": "Acme"}),
        ),
        (
            "Perplexity: a cost in parts",
            vec![json!({"usage": {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20,
                "cost": {"input_tokens_cost": 0.001, "request_cost": 0.005, "total_cost": 0.006}}})],
            json!({"inputTokens": 14, "outputTokens": 6, "totalTokens": 20, "cost": 0.006}),
        ),
        (
            "A proxy that tells a cache's part twice, in both ways",
            vec![json!({"usage": {"prompt_tokens": 100, "completion_tokens": 1, "cache_read_input_tokens": 80,
                "prompt_tokens_details": {"cached_tokens": 80}}})],
            json!({"inputTokens": 100, "outputTokens": 1, "totalTokens": 101, "cachedTokens": 80}),
        ),
        (
            "Bedrock's Converse",
            vec![json!({"usage": {"inputTokens": 30, "outputTokens": 628, "totalTokens": 758,
                "cacheReadInputTokens": 100, "cacheWriteInputTokens": 0}})],
            json!({"inputTokens": 130, "outputTokens": 628, "totalTokens": 758, "cachedTokens": 100}),
        ),
        (
            "the names of this program",
            vec![json!({"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 4, "cachedTokens": 1, "cost": 3,
                "model": "own", "provider": "us"}})],
            json!({"inputTokens": 1, "outputTokens": 2, "totalTokens": 4, "cachedTokens": 1, "cost": 3.0,
                "model": "own", "provider": "us"}),
        ),
    ];
    for (name, events, expected) in table {
        assert_eq!(last(ANY, &events), expected, "{name}");
    }
}

#[test]
fn the_last_line_of_ollama_and_the_end_of_a_command_line_agent_are_read() {
    let ollama = json!({"model": "llama", "done": true, "prompt_eval_count": 26, "eval_count": 290});
    assert_eq!(
        last("event", &[json!({"model": "llama", "done": false}), ollama]),
        json!({"inputTokens": 26, "outputTokens": 290, "totalTokens": 316, "model": "llama"})
    );
    let agent = json!({"total_cost_usd": 0.003, "usage": {"input_tokens": 4, "cache_read_input_tokens": 10}});
    assert_eq!(
        last("event.usage", &[agent]),
        json!({"inputTokens": 14, "outputTokens": 0, "totalTokens": 14, "cachedTokens": 10, "cost": 0.003})
    );
}

#[test]
fn what_is_new_is_told_once() {
    let event = |output: u64| json!({"usage": {"input_tokens": 5, "output_tokens": output}});
    let told = told(&meter("event.usage", None), &[event(1), event(1), json!({}), event(2), json!(7)]);
    assert_eq!(told.iter().map(|usage| usage.output_tokens).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_price_stands_in_for_a_cost_that_is_not_told() {
    let cost = |units| Cost::of_units(units).expect("an amount");
    let price = Price { input: cost(3.0), output: cost(15.0), cached: Some(cost(0.3)) };
    let meter = meter("event.usage", Some(price));
    let anthropic = json!({"usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 100}});
    assert_eq!(told(&meter, &[anthropic])[0].cost, Some(cost(0.001_557)));
    let told_by_answer = json!({"usage": {"prompt_tokens": 10, "completion_tokens": 100, "cost": 0.5}});
    assert_eq!(told(&meter, &[told_by_answer])[0].cost, Some(cost(0.5)));
}

#[test]
fn what_is_malformed_is_counted_once_an_attempt_and_the_rest_still_read() {
    for (event, read) in [
        (json!({"usage": "a lot"}), None),
        (json!({"usage": [1]}), None),
        (json!({"usage": {}}), None),
        (json!({"usage": {"prompt_tokens": -1}}), None),
        (json!({"usage": {"prompt_tokens": 1.5, "completion_tokens": 7}}), Some(7)),
        (json!({"usage": {"prompt_tokens": "12", "completion_tokens": 7.0}}), Some(7)),
        (json!({"usage": {"prompt_tokens": 1u64 << 53, "completion_tokens": 7}}), Some(7)),
        (json!({"usage": {"completion_tokens": 7, "cost": "free"}}), Some(7)),
        (json!({"usage": {"completion_tokens": 7, "cost": -1}}), Some(7)),
    ] {
        let meter = meter("event.usage", None);
        let told = told(&meter, &[event.clone(), event.clone()]);
        assert_eq!(told.last().map(|usage| usage.total_tokens), read, "{event}");
        assert_eq!(meter.faults().counts(), [("malformed", 1), ("missing", 0)], "{event}");
    }
    let meter = meter("event.usage", None);
    assert_eq!(told(&meter, &[json!({"a": 1}), json!({"usage": null}), json!("text")]), []);
    assert_eq!(meter.faults().counts(), [("malformed", 0), ("missing", 1)]);
}

#[test]
fn names_that_can_not_be_shown_are_left_out_and_secrets_are_hidden() {
    let named = |model: &str| json!({"usage": {"prompt_tokens": 1, "model": model}});
    let model = |event: Value| last("event.usage", &[event])["model"].clone();
    assert_eq!(model(named("a/b:c")), "a/b:c");
    assert_eq!(model(named("of hunter2!")), "of ***");
    assert_eq!(model(named("a\nb")), Value::Null);
    assert_eq!(model(named(&"x".repeat(NAME_BYTES_MAX + 1))), Value::Null);
    let spec = UsageSpec { pick: Some("event.usage".into()), price: None, provider: Some("acme".into()) };
    let meter = Meter::compile("t", spec, "event").expect("compiles").expect("a meter");
    assert_eq!(told(&meter, &[named("m")])[0].provider.as_deref(), Some("acme"));
}

#[test]
fn a_price_without_usage_is_refused() {
    let refused = |spec| Meter::compile("t", spec, "event").expect_err("is refused");
    let price = Some(Price::default());
    assert_eq!(refused(UsageSpec { price, ..UsageSpec::default() }), "price: requires usage");
    let pick = Some("output.usage".to_owned());
    assert!(refused(UsageSpec { pick, ..UsageSpec::default() }).starts_with("usage: "));
    assert!(Meter::compile("t", UsageSpec::default(), "event").expect("compiles").is_none());
}
