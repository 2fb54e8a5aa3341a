use serde_json::{Value, json};

use super::Schema;

fn no_templates(_: &str) -> bool {
    false
}

fn is_valid(schema: &Value, value: &Value) -> bool {
    Schema::compile(schema).expect("compiles").validate(value, &no_templates).is_empty()
}

#[test]
fn keywords_hold_as_the_specification_says() {
    let table = [
        (json!(true), vec![json!(1)], vec![]),
        (json!(false), vec![], vec![json!(1)]),
        (json!({"type": "integer"}), vec![json!(1), json!(1.0)], vec![json!(1.5), json!("1"), json!(null)]),
        (json!({"type": ["string", "null"]}), vec![json!("a"), json!(null)], vec![json!(1)]),
        (json!({"type": "number"}), vec![json!(1), json!(0.5)], vec![json!("1")]),
        (json!({"enum": ["a", 1, null]}), vec![json!("a"), json!(1.0), json!(null)], vec![json!("b"), json!(2)]),
        (json!({"const": {"a": 1, "b": 2}}), vec![json!({"b": 2, "a": 1.0})], vec![json!({"a": 1})]),
        (json!({"required": ["a"]}), vec![json!({"a": null}), json!("no object")], vec![json!({})]),
        (json!({"properties": {"a": {"type": "null"}}}), vec![json!({"a": null, "b": 1})], vec![json!({"a": 1})]),
        (
            json!({"properties": {"a": true}, "patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": false}),
            vec![json!({"a": 1, "x-b": "s"})],
            vec![json!({"c": 1}), json!({"x-b": 1})],
        ),
        (json!({"additionalProperties": {"type": "string"}}), vec![json!({"a": "s"})], vec![json!({"a": 1})]),
        (json!({"propertyNames": {"maxLength": 2}}), vec![json!({"ab": 1})], vec![json!({"abc": 1})]),
        (
            json!({"minProperties": 1, "maxProperties": 2}),
            vec![json!({"a": 1})],
            vec![json!({}), json!({"a": 1, "b": 1, "c": 1})],
        ),
        (json!({"items": {"type": "string"}}), vec![json!([]), json!(["a"])], vec![json!(["a", 1])]),
        (
            json!({"prefixItems": [{"type": "string"}], "items": false}),
            vec![json!(["a"]), json!([])],
            vec![json!([1]), json!(["a", "b"])],
        ),
        (json!({"minItems": 1, "maxItems": 2}), vec![json!([1])], vec![json!([]), json!([1, 2, 3])]),
        (json!({"uniqueItems": true}), vec![json!([1, "1", [1]])], vec![json!([1, 2, 1.0]), json!([{}, {}])]),
        (json!({"uniqueItems": false}), vec![json!([1, 1])], vec![]),
        (json!({"minLength": 2, "maxLength": 3}), vec![json!("äö"), json!(1)], vec![json!("ä"), json!("abcd")]),
        (json!({"pattern": "^a+$"}), vec![json!("aa"), json!(1)], vec![json!("b")]),
        (json!({"minimum": 1, "maximum": 2}), vec![json!(1), json!(2)], vec![json!(0), json!(2.5)]),
        (json!({"exclusiveMinimum": 1, "exclusiveMaximum": 2}), vec![json!(1.5)], vec![json!(1), json!(2)]),
        (json!({"multipleOf": 0.1}), vec![json!(0.3), json!(7)], vec![json!(0.25)]),
        (json!({"format": "date-time"}), vec![json!("2025-03-01T02:00:00Z"), json!(1)], vec![json!("yesterday")]),
        (json!({"minLength": 2.0}), vec![json!("ab")], vec![json!("a")]),
        (json!({"anyOf": [{"type": "string"}, {"minimum": 5}]}), vec![json!("a"), json!(6)], vec![json!(1)]),
        (json!({"oneOf": [{"minimum": 1}, {"maximum": 5}]}), vec![json!(0), json!(6)], vec![json!(3)]),
        (json!({"allOf": [{"minimum": 1}, {"maximum": 5}]}), vec![json!(3)], vec![json!(0), json!(6)]),
        (json!({"not": {"type": "string"}}), vec![json!(1)], vec![json!("a")]),
        (
            json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}}),
            vec![json!({"a": 1, "b": 1}), json!({"c": 1})],
            vec![json!({"a": 1}), json!({})],
        ),
        (
            json!({"$defs": {"n/m~": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n~1m~0"}}}),
            vec![json!({"a": 1})],
            vec![json!({"a": "s"})],
        ),
        (
            json!({"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": false}),
            vec![json!({"child": {"child": {}}})],
            vec![json!({"child": {"other": 1}}), json!({"child": 1})],
        ),
    ];
    for (schema, valid, invalid) in table {
        for value in valid {
            assert!(is_valid(&schema, &value), "{schema} takes {value}");
        }
        for value in invalid {
            assert!(!is_valid(&schema, &value), "{schema} refuses {value}");
        }
    }
}

#[test]
fn a_hundredth_of_a_great_amount_was_no_multiple_of_a_hundredth() {
    let cents = json!({"multipleOf": 0.01});
    for amount in [111848.18, 1234567.89, 19999999.99, 0.07, 1e15] {
        assert!(is_valid(&cents, &json!(amount)), "{amount}");
    }
    for amount in [111848.185, 1234567.891, 0.001] {
        assert!(!is_valid(&cents, &json!(amount)), "{amount}");
    }
}

#[test]
fn bounds_above_2_to_the_53_were_rounded() {
    let at_most = json!({"maximum": 9_007_199_254_740_992_u64});
    assert!(is_valid(&at_most, &json!(9_007_199_254_740_992_u64)));
    assert!(!is_valid(&at_most, &json!(9_007_199_254_740_993_u64)));
    let at_least = json!({"exclusiveMinimum": i64::MIN});
    assert!(!is_valid(&at_least, &json!(i64::MIN)));
    assert!(is_valid(&at_least, &json!(i64::MIN + 1)));
    assert!(is_valid(&json!({"maximum": u64::MAX}), &json!(u64::MAX - 1)));
    assert!(!is_valid(&json!({"exclusiveMaximum": u64::MAX}), &json!(u64::MAX)));
    assert!(is_valid(&json!({"multipleOf": 3}), &json!(9_007_199_254_740_993_u64)));
    assert!(!is_valid(&json!({"const": 9_007_199_254_740_992.0}), &json!(9_007_199_254_740_993_u64)));
    let told = Schema::compile(&at_most).expect("compiles").validate(&json!(u64::MAX), &no_templates);
    assert_eq!(told[0].1, "must be at most 9007199254740992");
}

#[test]
fn a_format_that_is_not_checked_was_taken_for_one_that_is() {
    let refused = Schema::compile(&json!({"properties": {"to": {"type": "string", "format": "email"}}}));
    let expected = "#/properties/to/format: the format `email` is not supported; use `pattern`, leave it out, or use one of \
                    `date-time`, `date`, `time`, `ipv4`, `ipv6`, `uuid`";
    assert_eq!(refused.expect_err("is refused"), expected);
    let schema = Schema::compile(&json!({"properties": {"at": {"format": "date"}}})).expect("compiles");
    let told = schema.validate(&json!({"at": "today"}), &no_templates);
    assert_eq!(told, [("at".to_owned(), "must be an RFC 3339 date, such as 2025-03-01".to_owned())]);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let schema = Schema::compile(&json!({
        "title": "t", "$schema": "x", "default": {},
        "type": "object", "required": ["name"],
        "properties": {"tags": {"items": {"type": "string"}}, "deep": {"properties": {"n": {"maximum": 3}}}}
    }));
    let issues = schema.expect("compiles").validate(&json!({"tags": ["a", 1], "deep": {"n": 4}}), &no_templates);
    let expected = [
        ("", "`name` is missing"),
        ("tags[1]", "must be of type string, not integer"),
        ("deep.n", "must be at most 3"),
    ];
    assert_eq!(issues, expected.map(|(path, message)| (path.to_owned(), message.to_owned())));
}

#[test]
fn a_schema_that_can_not_be_applied_whole_is_refused() {
    for (schema, part) in [
        (json!({"typ": "string"}), "`typ`"),
        (json!({"properties": {"a": {"contains": true}}}), "#/properties/a: the keyword `contains`"),
        (json!({"type": "text"}), "#/type must be"),
        (json!({"type": []}), "#/type must be"),
        (json!({"required": "a"}), "#/required must be"),
        (json!({"pattern": "("}), "#/pattern"),
        (json!({"minLength": -1}), "#/minLength"),
        (json!({"exclusiveMinimum": true}), "#/exclusiveMinimum"),
        (json!({"multipleOf": 0}), "#/multipleOf"),
        (json!({"minLength": 1.5}), "#/minLength"),
        (json!({"format": 1}), "#/format must be a string"),
        (json!({"items": [{}]}), "prefixItems"),
        (json!({"anyOf": []}), "#/anyOf"),
        (json!({"$defs": {"a": 1}}), "#/$defs/a must be a schema"),
        (json!({"$ref": "https://example.com/s"}), "#/$ref must be"),
        (json!({"$ref": "#/$defs/none"}), "which does not exist"),
        (json!({"$ref": "#"}), "leads back to itself"),
        (
            json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}),
            "leads back to itself",
        ),
        (json!([]), "# must be a schema"),
    ] {
        let refused = Schema::compile(&schema).expect_err("is refused");
        assert!(refused.contains(part), "{schema}: {refused}");
    }
}

