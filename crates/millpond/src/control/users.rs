//! What the command line asks about users.

use super::{Listing, SecretValue, Shown};
use anyhow::{Result, bail};
use millpond_broker::{Broker, NewPassword, Permissions, TopicPermission, UserInfo, UserSpec};
use millpond_model::{ExchangeName, UserName, VhostName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What may be asked. There is no way to ask for a password.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum UserRequest {
    /// All of them.
    List,
    /// One.
    Show { user: String },
    /// Add one; `None`: no password lets it in.
    Add { user: String, password: Option<SecretValue>, tags: Vec<String> },
    /// Change a password.
    Password { user: String, password: Option<SecretValue> },
    /// Change tags.
    Tags { user: String, tags: Vec<String> },
    /// Delete one.
    Delete { user: String },
    /// Set permissions.
    Allow { user: String, vhost: String, permissions: PermissionText },
    /// Clear permissions.
    Forbid { user: String, vhost: String },
    /// Set topic permissions.
    AllowTopic { user: String, vhost: String, exchange: String, write: String, read: String },
    /// Clear topic permissions; `None`: of all exchanges.
    ForbidTopic { user: String, vhost: String, exchange: Option<String> },
}

/// Patterns.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PermissionText {
    pub(crate) configure: String,
    pub(crate) write: String,
    pub(crate) read: String,
}

/// Does what is asked; what to tell the person.
pub(super) async fn carry_out(request: UserRequest, broker: &Broker) -> Result<Shown> {
    match request {
        UserRequest::List => Ok(list(broker).into()),
        other => change(other, broker).await.map(Shown::from),
    }
}

/// Everything but [`UserRequest::List`].
async fn change(request: UserRequest, broker: &Broker) -> Result<String> {
    match request {
        UserRequest::Show { user } => Ok(show(&broker.user(&UserName::new(&user)?)?)),
        UserRequest::Add { user, password, tags } => {
            if broker.user(&UserName::new(&user)?).is_ok() {
                bail!("there is a user '{user}' already: change its password, tags or permissions");
            }
            set(broker, &user, new_password(password), Some(tags)).await?;
            let next = format!("millpond users allow {user}");
            Ok(format!("user {user} is added; it may do nothing in any vhost until you say so: {next}"))
        }
        UserRequest::Password { user, password } => {
            broker.user(&UserName::new(&user)?)?;
            set(broker, &user, new_password(password), None).await?;
            Ok(format!("the password of {user} is changed; connections that are open stay"))
        }
        UserRequest::Tags { user, tags } => {
            broker.user(&UserName::new(&user)?)?;
            set(broker, &user, NewPassword::AsBefore, Some(tags)).await?;
            Ok(show(&broker.user(&UserName::new(&user)?)?))
        }
        UserRequest::Delete { user } => {
            broker.delete_user(&UserName::new(&user)?)?.await?;
            Ok(format!("user {user} is deleted, its connections are closed"))
        }
        other => change_permissions(broker, other).await,
    }
}

async fn change_permissions(broker: &Broker, request: UserRequest) -> Result<String> {
    let named =
        |user: &str, vhost: &str| Ok::<_, anyhow::Error>((UserName::new(user)?, VhostName::new(vhost)?));
    let user = match request {
        UserRequest::Allow { user, vhost, permissions } => {
            let PermissionText { configure, write, read } = permissions;
            let permissions =
                Permissions { configure: configure.into(), write: write.into(), read: read.into() };
            let (user, vhost) = named(&user, &vhost)?;
            broker.set_permissions(&user, &vhost, permissions)?.await?;
            user
        }
        UserRequest::Forbid { user, vhost } => {
            let (user, vhost) = named(&user, &vhost)?;
            broker.clear_permissions(&user, &vhost)?.await?;
            user
        }
        UserRequest::AllowTopic { user, vhost, exchange, write, read } => {
            let (user, vhost) = named(&user, &vhost)?;
            let exchange = ExchangeName::new(&exchange)?;
            let permission = TopicPermission { exchange, write: write.into(), read: read.into() };
            broker.set_topic_permission(&user, &vhost, permission)?.await?;
            user
        }
        UserRequest::ForbidTopic { user, vhost, exchange } => {
            let (user, vhost) = named(&user, &vhost)?;
            let exchange = exchange.as_deref().map(ExchangeName::new).transpose()?;
            broker.clear_topic_permissions(&user, &vhost, exchange.as_ref())?.await?;
            user
        }
        _ => bail!("no request about permissions"),
    };
    Ok(show(&broker.user(&user)?))
}

fn new_password(password: Option<SecretValue>) -> NewPassword {
    password.map_or(NewPassword::None, |password| NewPassword::Plain(password.0.into_bytes().into()))
}

/// Hashing takes tens of milliseconds, which the control socket can spare and a network thread cannot.
async fn set(broker: &Broker, user: &str, password: NewPassword, tags: Option<Vec<String>>) -> Result<()> {
    let tags = tags.map(|tags| tags.into_iter().filter(|tag| !tag.is_empty()).map(String::into).collect());
    let spec = UserSpec { name: UserName::new(user)?, password, tags };
    let broker = broker.clone();
    let (_, saved) = tokio::task::spawn_blocking(move || broker.set_user(&spec)).await??;
    Ok(saved.await?)
}

fn tag_list(user: &UserInfo) -> String {
    if user.tags.is_empty() { "-".to_owned() } else { user.tags.join(",") }
}

fn list(broker: &Broker) -> Listing {
    let rows = broker.list_users();
    let rows = rows.iter().map(|user| {
        let vhosts: Vec<&str> = user.permissions.iter().map(|(vhost, _)| vhost.as_str()).collect();
        let tags: Vec<&str> = user.tags.iter().map(AsRef::as_ref).collect();
        [user.name.to_string().into(), tags.into(), vhosts.into()]
    });
    Listing::new(&["USER", "TAGS", "VHOSTS"], "no users").with(rows)
}

fn show(user: &UserInfo) -> String {
    let mut lines = vec![
        format!("user      {}", user.name),
        format!("tags      {}", tag_list(user)),
        format!("password  {}", user.hash.as_ref().map_or("none", |(algorithm, _)| algorithm.as_str())),
    ];
    let row = |of: String, texts: [&str; 3]| {
        let shown = texts.map(|text| if text.is_empty() { "(nothing)".to_owned() } else { text.to_owned() });
        let [configure, write, read] = shown.map(Value::from);
        [of.into(), configure, write, read]
    };
    let mut rows: Vec<_> = (user.permissions.iter())
        .map(|(vhost, it)| row(format!("vhost {vhost}"), [&it.configure, &it.write, &it.read]))
        .collect();
    rows.extend(
        user.topic_permissions.iter().map(|(vhost, it)| {
            row(format!("topics of {} in {vhost}", it.exchange), ["-", &it.write, &it.read])
        }),
    );
    lines.push(match rows.is_empty() {
        true => format!("it may do nothing in any vhost: millpond users allow {}", user.name),
        false => Listing::new(&["MAY", "CONFIGURE", "WRITE", "READ"], "").with(rows).to_table(),
    });
    lines.join("\n")
}
