//! How the values of settings are written.

use millpond_server::{CertificateName, ClientCertificates};
use millpond_store::SyncMode;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type that a setting may have.
pub(crate) trait SettingValue: Sized {
    /// What a value looks like, for help.
    const SHAPE: &'static str;
    /// Whether it may be given several times.
    const REPEATS: bool = false;

    /// Reads one value; the error says what was expected.
    fn parse(text: &str) -> Result<Self, String>;

    /// Reads all values given.
    fn parse_all(values: &[String]) -> Result<Self, String> {
        match values {
            [one] => Self::parse(one),
            _ => Err(format!("takes one value, not {}", values.len())),
        }
    }
}

/// A number of bytes, written as `4096`, `64KiB`, `16MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

impl SettingValue for Share {
    const SHAPE: &'static str = "SHARE";
    fn parse(text: &str) -> Result<Self, String> {
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        share.map(Self).ok_or_else(|| format!("must be a share from 0 to 1, not `{text}`"))
    }
}

/// `always`, `os` or an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyncSetting(pub(crate) SyncMode);

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl SettingValue for LogFormat {
    const SHAPE: &'static str = "text|json";
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("must be text or json, not `{text}`")),
        }
    }
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    V1_2,
    V1_3,
}

macro_rules! one_of {
    ($kind:ty, $shape:literal, $($word:literal => $value:expr),+) => {
        impl SettingValue for $kind {
            const SHAPE: &'static str = $shape;
            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($value),)+
                    _ => Err(format!("must be one of {}, not `{text}`", $shape.replace('|', ", "))),
                }
            }
        }
    };
}
one_of!(TlsVersion, "1.2|1.3", "1.2" => Self::V1_2, "1.3" => Self::V1_3);
one_of!(
    ClientCertificates, "none|optional|required",
    "none" => Self::None, "optional" => Self::Optional, "required" => Self::Required
);
one_of!(
    CertificateName, "distinguished_name|common_name|subject_alternative_name",
    "distinguished_name" => Self::DistinguishedName, "common_name" => Self::CommonName,
    "subject_alternative_name" => Self::SubjectAlternativeName
);

/// A text, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) Option<String>);

/// Some texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl SettingValue for Word {
    const SHAPE: &'static str = "TEXT";
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("must be a text, not empty".to_owned())
        } else {
            Ok(Self(Some(text.to_owned())))
        }
    }
    fn parse_all(values: &[String]) -> Result<Self, String> {
        match values {
            [] => Ok(Self(None)),
            [one] => Self::parse(one),
            _ => Err(format!("takes one value, not {}", values.len())),
        }
    }
}

impl SettingValue for Words {
    const SHAPE: &'static str = "TEXT";
    const REPEATS: bool = true;
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(vec![text.to_owned()]))
    }
    fn parse_all(values: &[String]) -> Result<Self, String> {
        Ok(Self(values.to_vec()))
    }
}

impl SettingValue for PathBuf {
    const SHAPE: &'static str = "PATH";
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("must be a path, not empty".to_owned()) } else { Ok(text.into()) }
    }
}

impl SettingValue for Option<PathBuf> {
    const SHAPE: &'static str = "PATH";
    fn parse(text: &str) -> Result<Self, String> {
        PathBuf::parse(text).map(Some)
    }
    fn parse_all(values: &[String]) -> Result<Self, String> {
        values.first().map_or(Ok(None), |text| Self::parse(text))
    }
}

impl SettingValue for Vec<PathBuf> {
    const SHAPE: &'static str = "PATH";
    const REPEATS: bool = true;
    fn parse(text: &str) -> Result<Self, String> {
        match text.starts_with('/') {
            true => Ok(vec![text.into()]),
            false => Err(format!("must be an absolute path such as /usr/local/bin/tool, not `{text}`")),
        }
    }
    fn parse_all(values: &[String]) -> Result<Self, String> {
        let parsed: Result<Vec<Self>, String> = values.iter().map(|text| Self::parse(text)).collect();
        Ok(parsed?.concat())
    }
}

impl SettingValue for String {
    const SHAPE: &'static str = "TEXT";
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl SettingValue for SocketAddr {
    const SHAPE: &'static str = "ADDR:PORT";
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("must be an address and port such as 127.0.0.1:5672, not `{text}`"))
    }
}

impl SettingValue for Vec<SocketAddr> {
    const SHAPE: &'static str = "ADDR:PORT";
    const REPEATS: bool = true;
    fn parse(text: &str) -> Result<Self, String> {
        Ok(vec![SocketAddr::parse(text)?])
    }
    fn parse_all(values: &[String]) -> Result<Self, String> {
        values.iter().map(|text| SocketAddr::parse(text)).collect()
    }
}

impl SettingValue for bool {
    const SHAPE: &'static str = "true|false";
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("must be true or false, not `{text}`"))
    }
}

macro_rules! whole_number {
    ($($kind:ty),+) => {$(
        impl SettingValue for $kind {
            const SHAPE: &'static str = "N";
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("must be a whole number up to {}, not `{text}`", Self::MAX))
            }
        }
    )+};
}
whole_number!(u16, usize);

impl SettingValue for ByteSize {
    const SHAPE: &'static str = "SIZE";
    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit: u64 = match &text[digits.len()..] {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(format!("must be a size such as 4096, 64KiB, 16MiB or 1GiB, not `{text}`")),
        };
        let number: Option<u64> = digits.parse().ok();
        let size = number.and_then(|number| number.checked_mul(unit));
        size.map(ByteSize)
            .ok_or_else(|| format!("must be a size such as 4096, 64KiB, 16MiB or 1GiB, not `{text}`"))
    }
}

/// A share of the machine's memory, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Watermark {
    Share(f64),
    Bytes(u64),
}

impl SettingValue for Watermark {
    const SHAPE: &'static str = "SHARE|SIZE";
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(share) = text.parse().ok().filter(|share| (0.0..=1.0).contains(share)) {
            return Ok(Self::Share(share));
        }
        let size = ByteSize::parse(text).map(|size| Self::Bytes(size.0));
        size.map_err(|_| {
            format!(
                "must be a share of the machine's memory from 0 to 1, or a size such as 4GiB, not `{text}`"
            )
        })
    }
}

impl SettingValue for Duration {
    const SHAPE: &'static str = "TIME";
    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let wrong = || format!("must be a time such as 200ms, 10s or 5m, not `{text}`");
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let unit_ms = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
    }
}

impl SettingValue for SyncSetting {
    const SHAPE: &'static str = "always|os|TIME";
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self(SyncMode::Always)),
            "os" => Ok(Self(SyncMode::Os)),
            _ => match Duration::parse(text) {
                Ok(interval) if !interval.is_zero() => Ok(Self(SyncMode::Interval(interval))),
                _ => Err(format!("must be always, os or an interval such as 200ms, not `{text}`")),
            },
        }
    }
}
