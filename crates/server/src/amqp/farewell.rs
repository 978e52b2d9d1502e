//! The end of a connection: what was said is written, the other side is heard out for a limited time.

use super::outbox::Outbox;
use super::reply::Fault;
use crate::tls::Wire;
use millpond_amqp_codec::{FrameKind, FrameReader, Method, connection};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Answers the client's connection.close.
pub(super) async fn answer(mut socket: Wire, mut out: Outbox, limit: Duration) {
    Method::from(connection::CloseOk {}).encode(0, out.buffer());
    // Nobody is left to tell if the client is gone already.
    let _ = timeout(limit, async {
        out.write_all(&mut socket).await?;
        socket.shutdown().await?;
        // Some clients still write on other channels.
        drain(&mut socket).await
    })
    .await;
}

/// Sends connection.close and waits for close-ok; `unread` is what was read before and not taken.
pub(super) async fn close(
    socket: &mut Wire,
    mut out: Outbox,
    unread: Vec<u8>,
    fault: &Fault,
    limit: Duration,
) {
    put_close(&mut out, fault);
    let _ = timeout(limit, async {
        out.write_all(socket).await?;
        await_close_ok(socket, unread).await?;
        socket.shutdown().await?;
        drain(socket).await
    })
    .await;
}

/// Closes without a word, or after `words` that are no frames.
pub(super) async fn hang_up(socket: &mut Wire, words: &[u8], limit: Duration) {
    let _ = timeout(limit, async {
        socket.write_all(words).await?;
        socket.shutdown().await?;
        drain(socket).await
    })
    .await;
}

/// connection.close for a fault.
fn put_close(out: &mut Outbox, fault: &Fault) {
    let (class_id, method_id) = fault.method;
    let reply_code = fault.code.code();
    Method::from(connection::Close { reply_code, reply_text: &fault.text, class_id, method_id })
        .encode(0, out.buffer());
}

/// Reads until the client has nothing more to say. A socket closed with unread bytes would be reset, and what was
/// written last be lost on its way.
async fn drain(socket: &mut Wire) -> std::io::Result<()> {
    let mut block = [0; 1024];
    while socket.read(&mut block).await? > 0 {}
    Ok(())
}

/// All but close and close-ok is ignored. Bytes that are no frames may follow a frame error; then the end of the
/// socket is waited for.
async fn await_close_ok(socket: &mut Wire, mut unread: Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut reader = FrameReader::new(&unread, 0);
        loop {
            match reader.next() {
                Ok(Some(frame)) if frame.kind == FrameKind::Method && frame.channel == 0 => {
                    match Method::decode(frame.payload) {
                        Ok(Method::ConnectionCloseOk(_)) => return Ok(()),
                        Ok(Method::ConnectionClose(_)) => {
                            let mut answer = Vec::new();
                            Method::from(connection::CloseOk {}).encode(0, &mut answer);
                            return socket.write_all(&answer).await;
                        }
                        _ => {}
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Ok(()),
            }
        }
        let taken = reader.consumed();
        unread.drain(..taken);
        if unread.len() > UNREAD_MAX_BYTES {
            return Ok(());
        }
        let mut block = [0; 1024];
        let read = socket.read(&mut block).await?;
        if read == 0 {
            return Ok(());
        }
        unread.extend_from_slice(&block[..read]);
    }
}

/// A frame larger than this is not waited for at the end. Bytes.
const UNREAD_MAX_BYTES: usize = 1024 * 1024;
