//! The contracts, told by lapin: confirms and returns as futures, consumers as streams, many channels used
//! from many tasks. The tests need a broker at `$AMQP_URL` and say that they were skipped when it is not set.

use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, ConnectionProperties, ExchangeKind};
use millpond_conformance::*;

#[tokio::test]
async fn c3_a_client_without_limits_gets_2047_channels_frames_of_131072_bytes_and_heartbeat_60() -> Outcome {
    let Some(url) = address("C3") else { return Ok(()) };
    let connection = connect(&url).await?;
    let tuned = connection.configuration();
    assert_eq!((tuned.channel_max(), tuned.frame_max(), tuned.heartbeat()), (2047, 131_072, 60));
    Ok(())
}

#[tokio::test]
async fn c7_a_wrong_password_is_refused_with_403() -> Outcome {
    let Some(url) = address("C7") else { return Ok(()) };
    let wrong = url.replacen("guest:guest@", "guest:wrong@", 1);
    assert_eq!(reply_code(&connect(&wrong).await), Some(403));
    Ok(())
}

#[tokio::test]
async fn c9_an_unknown_vhost_is_refused_with_530() -> Outcome {
    let Some(url) = address("C9") else { return Ok(()) };
    assert_eq!(reply_code(&connect(&format!("{url}/no-such-vhost")).await), Some(530));
    Ok(())
}

