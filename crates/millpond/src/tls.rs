//! TLS as the settings say, and its certificates as people see them.

use crate::control::{Listing, Shown};
use crate::settings::{Settings, TlsVersion};
use anyhow::{Context, Result, bail};
use millpond_broker::{AuditObject, Broker};
use millpond_server::{ClientCertificates, Tls, TlsError, TlsOptions, TlsStatus};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What may be asked about TLS.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum TlsRequest {
    /// The certificates in use.
    Show,
    /// Read the files again.
    Reload,
}

/// What the settings mean; `None`: no TLS.
pub(crate) fn options(settings: &Settings) -> Result<Option<TlsOptions>> {
    let (certificate, key) = match (&settings.tls_certificate, &settings.tls_key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        (None, None) => {
            if settings.tls_verify != ClientCertificates::None || settings.tls_client_ca.is_some() {
                bail!(
                    "`tls_verify` and `tls_client_ca` mean nothing without `tls_certificate` and `tls_key`"
                );
            }
            return Ok(None);
        }
        _ => bail!("`tls_certificate` and `tls_key` go together: name both"),
    };
    if settings.tls_verify == ClientCertificates::None && settings.tls_client_ca.is_some() {
        bail!("`tls_client_ca` is named, but `tls_verify` = `none` asks no client for a certificate");
    }
    Ok(Some(TlsOptions {
        certificate,
        key,
        client_ca: settings.tls_client_ca.clone(),
        verify: settings.tls_verify,
        only_1_3: settings.tls_min_version == TlsVersion::V1_3,
        login_from: settings.tls_login_from,
    }))
}

/// Reads the files that the settings name.
pub(crate) fn load(settings: &Settings) -> Result<Option<Arc<Tls>>> {
    options(settings)?.map(Tls::load).transpose().context("TLS")
}

/// Reloads at SIGHUP, and when the files change, until the task is dropped.
pub(crate) async fn reload_when_asked(tls: Option<Arc<Tls>>, broker: Broker) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let watching = async {
        match tls.clone() {
            Some(tls) => tls.watch(|reloaded| enter(&broker, "a file changed", reloaded)).await,
            None => std::future::pending().await,
        }
    };
    let asked = async {
        while hangup.recv().await.is_some() {
            match &tls {
                // What is wrong is logged there.
                Some(tls) => enter(&broker, "SIGHUP", &tls.reload()),
                None => tracing::info!("SIGHUP: there are no certificates to reload"),
            }
        }
    };
    tokio::join!(watching, asked);
    Ok(())
}

/// Into the audit log.
fn enter(broker: &Broker, why: &str, reloaded: &Result<TlsStatus, TlsError>) {
    let (operation, detail) = match reloaded {
        Ok(_) => ("tls.reloaded", why.to_owned()),
        Err(error) => ("tls.reload.failed", format!("{why}; the certificates of before stay: {error}")),
    };
    broker.audit(operation, AuditObject::named("tls", ""), &detail);
}

/// Does what is asked.
pub(crate) fn carry_out(ask: &TlsRequest, tls: Option<&Arc<Tls>>, broker: &Broker) -> Result<Shown> {
    let tls = tls.context("this broker has no TLS: see `tls_certificate` in the settings")?;
    match ask {
        TlsRequest::Show => Ok(show(&tls.status()).into()),
        TlsRequest::Reload => {
            let reloaded = tls.reload();
            enter(broker, "asked for", &reloaded);
            reloaded.context("nothing is changed")?;
            Ok("reloaded: new connections get these certificates".to_owned().into())
        }
    }
}

fn show(status: &TlsStatus) -> Listing {
    let soon = status.expire_within(SOON);
    let rows = status.certificates.iter().map(|it| {
        let state = if soon.contains(&it) { "ends soon" } else { "ok" };
        [
            it.what.into(),
            it.subject.as_str().into(),
            it.issuer.as_str().into(),
            it.validity().into(),
            state.into(),
        ]
    });
    let trouble = status.trouble.as_ref().map(|trouble| {
        ["files".into(), "".into(), "".into(), "".into(), format!("not in use: {trouble}").into()]
    });
    Listing::new(&["WHAT", "SUBJECT", "ISSUER", "VALIDITY", "STATE"], "").with(rows.chain(trouble))
}

/// A certificate that ends within this time is worth a word.
pub(crate) const SOON: Duration = Duration::from_secs(14 * 86_400);
