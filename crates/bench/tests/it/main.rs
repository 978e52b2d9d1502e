//! Each scenario against a whole server in this process: what is counted adds up, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is test code")]

use millpond_bench::{BadPlan, BenchError, Plan, Progress, Report, Scenario, run};
use millpond_model::VhostName;
use millpond_testkit::TestServer;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

fn plan(server: &TestServer, scenario: Scenario) -> Plan {
    let uri = format!("amqp://guest:guest@{}/", server.amqp()).parse().unwrap();
    Plan { duration: Duration::from_millis(200), count: 3000, ..Plan::new(uri, scenario) }
}

async fn measure(plan: &Plan) -> Report {
    let (_keep, interrupt) = watch::channel(false);
    run(plan, &Arc::new(Progress::default()), interrupt).await.unwrap()
}

fn assert_clean(server: &TestServer) {
    let vhost = VhostName::new("/").unwrap();
    assert_eq!(server.broker().list_queues(&vhost).unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_loses_nothing_and_leaves_nothing() {
    let server = TestServer::start().await;
    for scenario in Scenario::ALL {
        let plan = plan(&server, *scenario);
        let report = measure(&plan).await;
        assert_eq!((report.missing, report.refused, report.interrupted), (0, 0, false), "{report:?}");
        assert!(report.publish.messages > 0 && report.receive.messages > 0, "{report:?}");
        let latency = report.latency_us.unwrap();
        assert!(latency.p50 <= latency.p95 && latency.p95 <= latency.p99 && latency.p99 <= latency.max);
        assert_eq!(report.confirm_latency_us.is_some(), plan.confirm_window > 0, "{report:?}");
        assert!(report.broker.starts_with("Millpond"), "{}", report.broker);
        assert!(!report.url.contains(":guest"), "{}", report.url);
        assert_clean(&server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_says_so_and_cleans_up() {
    let server = TestServer::start().await;
    for scenario in [Scenario::Safe, Scenario::PingPong] {
        let plan = Plan { duration: Duration::from_secs(3600), ..plan(&server, scenario) };
        let (interrupter, interrupt) = watch::channel(false);
        let progress = Arc::new(Progress::default());
        let (running, watched) = (progress.clone(), progress);
        let report = tokio::spawn(async move { run(&plan, &running, interrupt).await });
        while watched.received() < 10 {
            tokio::task::yield_now().await;
        }
        interrupter.send_replace(true);
        let report = report.await.unwrap().unwrap();
        assert!(report.interrupted && report.receive.messages >= 10, "{report:?}");
        assert_clean(&server);
    }
}

#[tokio::test]
async fn plans_that_make_no_sense_are_refused() {
    let uri: millpond_amqp_client::Uri = "amqp://localhost:1/".parse().unwrap();
    let sane = Plan::new(uri, Scenario::Safe);
    for (plan, wanted) in [
        (Plan { size_bytes: 15, ..sane.clone() }, BadPlan::Size { size_bytes: 15 }),
        (Plan { producers: 0, ..sane.clone() }, BadPlan::Parties { what: "producers", count: 0 }),
        (Plan { queues: 2, ..sane.clone() }, BadPlan::Unserved { consumers: 1, queues: 2 }),
        (Plan { rate: Some(0), ..sane.clone() }, BadPlan::Zero { what: "rate" }),
    ] {
        let (_keep, interrupt) = watch::channel(false);
        let error = run(&plan, &Arc::new(Progress::default()), interrupt).await.unwrap_err();
        assert!(matches!(&error, BenchError::Plan(found) if *found == wanted), "{error}");
    }
}
