//! The management API, as RabbitMQ's clients ask it. What a real RabbitMQ answered to the same requests is what the
//! tables here expect, but for the texts of reasons.

mod audit;
mod definitions;
mod explain;
mod lists;
mod live;
mod login;
mod messages;
mod node;
mod operations;
mod statistics;
mod topology;
mod users;
mod waiting;

use crate::http::*;
use millpond_testkit::TestServer;
use serde_json::Value;

/// Request, body, status, and a part of the answer.
type Step = (&'static str, &'static str, u16, &'static str);

async fn walk(server: &TestServer, steps: &[Step]) {
    for (line, body, status, part) in steps {
        let answer = ask(server, line, &[], body).await;
        assert_eq!(answer.status, *status, "{line} {body}: {}", answer.body);
        assert!(answer.body.contains(part), "{line} {body}: {}", answer.body);
    }
}

async fn get(server: &TestServer, path: &str) -> Value {
    let answer = ask(server, &format!("GET /api{path}"), &[], "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}
