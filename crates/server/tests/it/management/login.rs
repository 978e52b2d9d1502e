//! Logins by cookie, as the web console's.

use super::*;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const OURS: (&str, &str) = ("X-Requested-With", "console");

async fn plain(server: &TestServer, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    receive(send(server, line, headers, body).await).await
}

/// The pair that a browser would send back.
fn cookie_of(answer: &Answer) -> String {
    answer.header("Set-Cookie").unwrap().split(';').next().unwrap().to_owned()
}

async fn log_in(server: &TestServer) -> String {
    let answer = plain(server, "POST /api/login", &[FORM], "username=guest&password=guest").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    cookie_of(&answer)
}

#[tokio::test]
async fn a_cookie_stands_for_user_and_password() {
    let server = TestServer::start().await;
    let body = r#"{"username":"guest","password":"guest"}"#;
    let answer = plain(&server, "POST /api/login", &[JSON], body).await;
    assert_eq!(answer.body, r#"{"name":"guest","tags":["administrator"]}"#);
    let set = answer.header("Set-Cookie").unwrap();
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = cookie_of(&answer);
    let other = format!("a=b; {cookie}; c=d");
    for cookie in [&cookie, &other] {
        let answer = plain(&server, "GET /api/whoami", &[("Cookie", cookie)], "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let ended = plain(&server, "DELETE /api/login", &[("Cookie", &cookie)], "").await;
    assert_eq!(ended.status, 204);
    assert!(ended.header("Set-Cookie").unwrap().contains("Max-Age=0"));
    let answer = plain(&server, "GET /api/whoami", &[("Cookie", &cookie)], "").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("WWW-Authenticate"), None, "the page asks, not the browser");
}

#[tokio::test]
async fn a_cookie_changes_nothing_for_another_sites_page() {
    let server = TestServer::start().await;
    let cookie = log_in(&server).await;
    let cookie = ("Cookie", cookie.as_str());
    let line = "PUT /api/queues/%2F/q";
    let answer = plain(&server, line, &[cookie], "{}").await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.body.contains("X-Requested-With"), "{}", answer.body);
    let missing = plain(&server, "GET /api/queues/%2F/q", &[cookie], "").await;
    assert_eq!(missing.status, 404);
    let answer = plain(&server, line, &[cookie, OURS], "{}").await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    // Events have the same door.
    let bus = ask(&server, "PUT /api/exchanges/%2F/millpond.events", &[], r#"{"type":"x-events"}"#).await;
    assert_eq!(bus.status, 201, "{}", bus.body);
    let event = ("Content-Type", "application/cloudevents+json");
    let body = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    for (headers, status) in [(&[cookie, event][..], 403), (&[cookie, event, OURS], 202)] {
        let answer = plain(&server, "POST /events", headers, body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    let elsewhere = ("Sec-Fetch-Site", "cross-site");
    let answer = plain(&server, "POST /api/login", &[FORM, elsewhere], "username=guest&password=guest").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn a_cookie_ends_when_its_user_is_another() {
    let server = TestServer::start().await;
    let put = r#"{"password":"secret","tags":"management"}"#;
    // Request, and whether the login holds afterwards.
    let table = [
        ("PUT /api/permissions/%2F/u", r#"{"configure":"","write":"","read":""}"#, true),
        ("PUT /api/users/u", r#"{"password":"other","tags":"management"}"#, false),
        ("PUT /api/users/u", r#"{"password":"secret","tags":"monitoring"}"#, false),
        ("DELETE /api/users/u", "", false),
    ];
    for (line, body, holds) in table {
        ask(&server, "PUT /api/users/u", &[], put).await;
        let answer = plain(&server, "POST /api/login", &[FORM], "username=u&password=secret").await;
        let cookie = cookie_of(&answer);
        let answer = ask(&server, line, &[], body).await;
        assert!(answer.status < 300, "{line}: {}", answer.body);
        // As if it had never been gone.
        ask(&server, "PUT /api/users/u", &[], if holds { "" } else { put }).await;
        let answer = plain(&server, "GET /api/whoami", &[("Cookie", &cookie)], "").await;
        assert_eq!(answer.status, if holds { 200 } else { 401 }, "{line} {body}: {}", answer.body);
    }
}

#[tokio::test]
async fn logins_that_are_none_are_refused() {
    let server = TestServer::start().await;
    ask(&server, "PUT /api/users/nobody", &[], r#"{"password":"p","tags":""}"#).await;
    let table: &[((&str, &str), &str, u16)] = &[
        (FORM, "username=guest&password=wrong", 401),
        (FORM, "username=nobody&password=p", 401),
        (FORM, "username=guest", 400),
        (FORM, "", 400),
        (JSON, r#"{"username":"guest"}"#, 400),
        (JSON, "username=guest&password=guest", 400),
        (FORM, "username=g%75est&password=g%75est", 200),
    ];
    for (kind, body, status) in table {
        let answer = plain(&server, "POST /api/login", &[*kind], body).await;
        assert_eq!(answer.status, *status, "{body}: {}", answer.body);
        assert_eq!(answer.header("WWW-Authenticate"), None, "{body}");
        assert_eq!(answer.header("Set-Cookie").is_some(), *status == 200, "{body}");
    }
    // A page's own requests make no browser ask.
    let answer = plain(&server, "GET /api/whoami", &[OURS], "").await;
    assert_eq!((answer.status, answer.header("WWW-Authenticate")), (401, None));
    let answer = plain(&server, "GET /api/whoami", &[], "").await;
    assert!(answer.header("WWW-Authenticate").is_some());
}