#[tokio::test]
async fn c10_update_secret_is_acknowledged() -> Outcome {
    let Some(url) = address("C10") else { return Ok(()) };
    let connection = connect(&url).await?;
    connection.update_secret("guest".into(), "rotation".into()).await?;
    queue(&connection.create_channel().await?).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_is_a_password_with_the_rights_of_its_scopes() -> Outcome {
    let (Some(url), Ok(dir)) = (address("tokens"), std::env::var("TLS_DIR")) else { return Ok(()) };
    let token = std::fs::read_to_string(format!("{dir}/token"))?;
    let connection = connect(&url.replacen("guest:guest@", &format!("any:{token}@"), 1)).await?;
    let channel = confirm_channel(&connection).await?;
    let name = queue(&channel).await?;
    publish(&channel, "", &name, b"hello").await?;
    assert_eq!(drain(&channel, &name).await?, ["hello"]);
    let refused =
        channel.queue_declare("of-somebody-else".into(), Default::default(), FieldTable::default()).await;
    assert_eq!(reply_code(&refused), Some(403));
    Ok(())
}

#[tokio::test]
async fn c12_fifty_connections_with_four_channels_each_work_at_once() -> Outcome {
    let Some(url) = address("C12") else { return Ok(()) };
    let mut work = Vec::new();
    for _ in 0..50 {
        let url = url.clone();
        work.push(tokio::spawn(async move {
            let properties = ConnectionProperties::default().with_connection_name("conformance".into());
            let connection = lapin::Connection::connect(&url, properties).await?;
            for _ in 0..4 {
                let channel = confirm_channel(&connection).await?;
                let name = queue(&channel).await?;
                publish(&channel, "", &name, b"hello").await?;
                assert_eq!(drain(&channel, &name).await?, ["hello"]);
                channel.close(200, "done".into()).await?;
            }
            connection.close(200, "done".into()).await
        }));
    }
    for one in work {
        one.await??;
    }
    Ok(())
}

#[tokio::test]
async fn d2_a_passive_declare_of_something_missing_is_404_and_only_its_channel_dies() -> Outcome {
    let Some(url) = address("D2") else { return Ok(()) };
    let connection = connect(&url).await?;
    let bystander = connection.create_channel().await?;
    let doomed = connection.create_channel().await?;
    assert_eq!(reply_code(&counts(&doomed, &unique("missing")).await), Some(404));
    assert!(!doomed.status().connected());
    assert!(bystander.status().connected() && connection.status().connected());
    queue(&bystander).await?;
    Ok(())
}

#[tokio::test]
async fn d2_a_redeclare_that_differs_is_406_and_an_exclusive_queue_of_another_connection_405() -> Outcome {
    let Some(url) = address("D2") else { return Ok(()) };
    let owner = connect(&url).await?;
    let name = queue(&owner.create_channel().await?).await?;
    let differs = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let channel = owner.create_channel().await?;
    let refused = channel.queue_declare(name.clone(), differs, FieldTable::default()).await;
    assert_eq!(reply_code(&refused), Some(406));
    let stranger = connect(&url).await?.create_channel().await?;
    assert_eq!(reply_code(&counts(&stranger, &name).await), Some(405));
    Ok(())
}

#[tokio::test]
async fn d13_topic_patterns_and_exchange_bindings_lead_to_the_queue() -> Outcome {
    let Some(url) = address("D13") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = confirm_channel(&connection).await?;
    let (first, second) =
        (exchange(&channel, ExchangeKind::Topic).await?, exchange(&channel, ExchangeKind::Fanout).await?);
    let name = queue(&channel).await?;
    let none = FieldTable::default;
    let options = ExchangeBindOptions::default();
    channel.exchange_bind(second.clone(), first.clone(), "order.#".into(), options, none()).await?;
    channel.queue_bind(name.clone(), second, "".into(), QueueBindOptions::default(), none()).await?;
    for key in ["order", "order.placed", "invoice.sent", "order.placed.eu"] {
        publish(&channel, first.as_str(), &key.into(), key.as_bytes()).await?;
    }
    assert_eq!(drain(&channel, &name).await?, ["order", "order.placed", "order.placed.eu"]);
    Ok(())
}

#[tokio::test]
async fn p1_the_confirm_of_a_publish_to_a_missing_exchange_fails_with_404() -> Outcome {
    let Some(url) = address("P1") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = confirm_channel(&connection).await?;
    let confirmed = publish(&channel, unique("missing").as_str(), &"key".into(), b"lost").await;
    assert_eq!(reply_code(&confirmed), Some(404));
    assert!(connection.status().connected());
    Ok(())
}

#[tokio::test]
async fn p4_a_mandatory_message_nobody_takes_comes_back_with_its_confirm() -> Outcome {
    let Some(url) = address("P4") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = confirm_channel(&connection).await?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_message_id("m-1".into());
    let confirm =
        channel.basic_publish("".into(), unique("nobody"), options, b"come back", properties).await?;
    let confirmation = confirm.await?;
    assert!(confirmation.is_ack());
    let returned = confirmation.take_message().ok_or("the ack came before the return")?;
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(returned.data, b"come back");
    assert_eq!(returned.properties.message_id().as_ref().map(ShortString::as_str), Some("m-1"));
    Ok(())
}

#[tokio::test]
async fn p5_ten_thousand_confirms_awaited_after_the_last_publish_all_resolve() -> Outcome {
    let Some(url) = address("P5") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = confirm_channel(&connection).await?;
    let name = queue(&channel).await?;
    let mut confirms = Vec::new();
    for n in 0..10_000_u32 {
        let properties = BasicProperties::default().with_delivery_mode(if n % 2 == 0 { 2 } else { 1 });
        let options = BasicPublishOptions::default();
        confirms.push(
            channel.basic_publish("".into(), name.clone(), options, &n.to_be_bytes(), properties).await?,
        );
    }
    for confirm in confirms {
        assert!(confirm.await?.is_ack());
    }
    assert_eq!(counts(&channel, &name).await?, (10_000, 0));
    Ok(())
}

#[tokio::test]
async fn p5_sixteen_channels_of_one_connection_publish_and_consume_at_once() -> Outcome {
    let Some(url) = address("P5") else { return Ok(()) };
    let connection = std::sync::Arc::new(connect(&url).await?);
    let name = queue(&connection.create_channel().await?).await?;
    let mut work = Vec::new();
    for _ in 0..16 {
        let (connection, name) = (std::sync::Arc::clone(&connection), name.clone());
        work.push(tokio::spawn(async move {
            let channel = confirm_channel(&connection).await?;
            channel.basic_qos(10, BasicQosOptions::default()).await?;
            for n in 0..100_u32 {
                publish(&channel, "", &name, &n.to_be_bytes()).await?;
            }
            let mut consumer = consume(&channel, &name, false).await?;
            // Every channel takes as many as it published: together that is all there is.
            for _ in 0..100 {
                let delivery = consumer.next().await.ok_or(lapin::ErrorKind::FutureCompleted)??;
                delivery.ack(BasicAckOptions::default()).await?;
            }
            channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
            channel.close(200, "done".into()).await
        }));
    }
    for one in work {
        one.await??;
    }
    assert_eq!(counts(&connection.create_channel().await?, &name).await?, (0, 0));
    Ok(())
}

#[tokio::test]
async fn p7_a_transaction_is_all_or_nothing_for_other_channels() -> Outcome {
    let Some(url) = address("P7") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = connection.create_channel().await?;
    let observer = connection.create_channel().await?;
    let name = queue(&channel).await?;
    channel.tx_select().await?;
    publish(&channel, "", &name, b"rolled back").await?;
    channel.tx_rollback().await?;
    publish(&channel, "", &name, b"one").await?;
    publish(&channel, "", &name, b"two").await?;
    assert_eq!(counts(&observer, &name).await?, (0, 0));
    channel.tx_commit().await?;
    assert_eq!(drain(&observer, &name).await?, ["one", "two"]);
    Ok(())
}

#[tokio::test]
async fn p5_bodies_and_headers_arrive_as_they_were_sent() -> Outcome {
    let Some(url) = address("P5") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = confirm_channel(&connection).await?;
    let name = queue(&channel).await?;
    let mut headers = FieldTable::default();
    headers.insert("text".into(), AMQPValue::LongString("水車".into()));
    headers.insert("short".into(), AMQPValue::ShortInt(-2));
    headers.insert("unsigned".into(), AMQPValue::LongUInt(4_000_000_000));
    headers.insert("long".into(), AMQPValue::LongLongInt(i64::MIN));
    headers.insert("double".into(), AMQPValue::Double(0.1));
    headers.insert("time".into(), AMQPValue::Timestamp(1_700_000_000));
    headers.insert("nothing".into(), AMQPValue::Void);
    headers.insert("list".into(), AMQPValue::FieldArray(vec![AMQPValue::Boolean(true)].into()));
    for size in [0_usize, 1, 131_064, 131_065, 3_000_000] {
        let body: Vec<u8> = (0..size).map(|n| (n % 253) as u8).collect();
        let properties = BasicProperties::default().with_headers(headers.clone()).with_priority(3);
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), name.clone(), options, &body, properties.clone()).await?.await?;
        let got =
            channel.basic_get(name.clone(), BasicGetOptions { no_ack: true }).await?.ok_or("no message")?;
        assert!(got.data == body, "a body of {size} bytes was changed");
        assert_eq!(got.properties, properties);
    }
    Ok(())
}

