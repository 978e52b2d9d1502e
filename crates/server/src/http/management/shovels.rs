//! `/api/shovels`: how shovels are. What they are is parameters of the component `shovel`.

use super::listing::Listing;
use super::{Answer, Asker, Shared, missing, vhost_name};
use crate::http::commit::saved;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{delete, get};
use axum::{Json, Router};
use millpond_broker::Operation;
use millpond_model::VhostName;
use serde_json::Value;

/// The component whose parameters are shovels.
pub(super) const SHOVEL: &str = "shovel";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/shovels", get(list))
        .route("/shovels/{vhost}", get(list_in))
        .route("/shovels/{vhost}/{name}", get(one).delete(remove))
        // As RabbitMQ's pages ask for them.
        .route("/shovels/vhost/{vhost}/{name}", get(one).delete(remove))
        .route("/shovels/vhost/{vhost}/{name}/restart", delete(restart))
}

fn states(asker: &Asker, vhost: Option<&VhostName>) -> Result<Vec<Value>, crate::http::refusal::Refusal> {
    let states = asker.may(Operation::SeeAll)?.parameter_states(SHOVEL);
    Ok(states.into_iter().filter(|(of, _)| vhost.is_none_or(|vhost| vhost == of)).map(|it| it.1).collect())
}

async fn list(asker: Asker, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(states(&asker, None)?)
}

async fn list_in(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(states(&asker, Some(&vhost_name(&vhost)?))?)
}

async fn one(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    let found = states(&asker, Some(&vhost_name(&vhost)?))?.into_iter().find(|it| it["name"] == *name);
    Ok(Json(found.ok_or_else(missing)?).into_response())
}

async fn remove(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    saved(asker.administer()?.clear_parameter(Some(&vhost_name(&vhost)?), SHOVEL, &name)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn restart(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    match asker.administer()?.restart_parameter(SHOVEL, &vhost_name(&vhost)?, &name) {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(missing()),
    }
}
