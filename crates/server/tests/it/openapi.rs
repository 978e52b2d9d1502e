//! The description of what there is over HTTP is neither short of a route nor ahead of them.

use crate::http::*;
use millpond_testkit::TestServer;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// `GET /api/queues/{}`: which names the parameters have does not matter.
pub(crate) fn line(method: &str, path: &str) -> String {
    let parts: Vec<_> = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
    format!("{} {}", method.to_uppercase(), parts.join("/"))
}

/// What follows `.route(`, up to its end.
fn calls(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, begin) in source.match_indices(".route(") {
        let call = &source[at + begin.len()..];
        // Sessions have a `route` too.
        if !call.trim_start().starts_with('"') {
            continue;
        }
        let mut depth = 1;
        let end = call.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        found.push(&call[..end.expect("a call ends")]);
    }
    found
}

/// The routes that the sources have.
fn routes(dir: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = if matches!(&*name, "management" | "openapi") { "/api" } else { "" };
            routes(&path, inner, found);
            continue;
        }
        // The console is files.
        if !name.ends_with(".rs") || name == "console.rs" {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for call in calls(&source) {
            let route = call.split('"').nth(1).unwrap();
            let methods = ["get", "put", "post", "delete"].into_iter().filter(|method| {
                let is_whole = |at: usize| !call[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                call.match_indices(&format!("{method}(")).any(|(at, _)| is_whole(at))
            });
            let path = format!("{prefix}{route}");
            found.extend(methods.map(|method| line(method, if path == "/api/" { "/api" } else { &path })));
        }
    }
}

pub(crate) async fn document(server: &TestServer) -> Value {
    let answer = ask(server, "GET /api/openapi.json", &[], "").await;
    assert_eq!(answer.status, 200);
    answer.json()
}

#[tokio::test]
async fn every_route_is_described_and_everything_described_is_a_route() {
    let server = TestServer::start().await;
    let mut there = BTreeSet::new();
    routes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"), "", &mut there);
    let document = document(&server).await;
    let mut told = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        told.extend(methods.as_object().unwrap().keys().map(|method| line(method, path)));
    }
    let missing: Vec<_> = there.difference(&told).collect();
    assert!(missing.is_empty(), "not in src/http/openapi/endpoints.txt: {missing:#?}");
    let gone: Vec<_> = told.difference(&there).collect();
    assert!(gone.is_empty(), "in src/http/openapi/endpoints.txt, and no route: {gone:#?}");
}

#[tokio::test]
async fn what_is_described_is_answered_by_the_running_server() {
    let server = TestServer::start().await;
    for (path, methods) in document(&server).await["paths"].as_object().unwrap() {
        let concrete: Vec<_> =
            path.split('/').map(|part| if part.starts_with('{') { "1" } else { part }).collect();
        // A method that nothing has: the answer names those that the path has.
        let answer = ask(&server, &format!("PATCH {}", concrete.join("/")), &[], "").await;
        assert_eq!(answer.status, 405, "{path}: {}", answer.body);
        let allowed = answer.header("allow").unwrap_or_default().to_uppercase();
        for method in methods.as_object().unwrap().keys() {
            assert!(
                allowed.split(',').any(|it| it.trim() == method.to_uppercase()),
                "{method} {path}: {allowed}"
            );
        }
    }
}

#[tokio::test]
async fn the_page_needs_no_login_and_nothing_from_elsewhere() {
    let server = TestServer::start().await;
    for path in ["/api", "/api/openapi.js", "/api/openapi.css"] {
        let answer = ask(&server, &format!("GET {path}"), &[("authorization", "")], "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.contains("://"), "{path}");
        assert!(answer.header("content-security-policy").is_some_and(|it| it.contains("default-src 'none'")));
    }
}
