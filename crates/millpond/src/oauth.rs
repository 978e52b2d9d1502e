//! OAuth 2 as the settings say.

use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use millpond_server::{Oauth, OauthOptions};
use std::sync::Arc;

/// Reads the keys that the settings name; `None`: there are no tokens.
pub(crate) fn load(settings: &Settings) -> Result<Option<Arc<Oauth>>> {
    let Some(resource_server_id) = settings.oauth_resource_server_id.0.clone() else {
        if settings.oauth_jwks_url.0.is_some() || !settings.oauth_signing_keys.is_empty() {
            bail!("tokens are for somebody: name `oauth_resource_server_id`");
        }
        return Ok(None);
    };
    let options = OauthOptions {
        resource_server_id,
        scope_prefix: settings.oauth_scope_prefix.0.clone(),
        issuer: settings.oauth_issuer.0.clone(),
        jwks_url: settings.oauth_jwks_url.0.clone(),
        signing_keys: settings.oauth_signing_keys.clone(),
        additional_scopes_key: settings.oauth_additional_scopes_key.0.clone(),
        username_claims: settings.oauth_username_claims.0.clone(),
        algorithms: settings.oauth_algorithms.0.clone(),
        clock_skew: settings.oauth_clock_skew,
        client_id: settings.oauth_client_id.0.clone(),
        login_scopes: settings.oauth_scopes.0.clone(),
    };
    Oauth::new(options).map(Some).context("OAuth 2")
}
