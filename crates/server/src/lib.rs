//! Listeners and front ends: AMQP 0-9-1 for any RabbitMQ client, HTTP for everything else; both with TLS or without.
//!
//! A front end turns bytes into the broker's operations and its events back into bytes. It knows no queue type
//! and no disk. [`Server::bind`] takes the addresses, so that they can be shown before anything is served;
//! [`Server::run`] serves until it is told to stop.

mod amqp;
mod engine_door;
mod http;
mod listener;
mod login;
mod oauth;
mod options;
mod progress;
mod stop;
mod tls;
pub mod transfers;

pub use engine_door::{
    ChooseRequest, Chosen, EngineAnswer, EngineChoice, EngineDoor, EngineRefused, EngineReplay,
    EngineRequest, RuleChange,
};
pub use http::{Api, ApiAnswer, ApiError, ApiRequest, DefinitionsError, load_definitions};
pub use listener::{BindError, Server};
pub use oauth::{Oauth, OauthError, OauthOptions, TokenError};
pub use options::{AmqpOptions, HttpOptions, ServerOptions};
pub use progress::Progress;
pub use stop::{StopHandle, StopSignal, stop_pair};
pub use tls::{CertificateInfo, CertificateName, ClientCertificates, Tls, TlsError, TlsOptions, TlsStatus};
