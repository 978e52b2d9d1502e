//! What a token (OAuth 2) lets its bearer do: scopes, as RabbitMQ reads them.

use super::{Right, Thing, tag};
use percent_encoding::percent_decode_str;

/// Scopes of one token; more are more than anybody means.
const SCOPES_MAX: usize = 1000;
/// Longest scope. Bytes.
const SCOPE_MAX_BYTES: usize = 1024;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenScopes {
    tags: Vec<Box<str>>,
    scopes: Vec<Scope>,
}

/// `read:VHOST/NAME/KEY`, each with `*` for anything; what is not said is `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    right: Right,
    vhost: String,
    name: String,
    key: String,
}

impl TokenScopes {
    /// Reads scopes that have lost their prefix: `configure:`, `write:`, `read:` with patterns, `tag:` with a tag.
    /// Others are somebody else's and are left out.
    pub fn read<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let mut this = Self::default();
        for scope in scopes.into_iter().take(SCOPES_MAX).filter(|scope| scope.len() <= SCOPE_MAX_BYTES) {
            match scope.split_once(':') {
                Some(("tag", name)) if !name.is_empty() => this.tags.push(name.into()),
                Some((right, patterns)) => this.scopes.extend(Scope::read(right, patterns)),
                None => {}
            }
        }
        this
    }

    /// The tags it gives.
    pub fn tags(&self) -> &[Box<str>] {
        &self.tags
    }

    pub(super) fn enters(&self, vhost: &str) -> bool {
        self.scopes.iter().any(|scope| fits(&scope.vhost, vhost))
    }

    pub(super) fn allow(&self, right: Right, vhost: &str, thing: Thing<'_>) -> bool {
        self.scopes
            .iter()
            .any(|it| it.right == right && fits(&it.vhost, vhost) && fits(&it.name, thing.name()))
    }

    pub(super) fn allow_key(&self, right: Right, vhost: &str, exchange: &str, key: &str) -> bool {
        self.scopes.iter().any(|it| {
            it.right == right && fits(&it.vhost, vhost) && fits(&it.name, exchange) && fits(&it.key, key)
        })
    }

    /// Whether it says nothing of this broker.
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty() && !self.tags.iter().any(|it| tag::ALL.contains(&&**it))
    }
}

impl Scope {
    fn read(right: &str, patterns: &str) -> Option<Self> {
        let right = match right {
            "configure" => Right::Configure,
            "write" => Right::Write,
            "read" => Right::Read,
            _ => return None,
        };
        let mut parts = patterns
            .splitn(3, '/')
            .map(|part| percent_decode_str(part).decode_utf8().ok().map(|text| text.into_owned()));
        let vhost = parts.next()??;
        let mut next = || parts.next().unwrap_or_else(|| Some("*".to_owned()));
        Some(Self { right, vhost, name: next()?, key: next()? })
    }
}

/// `*` is any text, also none; everything else is itself. Linear in the text for each star.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        let cases = [
            ("*", "", true),
            ("*", "a/b", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*b", "abc", false),
            ("a*c", "abc", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "x", true),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn scopes_say_what_may_be_done() {
        let scopes = TokenScopes::read([
            "read:%2F/orders*",
            "write:shop*/x/a.*",
            "configure:*",
            "tag:monitoring",
            "tag:",
            "openid",
            "delete:*/*",
        ]);
        let (queue, exchange) = (Thing::Queue("orders.eu"), Thing::Exchange("x"));
        assert!(scopes.allow(Right::Read, "/", queue) && !scopes.allow(Right::Read, "shop", queue));
        assert!(!scopes.allow(Right::Write, "/", queue) && scopes.allow(Right::Configure, "any", queue));
        assert!(scopes.allow(Right::Write, "shop1", exchange));
        assert!(scopes.allow_key(Right::Write, "shop1", "x", "a.b"));
        assert!(!scopes.allow_key(Right::Write, "shop1", "x", "b.b"));
        assert!(scopes.enters("anything") && !scopes.is_empty());
        assert_eq!(scopes.tags(), ["monitoring".into()]);
        assert!(TokenScopes::read(["openid", "tag:other"]).is_empty());
        assert!(!TokenScopes::read(["read:/x"]).enters("/"));
    }
}
