//! Direct reply-to (contract A14).

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::RawProperties;

#[test]
fn a_reply_goes_straight_to_the_requester() {
    let broker = TestBroker::new();
    let mut requester = broker.session();
    let mut server = broker.session();
    server.declare("rpc", "");
    let name = requester.session.open_reply_inbox(3).unwrap();
    assert!(matches!(requester.session.open_reply_inbox(3), Err(ConsumeError::ReplyInboxExists)));
    let mut properties = transient();
    properties.reply_to = Some("amq.rabbitmq.reply-to".into());
    assert!(requester.message("", "rpc", "of another channel", &properties).is_err());
    requester.session.set_reply_channel(Some(3));
    requester.publish_with("", "rpc", &["question"], &properties);
    let question = server.get("rpc", true).unwrap().delivery.message;
    let reply_to = RawProperties::parse(question.properties()).unwrap().reply_to().unwrap().to_vec();
    let reply_to = String::from_utf8(reply_to).unwrap();
    assert_eq!(reply_to, name.as_str());
    assert!(server.session.declare_queue(&queue_request(&reply_to, "p")).is_ok());
    let (message, route) = server.message("", &reply_to, "answer", &transient()).unwrap();
    assert!(!route.is_unroutable());
    server.session.publish(&mut vec![(message, route)]).unwrap();
    requester.wait_events();
    assert!(matches!(&requester.events[..],
        [SessionEvent::Reply { cookie: 3, message }] if message.body() == b"answer"));

    requester.session.close_reply_inbox(3);
    assert!(server.session.declare_queue(&queue_request(&reply_to, "p")).is_err());
    assert!(server.message("", &reply_to, "late", &transient()).unwrap().1.is_unroutable());
    assert!(requester.message("", "rpc", "question", &properties).is_err());
}

#[test]
fn each_channel_has_its_own_reply_inbox() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("rpc", "");
    let names = [1, 2].map(|cookie| client.session.open_reply_inbox(cookie).unwrap());
    let mut properties = transient();
    properties.reply_to = Some("amq.rabbitmq.reply-to".into());
    for (cookie, name) in [1, 2].into_iter().zip(&names) {
        client.session.set_reply_channel(Some(cookie));
        client.publish_with("", "rpc", &["question"], &properties);
        let question = client.get("rpc", true).unwrap().delivery.message;
        let kept = RawProperties::parse(question.properties()).unwrap();
        assert_eq!(kept.reply_to(), Some(name.as_str().as_bytes()));
    }
    client.session.set_reply_channel(Some(3));
    assert!(client.message("", "rpc", "question", &properties).is_err());
}

#[test]
fn a_reply_queue_cannot_be_bound_or_made() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    let name = client.session.open_reply_inbox(1).unwrap();
    for name in [name.as_str(), "amq.rabbitmq.reply-to"] {
        let bound = client.session.bind(&binding("amq.fanout", name, ""));
        assert!(matches!(bound, Err(BindError::ReplyQueue { .. })), "{bound:?}");
    }
    assert!(client.session.declare_queue(&queue_request("amq.rabbitmq.reply-to.no", "")).is_err());
    let other = broker.session();
    drop(client);
    drop(other);
    let mut late = broker.session();
    assert!(late.session.declare_queue(&queue_request(name.as_str(), "p")).is_err());
}
