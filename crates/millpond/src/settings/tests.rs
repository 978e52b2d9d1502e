use super::{ByteSize, SETTINGS, Settings, load, table};
use std::time::Duration;

/// Loads a file's text, an environment and flags; errors as a person reads them, with the file called FILE.
fn check(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &[&str])],
) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("millpond.toml");
    std::fs::write(&path, file).unwrap();
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flags: Vec<_> =
        flags.iter().map(|(k, v)| (*k, v.iter().map(|v| (*v).to_owned()).collect())).collect();
    let loaded = load(Some(&path), &environment, &flags);
    loaded.map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
}

#[test]
fn every_default_is_a_valid_value() {
    let settings = check("", &[], &[]).unwrap();
    assert_eq!(settings.amqp_listen.len(), 2);
    assert_eq!(settings.message_size_max, ByteSize(16 << 20));
    assert_eq!(settings.heartbeat, Duration::from_secs(60));
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let file = "channels_max = 1\nwal_segments_max = 1\nworker_threads = 1\namqp_listen = [\"127.0.0.1:1\"]";
    let environment = [("MILLPOND_WAL_SEGMENTS_MAX", "2"), ("MILLPOND_WORKER_THREADS", "2"), ("HOME", "x")];
    let settings = check(file, &environment, &[("worker_threads", &["3"])]).unwrap();
    assert_eq!((settings.channels_max, settings.wal_segments_max, settings.worker_threads), (1, 2, 3));
    assert_eq!(settings.amqp_listen, ["127.0.0.1:1".parse().unwrap()]);
}

#[test]
fn a_list_in_the_environment_is_separated_by_commas() {
    let settings = check("", &[("MILLPOND_AMQP_LISTEN", "127.0.0.1:1, [::1]:2")], &[]).unwrap();
    assert_eq!(settings.amqp_listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
}

#[test]
fn errors_name_the_place_the_value_and_the_way_out() {
    let error = |file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &[&str])]| {
        check(file, environment, flags).unwrap_err()
    };
    assert_eq!(
        error("data_dri = \"x\"", &[], &[]),
        "FILE: `data_dri` is not a setting; did you mean `data_dir`?"
    );
    assert_eq!(
        error("", &[("MILLPOND_SNYC", "os")], &[]),
        "environment: `MILLPOND_SNYC` is not a setting; did you mean `MILLPOND_SYNC`?"
    );
    assert_eq!(
        error("", &[], &[("sync", &["sometimes"])]),
        "command line: `--sync` must be always, os or an interval such as 200ms, not `sometimes`"
    );
    assert_eq!(
        error("message_size_max = \"16MB\"", &[], &[]),
        "FILE: `message_size_max` must be a size such as 4096, 64KiB, 16MiB or 1GiB, not `16MB`"
    );
    assert_eq!(
        error("channels_max = 70000", &[], &[]),
        "FILE: `channels_max` must be a whole number up to 65535, not `70000`"
    );
    assert!(error("= 1", &[], &[]).starts_with("FILE: TOML parse error at line 1"));
}

#[test]
fn the_guide_lists_every_setting_as_it_is() {
    let guide = include_str!("../../../../docs/guide/settings.md");
    assert!(
        guide.contains(&table()),
        "docs/guide/settings.md is stale: paste what `millpond settings` prints"
    );
    assert!(SETTINGS.iter().all(|setting| guide.contains(&setting.variable())));
}
