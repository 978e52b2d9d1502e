//! What makes messages of a queue a group: the value of a header or a property.

use super::cell::{QueueCell, State};
use super::machine::OwnerKey;
use super::pump::Work;
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::{RawValue, Table, Value};
use millpond_store::Fetch;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

/// Ready messages looked at ahead, when the queue does not say.
const WINDOW_DEFAULT: usize = 10_000;

/// Most messages looked at in one go.
const LOOK_MAX: usize = 256;

/// The properties that may be grouped by.
pub(crate) const PROPERTIES: &str = "message-id, correlation-id, app-id, type, user-id or reply-to";

/// What a queue groups its messages by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupTerms {
    by: GroupBy,
    /// How many ready messages are looked at ahead.
    pub(crate) window: usize,
}

/// Where the value is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum GroupBy {
    Header(Box<str>),
    Property(Property),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Property {
    MessageId,
    CorrelationId,
    AppId,
    Type,
    UserId,
    ReplyTo,
}

impl Property {
    /// Either spelling: with a hyphen as in the specification, or with an underscore as in many clients.
    fn of(name: &str) -> Option<Self> {
        Some(match name.replace('_', "-").as_str() {
            "message-id" => Self::MessageId,
            "correlation-id" => Self::CorrelationId,
            "app-id" => Self::AppId,
            "type" => Self::Type,
            "user-id" => Self::UserId,
            "reply-to" => Self::ReplyTo,
            _ => return None,
        })
    }

    fn read<'a>(self, properties: &RawProperties<'a>) -> Option<&'a [u8]> {
        match self {
            Self::MessageId => properties.message_id(),
            Self::CorrelationId => properties.correlation_id(),
            Self::AppId => properties.app_id(),
            Self::Type => properties.type_(),
            Self::UserId => properties.user_id(),
            Self::ReplyTo => properties.reply_to(),
        }
    }
}

/// `header:NAME`, `property:NAME`, or the name of a header that is not one of a property too. The error is the end
/// of a sentence.
fn parse(text: &str) -> Result<GroupBy, String> {
    if let Some(name) = text.strip_prefix("property:") {
        let property = Property::of(name).map(GroupBy::Property);
        return property.ok_or_else(|| format!("'{name}' is not {PROPERTIES}"));
    }
    let header = |name: &str| match name {
        "" => Err("the name of a header is missing".to_owned()),
        name => Ok(GroupBy::Header(name.into())),
    };
    match text.strip_prefix("header:") {
        Some(name) => header(name),
        None if Property::of(text).is_some() => Err(format!(
            "'{text}' could be a header or a property: say 'header:{text}' or 'property:{}'",
            text.replace('_', "-")
        )),
        None => header(text),
    }
}

/// Whether `x-group-by` may have this value; the error is the end of a sentence.
pub(crate) fn check(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some(text) => parse(text).map(|_| ()),
        None => Err(format!("unacceptable type {}: a longstr of UTF-8 is needed", value.type_name())),
    }
}

impl GroupTerms {
    /// Of a queue's arguments, which were checked.
    pub(crate) fn of(arguments: &Table) -> Option<Self> {
        let by = parse(arguments.get("x-group-by")?.as_str()?).ok()?;
        let window = arguments.get("x-group-window").and_then(Value::as_i64);
        let window = window.and_then(|window| usize::try_from(window).ok()).unwrap_or(WINDOW_DEFAULT);
        Some(Self { by, window })
    }

    /// A number that stands for a message's group: equal values have the same. Two values may have the same too, and
    /// then go as one group.
    fn group_of(&self, message: &Message) -> Option<u64> {
        // Seeded by chance once a process, so that nobody can choose values that meet.
        static HASHER: LazyLock<foldhash::fast::RandomState> = LazyLock::new(Default::default);
        let properties = RawProperties::from_checked(message.properties());
        let hash = |text: &[u8]| (!text.is_empty()).then(|| HASHER.hash_one(text));
        match &self.by {
            GroupBy::Property(property) => hash(property.read(&properties)?),
            GroupBy::Header(name) => match properties.headers()?.get(name)? {
                RawValue::LongStr(text) => hash(text),
                other => hash(other.as_i64()?.to_string().as_bytes()),
            },
        }
    }
}

impl State {
    /// Goes by other groups, or by none; with another window only, groups that are in use stay so.
    pub(super) fn change_groups(&mut self, terms: Option<&GroupTerms>) {
        match (&self.settings.groups, terms) {
            (Some(old), Some(new)) if old.by == new.by => self.machine.set_group_window(new.window),
            (None, None) => {}
            (_, new) => self.machine.set_groups(new.map(|groups| groups.window)),
        }
    }
}

