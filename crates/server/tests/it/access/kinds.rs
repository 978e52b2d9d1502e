//! Who asks: kinds of users, each with a password and with a token that says the same.

use crate::oauth::{Signer, with_scopes};
use millpond_broker::{NewPassword, Permissions, TopicPermission, UserSpec};
use millpond_model::{ExchangeName, UserName, VhostName};
use millpond_testkit::TestServer;

/// A kind of user; its name is its letter.
pub(super) struct Kind {
    pub(super) letter: char,
    tag: &'static str,
    /// Configure, write, read in `/`. Nobody has any in the other vhost.
    permissions: Option<[&'static str; 3]>,
    /// Of a token with the same rights.
    scopes: &'static str,
}

const ALL: Option<[&str; 3]> = Some([".*", ".*", ".*"]);
const OF_ALL: &str = "mill.configure:%2F/* mill.write:%2F/* mill.read:%2F/*";

const fn kind(
    letter: char,
    tag: &'static str,
    permissions: Option<[&'static str; 3]>,
    scopes: &'static str,
) -> Kind {
    Kind { letter, tag, permissions, scopes }
}

/// Small letters have permissions in `/`, great ones have none there.
pub(super) const KINDS: [Kind; 17] = [
    // With all permissions, and each of the tags.
    kind('n', "", ALL, OF_ALL),
    kind('m', "management", ALL, OF_ALL),
    kind('p', "policymaker", ALL, OF_ALL),
    kind('o', "monitoring", ALL, OF_ALL),
    kind('a', "administrator", ALL, OF_ALL),
    // With one permission: configure, write, read; or only the door is open: empty.
    kind('c', "management", Some([".*", "", ""]), "mill.configure:%2F/*"),
    kind('w', "management", Some(["", ".*", ""]), "mill.write:%2F/*"),
    kind('r', "management", Some(["", "", ".*"]), "mill.read:%2F/*"),
    kind('e', "management", Some(["", "", ""]), "mill.read:%2F/of-nothing"),
    // With all permissions, but of the topic exchange `xt` only keys that begin with `a.`.
    kind('t', "management", ALL, "mill.configure:%2F/* mill.write:%2F/*/a.* mill.read:%2F/*/a.*"),
    // With all permissions on queues, which are called q..., or on exchanges, which are called x...
    kind(
        'q',
        "management",
        Some(["^q", "^q", "^q"]),
        "mill.configure:%2F/q* mill.write:%2F/q* mill.read:%2F/q*",
    ),
    kind(
        'x',
        "management",
        Some(["^x", "^x", "^x"]),
        "mill.configure:%2F/x* mill.write:%2F/x* mill.read:%2F/x*",
    ),
    // With a tag alone, and without anything. The token of the latter has rights in a vhost that is not there.
    kind('N', "", None, "mill.read:nowhere/*"),
    kind('M', "management", None, ""),
    kind('P', "policymaker", None, ""),
    kind('O', "monitoring", None, ""),
    kind('A', "administrator", None, ""),
];

/// What somebody is in a vhost where they have no permissions.
pub(super) fn elsewhere(letter: char) -> char {
    match letter {
        'n' | 'N' => 'N',
        'p' | 'P' => 'P',
        'o' | 'O' => 'O',
        'a' | 'A' => 'A',
        _ => 'M',
    }
}

pub(super) const PASSWORD: &str = "p";

impl Kind {
    pub(super) fn token(&self, signer: &Signer) -> String {
        let tag = format!("mill.tag:{}", self.tag);
        let scopes =
            if self.tag.is_empty() { self.scopes.to_owned() } else { format!("{tag} {}", self.scopes) };
        signer.sign(&with_scopes(&self.letter.to_string(), &scopes))
    }

    pub(super) async fn add(&self, server: &TestServer) {
        let broker = server.broker();
        let user = UserName::new(&self.letter.to_string()).unwrap();
        let here = VhostName::new("/").unwrap();
        let spec = UserSpec {
            name: user.clone(),
            password: NewPassword::Plain(PASSWORD.as_bytes().into()),
            tags: Some([self.tag].into_iter().filter(|tag| !tag.is_empty()).map(Into::into).collect()),
        };
        broker.set_user(&spec).unwrap().1.await.unwrap();
        if let Some([configure, write, read]) = self.permissions.map(|all| all.map(Into::into)) {
            let permissions = Permissions { configure, write, read };
            broker.set_permissions(&user, &here, permissions).unwrap().await.unwrap();
        }
        if self.letter == 't' {
            let exchange = ExchangeName::new("xt").unwrap();
            let permission = TopicPermission { exchange, write: "^a\\.".into(), read: "^a\\.".into() };
            broker.set_topic_permission(&user, &here, permission).unwrap().await.unwrap();
        }
    }
}
