//! Message records: what goes in comes out, also by way of a disk.

use millpond_model::Message;

#[test]
fn a_record_says_when_it_was_published_and_reads_back_the_same() {
    let table: [(u64, &[u8], &[u8]); 4] = [
        (0, b"", b""),
        (0, &[0, 0], b"body"),
        (1, &[0, 0], b""),
        (1_700_000_000_123, &[0x01, 0x00, 1, b'5'], b"b"),
    ];
    for (now_ms, properties, body) in table {
        let message = Message::published_at(now_ms, b"ex", b"key", properties, true, body);
        let again = Message::from_record(message.record().clone()).unwrap();
        for message in [message, again] {
            assert_eq!(message.published_ms(), (now_ms != 0).then_some(now_ms));
            assert_eq!((message.exchange(), message.routing_key()), (&b"ex"[..], &b"key"[..]));
            assert_eq!((message.properties(), message.body()), (properties, body));
            assert_eq!(message.body_size_bytes(), body.len());
            assert_eq!(message.has_expiration(), properties.first() == Some(&1));
            assert!(message.is_persistent());
        }
    }
}

#[test]
fn a_record_cut_anywhere_before_its_body_is_refused() {
    let message = Message::published_at(7, b"ex", b"key", &[0, 0], false, b"");
    let whole = message.record().len();
    for cut in 0..whole {
        assert!(Message::from_record(message.record().slice(..cut)).is_err(), "cut at {cut}");
    }
    assert!(Message::from_record(message.record().clone()).is_ok());
}
