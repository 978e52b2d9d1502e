//! Where settings come from: defaults, then the file, then the environment, then flags.

use super::{SETTINGS, Settings};
use std::path::{Path, PathBuf};

/// Why settings cannot be used. Names the place, so that a person knows where to look.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why, with the line for a syntax error.
        reason: String,
    },
    /// A key that is none.
    #[error("{place}: `{key}` is not a setting; did you mean `{nearest}`?")]
    Unknown {
        /// File or environment.
        place: String,
        /// As written.
        key: String,
        /// The known one most like it, written the same way.
        nearest: String,
    },
    /// A value that cannot be used.
    #[error("{place}: `{key}` {reason}")]
    BadValue {
        /// File, environment or command line.
        place: String,
        /// As written there.
        key: String,
        /// What is wrong, with the value.
        reason: String,
    },
}

/// The files looked for when no `--config` is given; the first that exists is read. The second is the package's.
const DEFAULT_FILES: [&str; 2] = ["millpond.toml", "/etc/millpond/millpond.toml"];
const VARIABLE_PREFIX: &str = "MILLPOND_";
/// The variable for `--config`; it names the file and so is not a setting in it.
const CONFIG_VARIABLE: &str = "MILLPOND_CONFIG";

/// The file that settings are read from, if there is one.
pub(crate) fn file(config: Option<&Path>, environment: &[(String, String)]) -> Option<PathBuf> {
    let named = || environment.iter().find(|(name, _)| name == CONFIG_VARIABLE).map(|(_, path)| path.into());
    let found = || DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.exists());
    config.map(Path::to_owned).or_else(named).or_else(found)
}

/// Settings from all places. `flags` holds what the command line gave: key and values.
pub(crate) fn load(
    config: Option<&Path>,
    environment: &[(String, String)],
    flags: &[(&'static str, Vec<String>)],
) -> Result<Settings, SettingsError> {
    let built_in =
        |reason| SettingsError::BadValue { place: "default".into(), key: "settings".into(), reason };
    let mut settings = Settings::defaults().map_err(built_in)?;
    if let Some(path) = file(config, environment) {
        from_file(&mut settings, &path)?;
    }
    from_environment(&mut settings, environment)?;
    for (key, values) in flags {
        set(&mut settings, "command line", &format!("--{}", key.replace('_', "-")), key, values)?;
    }
    Ok(settings)
}

fn from_file(settings: &mut Settings, path: &Path) -> Result<(), SettingsError> {
    let wrong = |reason: String| SettingsError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let place = path.display().to_string();
    for (key, value) in &table {
        known(&place, key, key.clone(), str::to_owned)?;
        let values = match value {
            toml::Value::Array(values) => values.iter().map(plain).collect(),
            other => vec![plain(other)],
        };
        set(settings, &place, key, key, &values)?;
    }
    Ok(())
}

fn plain(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn from_environment(settings: &mut Settings, environment: &[(String, String)]) -> Result<(), SettingsError> {
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(VARIABLE_PREFIX).filter(|_| name != CONFIG_VARIABLE) else {
            continue;
        };
        let key = key.to_lowercase();
        let written = |key: &str| format!("{VARIABLE_PREFIX}{}", key.to_uppercase());
        known("environment", &key, name.clone(), written)?;
        let repeats = SETTINGS.iter().any(|setting| setting.key == key && setting.repeats);
        let values: Vec<String> = match repeats {
            true => value.split(',').map(|value| value.trim().to_owned()).collect(),
            false => vec![value.clone()],
        };
        set(settings, "environment", name, &key, &values)?;
    }
    Ok(())
}

fn known(
    place: &str,
    key: &str,
    shown: String,
    written: impl Fn(&str) -> String,
) -> Result<(), SettingsError> {
    if SETTINGS.iter().any(|setting| setting.key == key) {
        return Ok(());
    }
    let distance = |setting: &&super::Setting| strsim::damerau_levenshtein(setting.key, key);
    let nearest = SETTINGS.iter().min_by_key(distance).map_or("", |setting| setting.key);
    Err(SettingsError::Unknown { place: place.to_owned(), key: shown, nearest: written(nearest) })
}

fn set(
    settings: &mut Settings,
    place: &str,
    shown: &str,
    key: &str,
    values: &[String],
) -> Result<(), SettingsError> {
    settings.set(key, values).map_err(|reason| SettingsError::BadValue {
        place: place.to_owned(),
        key: shown.to_owned(),
        reason,
    })
}
