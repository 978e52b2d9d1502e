//! Lines appended to files, rotated by size.
//!
//! One task takes what all rules want appended, batch by batch, to a thread that may block. A batch writes the lines
//! of each file in the order they were submitted, with one write, and syncs each file once before anybody is told:
//! a line is on the disk before the message that caused it is acked.

use super::FileStep;
use crate::action::{ActionError, Answer};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, oneshot};

/// Lines written in one go, at most.
const BATCH_MAX: usize = 1024;

struct Append {
    step: FileStep,
    done: oneshot::Sender<Result<(), ActionError>>,
}

/// Takes lines; cloning counts a reference. What waits is bounded by the messages rules may have in hand.
#[derive(Debug, Clone)]
pub(crate) struct FileWriter(mpsc::UnboundedSender<Append>);

impl FileWriter {
    /// Starts the writer; relative paths are under `base`.
    pub(crate) fn start(base: PathBuf) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(run(base, receiver));
        Self(sender)
    }

    /// Submits a line; lines of one file are written in the order of these calls. Its result says when it is on the
    /// disk.
    pub(crate) fn append(&self, step: FileStep) -> impl Future<Output = Answer> + use<> {
        let gone = ActionError::File {
            place: step.place.clone(),
            path: step.path.clone(),
            reason: "the writer of files has ended".to_owned(),
        };
        let (done, appended) = oneshot::channel();
        // Without a writer `done` is dropped, which is what the receiver is told.
        let _ = self.0.send(Append { step, done });
        async move { appended.await.unwrap_or(Err(gone)).map(|()| Value::Null) }
    }
}

async fn run(base: PathBuf, mut waiting: mpsc::UnboundedReceiver<Append>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let taken = std::mem::take(&mut batch);
        let base = base.clone();
        // An aborted or panicked write drops its senders, so its lines count as failed.
        let _ = tokio::task::spawn_blocking(move || write_batch(&base, taken)).await;
    }
}

fn write_batch(base: &Path, batch: Vec<Append>) {
    let mut places: HashMap<PathBuf, usize> = HashMap::new();
    let mut files: Vec<(PathBuf, Vec<Append>)> = Vec::new();
    for append in batch {
        // Joining an absolute path gives that path.
        let path = base.join(&append.step.path);
        let place = *places.entry(path.clone()).or_insert_with(|| {
            files.push((path, Vec::new()));
            files.len() - 1
        });
        files[place].1.push(append);
    }
    for (path, appends) in files {
        let result = append_all(&path, &appends).map_err(|error| error.to_string());
        for Append { step, done } in appends {
            let result = result.clone().map_err(|reason| ActionError::File {
                place: step.place,
                path: path.display().to_string(),
                reason,
            });
            // A rule that was stopped meanwhile asks no more.
            let _ = done.send(result);
        }
    }
}

/// Appends lines to one file; all are on the disk, or it is an error and some may be.
fn append_all(path: &Path, appends: &[Append]) -> io::Result<()> {
    let mut open: Option<(File, u64)> = None;
    let mut buffer = Vec::new();
    for Append { step, .. } in appends {
        let (mut file, mut size) = match open.take() {
            Some(open) => open,
            None => open_for_append(path)?,
        };
        let line_size = step.line.len() as u64 + 1;
        if size > 0 && size + line_size > step.size_max_bytes {
            finish(&mut file, &mut buffer)?;
            drop(file);
            rotate(path, step.keep)?;
            (file, size) = open_for_append(path)?;
        }
        buffer.extend_from_slice(step.line.as_bytes());
        buffer.push(b'\n');
        open = Some((file, size + line_size));
    }
    match open {
        Some((mut file, _)) => finish(&mut file, &mut buffer),
        None => Ok(()),
    }
}

/// Writes and syncs what is buffered; a part of it is taken back, so that no line is torn.
fn finish(file: &mut File, buffer: &mut Vec<u8>) -> io::Result<()> {
    if buffer.is_empty() {
        return Ok(());
    }
    let before = file.metadata()?.len();
    let written = file.write_all(buffer);
    buffer.clear();
    if let Err(error) = written {
        // If this fails too, the next line begins behind a line end of its own.
        let _ = file.set_len(before);
        return Err(error);
    }
    file.sync_data()
}

/// Opens a file for appending, with its folders; its size. A last line without its end, torn by a crash, gets one.
fn open_for_append(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.append(true).read(true).create(true);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let file = options.open(path)?;
            sync_folder(path)?;
            file
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok((file, 0));
    }
    let mut size = metadata.len();
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(size - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

/// `path.1` becomes `path.2`..., `path` becomes `path.1`; the last of `keep` goes.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let old = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..keep).rev() {
        match std::fs::rename(old(number), old(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, old(1))?;
    sync_folder(path)
}

/// Makes a new or changed name durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}