#[test]
fn a_template_passes_whatever_is_asked_of_it() {
    let is_template = |text: &str| text.contains("{{");
    for schema in [
        json!({"properties": {"a": {"type": "integer", "minimum": 3, "enum": [4]}}}),
        json!({"properties": {"a": {"not": {}}}}),
        json!({"not": {"properties": {"a": {"const": 1}}}}),
        json!({"oneOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"a": {"const": 2}}}]}),
        json!({"if": {"properties": {"a": {"const": 1}}}, "then": false}),
        json!({"const": {"a": 1}}),
    ] {
        let compiled = Schema::compile(&schema).expect("compiles");
        assert_eq!(compiled.validate(&json!({"a": "{{ inputs.x }}"}), &is_template), [], "{schema}");
    }
    let required = Schema::compile(&json!({"required": ["b"]})).expect("compiles");
    assert_eq!(required.validate(&json!({"a": "{{ inputs.x }}"}), &is_template).len(), 1);
}

#[test]
fn a_check_can_not_run_for_ever() {
    let node = json!({"anyOf": [{"properties": {"c": {"$ref": "#"}}, "required": ["x"]},
        {"properties": {"c": {"$ref": "#"}}, "required": ["y"]}, {"properties": {"c": {"$ref": "#"}}, "required": ["z"]}]});
    let deep = (0..40).fold(json!(1), |inner, _| json!({"c": inner, "n": 1}));
    let issues = Schema::compile(&node).expect("compiles").validate(&deep, &no_templates);
    assert!(issues[0].1.contains("too much"), "{issues:?}");
    let many: Vec<_> = (0..1000).collect();
    let strings = Schema::compile(&json!({"items": {"type": "string"}})).expect("compiles");
    assert_eq!(strings.validate(&json!(many), &no_templates).len(), 100);
}