impl QueueCell {
    /// Tells the machine the groups that it must know to hand out more. What is on disk it will be told later: no
    /// more is handed out before.
    #[inline]
    pub(super) fn learn_groups(&self, state: &mut State) {
        if state.machine.is_grouped() && !state.loading {
            while let Some(seqs) = state.machine.wants_groups() {
                if self.look_for_groups(state, seqs) == Fetch::Loading {
                    state.loading = true;
                    return;
                }
            }
        }
    }

    /// As [`Self::learn_groups`], before a get; whether that is known which it needs.
    pub(super) fn learn_groups_to_get(&self, state: &mut State, owner: OwnerKey) -> Fetch {
        while let Some(seqs) = state.machine.wants_groups_to_get(owner) {
            if self.look_for_groups(state, seqs) == Fetch::Loading {
                return Fetch::Loading;
            }
        }
        Fetch::Complete
    }

    /// Looks at the first of these messages; `Loading`: at none, because that is on disk.
    fn look_for_groups(&self, state: &mut State, seqs: Range<u64>) -> Fetch {
        let mut seen = Vec::with_capacity(LOOK_MAX.min((seqs.end - seqs.start) as usize));
        let peek = self.log.peek(seqs.clone(), LOOK_MAX, &mut seen);
        let last = seen.last().map(|(seq, _)| seq + 1);
        if peek == Fetch::Loading && last.is_none() {
            return Fetch::Loading;
        }
        let to = match last {
            Some(to) if peek == Fetch::Loading || seen.len() >= LOOK_MAX => to,
            // What is missing in the store is of no group.
            _ => seqs.end,
        };
        let terms = state.settings.groups.as_ref();
        let group_of = |(seq, message): &(u64, Message)| Some((*seq, terms?.group_of(message)?));
        let found: Vec<(u64, u64)> = seen.iter().filter_map(group_of).collect();
        state.machine.learn(seqs.start..to, &found);
        Fetch::Complete
    }

    /// What went without being handed out may have made room in the window: more is looked at, handed out and looked
    /// after.
    #[inline]
    pub(super) fn look_on(self: &Arc<Self>, state: &mut State, work: &mut Work<'_>) {
        if state.machine.is_grouped() && !state.loading && state.machine.wants_groups().is_some() {
            self.pump(state, work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_model::properties::Properties;

    fn terms(text: &str) -> GroupTerms {
        GroupTerms { by: parse(text).expect(text), window: 1 }
    }

    #[test]
    fn a_name_that_could_be_both_must_say_which() {
        let table = [
            ("customer", ""),
            ("header:customer", ""),
            ("header:user-id", ""),
            ("property:user-id", ""),
            ("property:correlation_id", ""),
            (
                "user-id",
                "'user-id' could be a header or a property: say 'header:user-id' or 'property:user-id'",
            ),
            (
                "message_id",
                "'message_id' could be a header or a property: say 'header:message_id' or 'property:message-id'",
            ),
            (
                "property:customer",
                "'customer' is not message-id, correlation-id, app-id, type, user-id or reply-to",
            ),
            ("", "the name of a header is missing"),
            ("header:", "the name of a header is missing"),
        ];
        for (text, wrong) in table {
            assert_eq!(check(&Value::from(text)).err().unwrap_or_default(), wrong, "{text}");
        }
    }

    #[test]
    fn a_text_and_a_number_are_values_and_others_are_none() {
        let group = |by: &str, value: Value| {
            let headers: Table = [("customer", value)].into_iter().collect();
            let properties = Properties { headers, ..Properties::default() }.encode().unwrap();
            terms(by).group_of(&Message::new(b"", b"", &properties, false, b""))
        };
        let text = group("customer", Value::from("7"));
        assert!(text.is_some());
        assert_eq!(text, group("header:customer", Value::I32(7)));
        assert_ne!(text, group("customer", Value::from("8")));
        for none in [Value::from(""), Value::Bool(true), Value::Void, Value::F64(7.0)] {
            assert_eq!(group("customer", none.clone()), None, "{none:?}");
        }
        assert_eq!(group("other", Value::from("7")), None);
        assert_eq!(group("property:type", Value::from("7")), None);
    }

    #[test]
    fn each_property_is_read() {
        let text = |text: &str| Some(text.into());
        let properties = Properties {
            message_id: text("m"),
            correlation_id: text("c"),
            app_id: text("a"),
            type_: text("t"),
            user_id: text("u"),
            reply_to: text("r"),
            ..Properties::default()
        };
        let message = Message::new(b"", b"", &properties.encode().unwrap(), false, b"");
        let of = |by: &str| terms(by).group_of(&message);
        let names = ["message-id", "correlation-id", "app-id", "type", "user-id", "reply-to"];
        let mut groups: Vec<_> = names.iter().map(|name| of(&format!("property:{name}"))).collect();
        assert!(groups.iter().all(Option::is_some));
        groups.sort_unstable();
        groups.dedup();
        assert_eq!(groups.len(), names.len());
    }
}
