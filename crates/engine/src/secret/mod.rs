//! Secrets: what a topology file names and never holds. See docs/guide/secrets.md.
//!
//! A text that may have secrets says `${env:NAME}`, `${file:PATH}` or `${secret:NAME}`; what is meant is looked up
//! when the text is used, so that a changed secret needs no apply. Until then a [`SecretText`] knows the references
//! only. What was looked up is a [`Hidden`], which shows itself to nobody that does not ask by name, and a [`Scrub`]
//! takes it out of what others answer.

mod key;
mod table;
mod text;

pub use key::KeyError;
pub use table::{SecretError, Secrets};
pub(crate) use text::{Hidden, Scrub, SecretTemplate, SecretText};

/// Longest value of a secret, wherever it comes from. Bytes.
pub const SECRET_MAX_BYTES: usize = 64 * 1024;
