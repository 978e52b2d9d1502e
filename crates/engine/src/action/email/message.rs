//! A mail as the server gets it.

use super::EmailStep;
use aws_lc_rs::digest::{SHA256, digest};
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};

/// A longer key is left out of the headers; its fingerprint is in the message id. Bytes.
const KEY_MAX_BYTES: usize = 900;

/// Bytes of a fingerprint that a message id shows.
const FINGERPRINT_BYTES: usize = 16;

impl EmailStep {
    /// The same id at every attempt, so that the receiving side can tell a repetition.
    pub(super) fn message_id(&self, from: &Mailbox) -> String {
        let digest = digest(&SHA256, self.step_id.as_bytes());
        let shown: String =
            digest.as_ref().iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect();
        format!("<{shown}@{}>", from.email.domain())
    }

    /// The whole mail; or why it cannot be made.
    pub(super) fn message(&self, from: &Mailbox) -> Result<Message, String> {
        let mut builder = Message::builder()
            .from(from.clone())
            .subject(&self.subject)
            .message_id(Some(self.message_id(from)));
        for mailbox in &self.to {
            builder = builder.to(mailbox.clone());
        }
        for mailbox in &self.cc {
            builder = builder.cc(mailbox.clone());
        }
        for mailbox in &self.bcc {
            builder = builder.bcc(mailbox.clone());
        }
        for mailbox in &self.reply_to {
            builder = builder.reply_to(mailbox.clone());
        }
        if self.step_id.len() <= KEY_MAX_BYTES {
            let name = HeaderName::new_from_ascii_str("Idempotency-Key");
            builder = builder.raw_header(HeaderValue::new(name, self.step_id.clone()));
        }
        for (name, value) in &self.headers {
            let name = HeaderName::new_from_ascii(name.to_string())
                .map_err(|_| format!("'{name}' cannot be a header's name"))?;
            builder = builder.raw_header(HeaderValue::new(name, value.clone()));
        }
        let made = match (self.content(), self.attachments.as_slice()) {
            (Content::Single(part), []) => builder.singlepart(part),
            (Content::Multi(part), []) => builder.multipart(part),
            (content, attachments) => {
                let mixed = MultiPart::mixed();
                let mixed = match content {
                    Content::Single(part) => mixed.singlepart(part),
                    Content::Multi(part) => mixed.multipart(part),
                };
                builder.multipart(attachments.iter().fold(mixed, |mixed, attached| {
                    let attachment = Attachment::new(attached.name.clone());
                    mixed.singlepart(attachment.body(attached.body.clone(), attached.content_type.clone()))
                }))
            }
        };
        made.map_err(|error| error.to_string())
    }

    fn content(&self) -> Content {
        match (&self.text, &self.html) {
            (Some(text), Some(html)) => {
                Content::Multi(MultiPart::alternative_plain_html(text.clone(), html.clone()))
            }
            (None, Some(html)) => Content::Single(SinglePart::html(html.clone())),
            (text, None) => Content::Single(SinglePart::plain(text.clone().unwrap_or_default())),
        }
    }
}

enum Content {
    Single(SinglePart),
    Multi(MultiPart),
}
