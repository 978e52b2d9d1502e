//! Short messages and calls, against a real HTTP server that answers as a provider does.

use crate::support::*;
use millpond_engine::check;

/// A provider with a form, as Twilio has it.
fn topology(url: &str, action: &str) -> String {
    format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
providers:
  phone:
    sms:
      endpoint: {url}/2010-04-01/Accounts/AC1/Messages.json
      basic_auth: {{user: AC1, password: '${{secret:phone}}'}}
      form: {{To: '\(.to)', From: '+15005550006', Body: '\(.text)', Key: '${{secret:phone}}'}}
      idempotency_header: I-Twilio-Idempotency-Token
      expect: 201
      accepted: .body.error_code == null
      id: .body.sid
    voice:
      endpoint: {url}/calls
      headers: {{authorization: 'Bearer ${{secret:phone}}'}}
      body: '{{to: .to, say: .text, play: .audio_url}}'
rules:
  call:
    on: {{queue: in}}
    do:
      - {action}
      - publish: {{exchange: "", routing_key: out}}
    retry: {{max_attempts: 2, first: 1ms}}
"#
    )
}

const SMS: &str = r#"sms: {provider: phone, to: '\(.data.phone)', text: 'Code \(.data.code)'}"#;

async fn engine(url: &str, action: &str) -> TestEngine {
    let it = TestEngine::with(&topology(url, action)).await;
    it.engine.secrets().set("phone", "s3cr3t-phone").await.unwrap();
    it
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_message_is_a_form_with_a_login_and_a_key() {
    let mut server = Server::start(&[r#"201 Json {"sid": "SM1", "error_code": null}"#]).await;
    let it = engine(&server.url, SMS).await;
    let mut client = it.client();
    let properties = millpond_model::properties::Properties { message_id: Some("m1".into()), ..persistent() };
    client.publish_with("", "in", br#"{"phone": "+4915112345678", "code": "4 & 2"}"#, &properties).await;
    let request = server.request().await;
    assert!(request.head.starts_with("POST /2010-04-01/Accounts/AC1/Messages.json "), "{}", request.head);
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.header("authorization"), Some("Basic QUMxOnMzY3IzdC1waG9uZQ=="));
    assert_eq!(request.header("i-twilio-idempotency-token"), Some("m1/call/0"));
    let body = "To=%2B4915112345678&From=%2B15005550006&Body=Code+4+%26+2&Key=s3cr3t-phone";
    assert_eq!(request.body, body);
    client.get("out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_asked_for_with_json() {
    let mut server = Server::start(&["200 OK"]).await;
    let action = r#"voice: {to: '\(.data.phone)', audio_url: 'https://example.com/a.mp3'}"#;
    let it = engine(&server.url, action).await;
    it.client().publish("", "in", r#"{"phone": "+4915112345678"}"#).await;
    let request = server.request().await;
    assert_eq!(request.header("authorization"), Some("Bearer s3cr3t-phone"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.body, r#"{"play":"https://example.com/a.mp3","say":null,"to":"+4915112345678"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_refuses_is_parked_at_once_and_what_it_cannot_now_is_tried_again() {
    for (answers, attempts, expected) in [
        (
            &[r#"201 Json {"sid": null, "error_code": 30003, "echo": "s3cr3t-phone"}"#][..],
            "1",
            r#"provider 'phone': it does not accept: {"echo":"${secret:phone}","error_code":30003,"sid":null}"#,
        ),
        (&[r#"400 Json {"message": "no such number"}"#][..], "1", "it answers 400: {\\\"message\\\""),
        (&["503 No"][..], "2", "the answer is 503, expected 201"),
    ] {
        let server = Server::start(answers).await;
        let it = engine(&server.url, SMS).await;
        let mut client = it.client();
        client.publish("", "in", r#"{"phone": "+4915112345678", "code": 1}"#).await;
        let parked = client.get("call.failed").await;
        let error = parked.header("x-millpond-error").unwrap();
        assert!(error.contains(expected), "{error}");
        assert_eq!(parked.header("x-millpond-attempts").as_deref(), Some(attempts), "{error}");
        assert_eq!(client.ready("out"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_international_or_nothing_is_sent() {
    let server = Server::start(&["201 Created"]).await;
    let it = engine(&server.url, SMS).await;
    let mut client = it.client();
    for phone in
        ["0151 12345678", "+0151123456", "+49 151 1", "+123456", "+1234567890123456", "+49151x234567"]
    {
        client.publish("", "in", &format!(r#"{{"phone": "{phone}", "code": 1}}"#)).await;
        let error = client.get("call.failed").await.header("x-millpond-error").unwrap();
        assert!(error.contains("expected a number such as +4915112345678 (E.164)"), "{error}");
    }
}

#[test]
fn mistakes_in_providers_are_shown() {
    let table = [
        ("sms: {provider: fone, to: '+4915112345678', text: x}", "found 'fone', expected phone"),
        ("sms: {to: '0151', text: x}", "do[0].sms.to: found '0151', expected a number"),
        ("sms: {to: '+4915112345678'}", "found no 'text'"),
        (
            "voice: {to: '+4915112345678', text: x, audio_url: http://x/}",
            "expected one of 'text' and 'audio_url'",
        ),
        ("voice: {to: '+4915112345678', txt: x}", "found the unknown key 'txt'"),
    ];
    for (action, expected) in table {
        let error = check("t.yaml", &topology("http://x", action)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let text = topology("http://x", SMS).replace("endpoint: http://x/calls", "endpoint: ftp://x/calls");
    let error = check("t.yaml", &text).unwrap_err().to_string();
    assert!(error.contains("providers.phone.voice.endpoint: found 'ftp://x/calls'"), "{error}");
    let without = topology("http://x", SMS).replace("    sms:", "    smz:");
    let error = check("t.yaml", &without).unwrap_err().to_string();
    assert!(error.contains("expected one of sms or voice; did you mean 'sms'?"), "{error}");
    assert!(error.contains("which has none that could do it"), "{error}");
}
