//! What holds for one queue or exchange: its arguments, its policy and its operator policy as one list of arguments.

use super::keys::{KEYS, Key, Merge, On, Shape, age_secs, number, of_argument};
use super::{Best, PolicyDefinition};
use millpond_model::table::{Table, Value};

/// The arguments as they act: those of the declaration, with what policies add to or take from them.
pub(crate) fn effective(on: On, arguments: &Table, best: &Best<'_>) -> Table {
    let mut out = arguments.clone();
    let policies = [best.policy, best.operator].map(|policy| policy.map(|it| &it.spec.definition));
    let merged = merge_policies(policies[0], policies[1]);
    for (key, value) in merged.iter().filter(|(key, _)| key.on == on) {
        let Some(argument) = key.argument else { continue };
        let value = match out.get(argument) {
            None => (*value).clone(),
            Some(_) if key.merge == Merge::Argument => continue,
            Some(own) => least(key.merge, own, value).clone(),
        };
        out.set(argument, value);
    }
    out
}

/// What a policy and an operator policy say together, by the names of their keys.
pub(crate) fn definition(best: &Best<'_>) -> Table {
    let [policy, operator] = [best.policy, best.operator].map(|policy| policy.map(|it| &it.spec.definition));
    merge_policies(policy, operator).into_iter().map(|(key, value)| (key.name, value.clone())).collect()
}

/// A policy with the operator policy over it.
fn merge_policies<'p>(
    policy: Option<&'p PolicyDefinition>,
    operator: Option<&'p PolicyDefinition>,
) -> Vec<(&'static Key, &'p Value)> {
    let mut merged: Vec<_> = policy.into_iter().flat_map(PolicyDefinition::keys).collect();
    for (key, value) in operator.into_iter().flat_map(PolicyDefinition::keys) {
        match merged.iter_mut().find(|(known, _)| known.name == key.name) {
            None => merged.push((key, value)),
            Some((_, own)) if key.merge == Merge::Argument => *own = value,
            Some((_, own)) => *own = least(key.merge, own, value),
        }
    }
    merged
}

/// The stricter of two values; one that cannot be read loses.
fn least<'v>(merge: Merge, a: &'v Value, b: &'v Value) -> &'v Value {
    let order = |value: &Value| match merge {
        Merge::LeastAge => age_secs(value).map(|secs| secs as f64),
        Merge::LeastLimit => number(value).map(|v| if v < 0.0 { f64::INFINITY } else { v }),
        Merge::Least | Merge::Argument => number(value),
    };
    match (order(a), order(b)) {
        (Some(x), Some(y)) => {
            if y < x {
                b
            } else {
                a
            }
        }
        (None, Some(_)) => b,
        _ => a,
    }
}

/// Whether a value fits an argument that may be altered on a live queue: one that a policy can set (void takes it
/// away). `None`: it may not be altered.
pub(crate) fn check_alteration(argument: &str, value: &Value) -> Option<Result<(), String>> {
    let key = of_argument(argument).filter(|key| key.on == On::Queues)?;
    Some(if *value == Value::Void { Ok(()) } else { key.shape.check(value) })
}

/// The arguments that may be altered on a live queue.
pub(crate) fn alterable() -> String {
    let keys = KEYS.iter().filter(|key| key.on == On::Queues);
    keys.filter_map(|key| key.argument).collect::<Vec<_>>().join(", ")
}

/// A value for an argument as a person wrote it: of the type that the argument wants where it is known, a text
/// otherwise.
pub fn argument_value(argument: &str, text: &str) -> Value {
    let written = Value::from(text);
    let number = || text.parse::<i64>().ok().map(Value::I64);
    let parsed = match of_argument(argument).map(|key| key.shape) {
        Some(Shape::Integer(..)) => number(),
        Some(Shape::Rate) => number().or_else(|| text.parse().ok().map(Value::F64)),
        Some(Shape::Bool) => text.parse::<bool>().ok().map(Value::Bool),
        _ => None,
    };
    parsed.unwrap_or(written)
}
