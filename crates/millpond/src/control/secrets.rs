//! What the command line asks about secrets.

use super::{Listing, Rooms, Shown};
use anyhow::Result;
use millpond_broker::AuditObject;
use serde::{Deserialize, Serialize};

/// What may be asked. There is no way to ask for a value.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum SecretRequest {
    /// Put one into the table.
    Set { name: String, value: SecretValue },
    /// The names.
    List,
    /// Take one away.
    Remove { name: String },
}

/// A value, which `Debug` does not tell.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SecretValue(pub(crate) String);

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(...)")
    }
}

/// Does what is asked; what to tell the person.
pub(super) async fn carry_out(request: SecretRequest, rooms: &Rooms) -> Result<Shown> {
    let secrets = rooms.engine.secrets();
    let enter = |operation, name: &str| rooms.broker.audit(operation, AuditObject::named("secret", name), "");
    match request {
        SecretRequest::Set { name, value } => {
            secrets.set(&name, &value.0).await?;
            enter("secret.set", &name);
            Ok(format!("secret {name} is set: ${{secret:{name}}} means it from now on").into())
        }
        SecretRequest::List => {
            let names = secrets.names().into_iter().map(|name| [name.into()]);
            Ok(Listing::new(&["NAME"], "no secrets are set").with(names).into())
        }
        SecretRequest::Remove { name } => {
            secrets.remove(&name).await?;
            enter("secret.cleared", &name);
            Ok(format!("secret {name} is removed").into())
        }
    }
}
