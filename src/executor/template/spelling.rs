//! Writes values inside expressions as JSON: `true`, `null`, `[1,"a"]`. The engine would write them as Python does, so
//! everything that turns values into text (`~`, `string`, `join` and `format`) is replaced here. An expression then
//! gives the same text as the template around it would.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value as Evaluated};

use super::RENDERED_BYTES_MAX;
use super::scope::Node;
use super::value::{Budget, to_json};

/// The filter that `a ~ b` becomes, over `[a, b]`.
pub(super) const CONCAT: &str = "stepcast_concat";

/// The engine's own filters under names of ours.
const ENGINE_JOIN: &str = "stepcast_engine_join";
const ENGINE_FORMAT: &str = "stepcast_engine_format";

/// How many bytes of text one unit of fuel makes.
const BYTES_PER_FUEL: u64 = 64;

/// Takes the filters over.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_filter(ENGINE_JOIN, minijinja::filters::join);
    environment.add_filter(ENGINE_FORMAT, minijinja::filters::format);
    environment.add_filter(CONCAT, concat);
    environment.add_filter("string", string);
    environment.add_filter("join", join);
    environment.add_filter("format", format);
}

fn concat(state: &State, operands: &Evaluated) -> Result<Evaluated, Error> {
    let mut joined = String::new();
    for operand in operands.try_iter()? {
        if let Some(text) = operand.as_str() {
            joined.push_str(text);
        } else {
            joined.push_str(&text(state, &operand)?);
        }
        if joined.len() > RENDERED_BYTES_MAX {
            return Err(Error::new(ErrorKind::InvalidOperation, "the result is too large"));
        }
    }
    Ok(Evaluated::from(joined))
}

fn string(state: &State, value: &Evaluated) -> Result<Evaluated, Error> {
    spelled(state, value)
}

fn join(state: &mut State, items: &Evaluated, arguments: Rest<Evaluated>, options: Kwargs) -> Result<Evaluated, Error> {
    let items = match options.get::<Option<Evaluated>>("attribute")? {
        Some(attribute) => {
            let attribute = Kwargs::from_iter([("attribute", attribute)]);
            state.apply_filter("map", &[items.clone(), attribute.into()])?
        }
        None => items.clone(),
    };
    let separator = options.get::<Option<Evaluated>>("d")?;
    options.assert_all_used()?;
    // What can't be listed, the engine says.
    let spelled_items = match items.try_iter() {
        Ok(items) => items.map(|item| spelled(state, &item)).collect::<Result<Evaluated, Error>>()?,
        Err(_) => items,
    };
    let arguments: Vec<_> = [spelled_items].into_iter().chain(arguments.0).chain(separator).collect();
    state.apply_filter(ENGINE_JOIN, &arguments)
}

fn format(state: &mut State, pattern: &Evaluated, arguments: Rest<Evaluated>) -> Result<Evaluated, Error> {
    let mut all = vec![pattern.clone()];
    for argument in arguments.0 {
        // Numbers stay numbers, for `%d`, and named arguments keep their names.
        let stays = argument.kind() == ValueKind::Number || argument.is_kwargs();
        all.push(if stays { argument } else { spelled(state, &argument)? });
    }
    state.apply_filter(ENGINE_FORMAT, &all)
}

/// The value as text; a string as it is.
fn spelled(state: &State, value: &Evaluated) -> Result<Evaluated, Error> {
    if value.as_str().is_some() { Ok(value.clone()) } else { text(state, value).map(Evaluated::from) }
}

fn text(state: &State, value: &Evaluated) -> Result<String, Error> {
    if value.is_undefined() {
        return match state.undefined_behavior() {
            UndefinedBehavior::Strict => Err(Error::from(ErrorKind::UndefinedError)),
            _ => Ok(String::new()),
        };
    }
    let text = if value.is_integer() {
        // Of any size.
        value.to_string()
    } else if let Some(node) = value.downcast_object_ref::<Node>() {
        node.value().to_string()
    } else {
        let json = to_json(value, &mut Budget::new(RENDERED_BYTES_MAX));
        json.map_err(|problem| Error::new(ErrorKind::InvalidOperation, problem))?.to_string()
    };
    state.consume_fuel(text.len() as u64 / BYTES_PER_FUEL)?;
    Ok(text)
}