#[tokio::test]
async fn a1_acking_a_tag_twice_ends_the_channel_with_406() -> Outcome {
    let Some(url) = address("A1") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = confirm_channel(&connection).await?;
    let name = queue(&channel).await?;
    publish(&channel, "", &name, b"once").await?;
    let mut consumer = consume(&channel, &name, false).await?;
    let tag = take(&mut consumer, 1).await?[0].delivery_tag;
    channel.basic_ack(tag, BasicAckOptions::default()).await?;
    channel.basic_ack(tag, BasicAckOptions::default()).await?;
    let end = consumer.next().await.ok_or("the stream ended without saying why")?;
    assert_eq!(reply_code(&end), Some(406));
    Ok(())
}

#[tokio::test]
async fn a2_prefetch_bounds_what_a_stream_is_given() -> Outcome {
    let Some(url) = address("A2") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = confirm_channel(&connection).await?;
    let name = queue(&channel).await?;
    for n in 0..10 {
        publish(&channel, "", &name, n.to_string().as_bytes()).await?;
    }
    channel.basic_qos(4, BasicQosOptions::default()).await?;
    let mut consumer = consume(&channel, &name, false).await?;
    let first = take(&mut consumer, 4).await?;
    assert_eq!(counts(&channel, &name).await?, (6, 1));
    first[3].ack(BasicAckOptions { multiple: true }).await?;
    let second = take(&mut consumer, 4).await?;
    assert_eq!(counts(&channel, &name).await?, (2, 1));
    assert_eq!(
        bodies(&first.into_iter().chain(second).collect::<Vec<_>>()),
        ["0", "1", "2", "3", "4", "5", "6", "7"]
    );
    Ok(())
}

