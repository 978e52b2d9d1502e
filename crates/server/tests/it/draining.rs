//! The end in order: what clients hold is settled before the server stops.

use super::health::get;
use millpond_amqp_codec::{basic, confirm};
use millpond_broker::QueueInfo;
use millpond_model::{QueueName, VhostName};
use millpond_testkit::{Client, Event, TestServer};

/// Comes back when the drain has reached everybody.
async fn has_begun(server: &TestServer) {
    while queue(server).consumers > 0 || tokio::net::TcpStream::connect(server.amqp()).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

fn queue(server: &TestServer) -> QueueInfo {
    let (vhost, queue) = (VhostName::new("/").unwrap(), QueueName::new("q").unwrap());
    server.broker().queue(&vhost, &queue).unwrap().unwrap()
}

async fn holding(server: &TestServer) -> Client {
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q", true).await;
    client.consume(1, "q", "c", false).await;
    // delivery-mode 2.
    let to = basic::Publish { routing_key: b"q", ..Default::default() };
    client.publish(1, to, &[0x10, 0, 2], b"first").await;
    assert_eq!(client.expect_delivery().await, (1, false, b"first".to_vec()));
    client
}

#[tokio::test]
async fn a_client_that_holds_nothing_is_told_at_once_and_the_server_ends() {
    let mut server = TestServer::start().await;
    let mut idle = Client::connect(server.amqp()).await;
    server.drain();
    let text = idle.expect_close(320).await;
    assert!(text.contains("drain"), "{text}");
    drop(idle);
    server.ended().await;
}

#[tokio::test]
async fn a_consumer_settles_what_it_holds_and_gets_nothing_new() {
    let mut server = TestServer::start().await;
    let mut worker = holding(&server).await;
    server.drain();
    has_begun(&server).await;
    let ready = get(&server, "/health/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("drains"), "{ready}");
    // What comes of the work is published before its ack, and goes to a queue without a delivery.
    worker.send(1, confirm::Select::default()).await;
    worker.expect("confirm.select-ok").await;
    worker.publish_to(1, "q", b"result").await;
    assert!(matches!(worker.event().await, Event::Ack { tag: 1, .. }));
    worker.send(1, basic::Ack { delivery_tag: 1, multiple: false }).await;
    worker.expect_close(320).await;
    drop(worker);
    server.ended().await;
    assert_eq!((queue(&server).ready, queue(&server).unacked), (1, 0));
}

#[tokio::test]
async fn what_is_not_settled_in_time_goes_back() {
    let server = TestServer::start().await;
    let mut worker = holding(&server).await;
    server.drain();
    let gone = async move { worker.expect_close(320).await };
    let (server, _) = tokio::join!(server.restart(), gone);
    let mut after = Client::connect(server.amqp()).await;
    after.open_channel(1).await;
    after.consume(1, "q", "c", false).await;
    assert_eq!(after.expect_delivery().await.2, b"first");
}

#[tokio::test]
async fn a_new_consumer_of_a_client_that_still_works_starves() {
    let server = TestServer::start().await;
    let mut worker = holding(&server).await;
    server.drain();
    has_begun(&server).await;
    worker.publish_to(1, "q", b"second").await;
    worker.consume(1, "q", "late", false).await;
    worker.expect_nothing(1).await;
    worker.send(1, basic::Get { queue: "q", ..Default::default() }).await;
    worker.expect("basic.get-empty").await;
}
