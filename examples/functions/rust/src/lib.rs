//! Totals of orders, with a rebate that is a setting: a function in Rust.

use exports::millpond::function::handler::{Call, Failure, Guest};
use millpond::function::config;
use millpond::function::log::{Level, write};
use serde_json::{Value, json};

wit_bindgen::generate!({ path: "../../../crates/engine/wit", world: "function-with-grants" });

struct Total;

impl Guest for Total {
    fn handle(call: Call) -> Result<String, Failure> {
        let order: Value =
            serde_json::from_str(&call.event).map_err(|error| Failure::Final(error.to_string()))?;
        let items = order["items"].as_array().ok_or_else(|| Failure::Final("the order has no items".into()))?;
        let cents: u64 = items
            .iter()
            .map(|item| item["cents"].as_u64().unwrap_or(0) * item["count"].as_u64().unwrap_or(1))
            .sum();
        let rebate: u64 = match config::get("REBATE_PERCENT") {
            None => 0,
            Some(text) => text.parse().map_err(|_| Failure::Final(format!("REBATE_PERCENT is '{text}'")))?,
        };
        write(Level::Info, &format!("{} items of order {}", items.len(), order["order"]));
        Ok(json!({"order": order["order"], "cents": cents * (100 - rebate.min(100)) / 100}).to_string())
    }
}

export!(Total);