#[tokio::test]
async fn a7_deleting_the_queue_ends_the_stream_and_leaves_the_channel_open() -> Outcome {
    let Some(url) = address("A7") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = connection.create_channel().await?;
    let name = queue(&channel).await?;
    let mut consumer = consume(&channel, &name, false).await?;
    let other = connection.create_channel().await?;
    other.queue_delete(name, QueueDeleteOptions::default()).await?;
    assert!(consumer.next().await.is_none());
    assert!(channel.status().connected());
    queue(&channel).await?;
    Ok(())
}

#[tokio::test]
async fn a8_nacked_messages_come_back_in_place_and_redelivered() -> Outcome {
    let Some(url) = address("A8") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = confirm_channel(&connection).await?;
    let name = queue(&channel).await?;
    for body in ["one", "two", "three"] {
        publish(&channel, "", &name, body.as_bytes()).await?;
    }
    let mut consumer = consume(&channel, &name, false).await?;
    let first = take(&mut consumer, 3).await?;
    assert!(first.iter().all(|delivery| !delivery.redelivered));
    first[0].nack(BasicNackOptions { requeue: true, multiple: false }).await?;
    first[1].reject(BasicRejectOptions { requeue: false }).await?;
    let again = take(&mut consumer, 1).await?;
    assert_eq!((bodies(&again), again[0].redelivered), (vec!["one".to_owned()], true));
    channel.close(200, "done".into()).await?;
    let fresh = connection.create_channel().await?;
    assert_eq!(drain(&fresh, &name).await?, ["one", "three"]);
    Ok(())
}

#[tokio::test]
async fn a9_recover_hands_out_again_all_that_is_unacked() -> Outcome {
    let Some(url) = address("A9") else { return Ok(()) };
    let connection = connect(&url).await?;
    let channel = confirm_channel(&connection).await?;
    let name = queue(&channel).await?;
    for body in ["one", "two"] {
        publish(&channel, "", &name, body.as_bytes()).await?;
    }
    let mut consumer = consume(&channel, &name, false).await?;
    take(&mut consumer, 2).await?;
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await?;
    let again = take(&mut consumer, 2).await?;
    assert_eq!(bodies(&again), ["one", "two"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
    Ok(())
}

#[tokio::test]
async fn a14_a_call_over_direct_reply_to_is_answered() -> Outcome {
    let Some(url) = address("A14") else { return Ok(()) };
    let connection = connect(&url).await?;
    let server = connection.create_channel().await?;
    let service = queue(&server).await?;
    let mut requests = consume(&server, &service, true).await?;
    let client = connection.create_channel().await?;
    let reply_to = ShortString::from("amq.rabbitmq.reply-to");
    let mut replies = consume(&client, &reply_to, true).await?;
    let asking = BasicProperties::default().with_reply_to(reply_to.clone()).with_correlation_id("c-1".into());
    client.basic_publish("".into(), service, BasicPublishOptions::default(), b"mill", asking).await?.await?;
    let request = take(&mut requests, 1).await?.pop().ok_or("no request came")?;
    let address = request.properties.reply_to().clone().ok_or("the request names no reply address")?;
    assert!(address.as_str().starts_with("amq.rabbitmq.reply-to."), "{address}");
    let correlation =
        request.properties.correlation_id().clone().ok_or("the request has no correlation id")?;
    let properties = BasicProperties::default().with_correlation_id(correlation);
    server
        .basic_publish("".into(), address, BasicPublishOptions::default(), b"pond", properties)
        .await?
        .await?;
    let reply = take(&mut replies, 1).await?.pop().ok_or("no reply came")?;
    assert_eq!(reply.data, b"pond");
    assert_eq!(reply.properties.correlation_id().as_ref().map(ShortString::as_str), Some("c-1"));
    Ok(())
}
