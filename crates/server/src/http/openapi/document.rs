//! The description, made of the lines of `endpoints.txt` and of `components.json`.

use serde_json::{Map, Value, json};

const ENDPOINTS: &str = include_str!("endpoints.txt");
const COMPONENTS: &str = include_str!("components.json");

/// What every list takes.
const LIST: [&str; 7] = ["columns", "sort", "sort_reverse", "page", "page_size", "name", "use_regex"];

/// Members of a path's entry.
const METHODS: [(&str, &str); 4] = [("GET", "get"), ("PUT", "put"), ("POST", "post"), ("DELETE", "delete")];

/// One line.
#[derive(Debug)]
struct Endpoint<'a> {
    method: &'static str,
    path: &'a str,
    who: &'a str,
    query: &'a str,
    body: &'a str,
    answers: &'a str,
    summary: &'a str,
}

impl<'a> Endpoint<'a> {
    /// `None`: not such a line; a test has looked at each.
    fn read(line: &'a str) -> Option<Self> {
        let mut columns = line.split(" |").map(str::trim);
        let (method, path) = columns.next()?.split_once(' ')?;
        let method = METHODS.iter().find(|(name, _)| *name == method)?.1;
        let (who, query, body) = (columns.next()?, columns.next()?, columns.next()?);
        Some(Self { method, path, who, query, body, answers: columns.next()?, summary: columns.next()? })
    }

    /// `get_queues_vhost_queue`.
    fn id(&self) -> String {
        let plain = self.path.replace(['{', '}'], "").replace("/api", "");
        let words: Vec<_> = plain.split(['/', '-', '.']).filter(|word| !word.is_empty()).collect();
        format!("{}_{}", self.method, if words.is_empty() { "page".to_owned() } else { words.join("_") })
    }

    fn describe(&self, tag: &str) -> Value {
        let in_path = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<_> =
            in_path.map(|name| reference(&format!("parameters/path_{name}"))).collect();
        for word in self.query.split_whitespace() {
            let names = if word == "list" { &LIST[..] } else { &[word][..] };
            parameters.extend(names.iter().map(|name| reference(&format!("parameters/query_{name}"))));
        }
        let mut out = json!({
            "operationId": self.id(),
            "tags": [tag],
            "summary": self.summary,
            "parameters": parameters,
            "responses": self.responses(),
        });
        match self.who {
            "-" => out["security"] = json!([]),
            "permissions" => {
                out["description"] = "Needs the permissions in the vhost that AMQP asks for.".into()
            }
            who => out["description"] = format!("For users with the tag `{who}`, or one above it.").into(),
        }
        if !self.body.is_empty() {
            // What nothing is said of may be left out.
            let kind = if self.body == "Text" { "text/plain" } else { "application/json" };
            let content = Map::from_iter([(kind.to_owned(), json!({ "schema": schema(self.body) }))]);
            out["requestBody"] = json!({ "required": !matches!(self.body, "Any"), "content": content });
        }
        out
    }

    fn responses(&self) -> Value {
        let mut out = Map::new();
        for answer in self.answers.split_whitespace() {
            let (status, name) = match answer.split_once(':') {
                Some(both) => both,
                None if answer.parse::<u16>().is_ok() => (answer, ""),
                None => ("200", answer),
            };
            let told = match status {
                "201" => "It is new",
                "204" => "Done",
                _ => "The answer",
            };
            let mut shown = json!({ "description": told });
            let kind = match name {
                "" => None,
                "Html" => Some("text/html"),
                "Text" => Some("text/plain"),
                "Events" => Some("text/event-stream"),
                _ => Some("application/json"),
            };
            if let Some(kind) = kind {
                shown["content"] =
                    Map::from_iter([(kind.to_owned(), json!({ "schema": schema(name) }))]).into();
            }
            out.insert(status.to_owned(), shown);
        }
        if self.answers == "Health" {
            let content = json!({ "application/json": { "schema": schema("Health") } });
            out.insert("503".to_owned(), json!({ "description": "It does not hold", "content": content }));
        }
        out.insert("default".to_owned(), reference("responses/Error"));
        out.into()
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/{name}") })
}

/// The schema of that name; `[Name]` is a list, or a page of one.
fn schema(name: &str) -> Value {
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        None if matches!(name, "Html" | "Text" | "Events") => json!({ "type": "string" }),
        None => reference(&format!("schemas/{name}")),
        Some(name) => {
            let items = json!({ "type": "array", "items": reference(&format!("schemas/{name}")) });
            let number = json!({ "type": "integer" });
            json!({ "oneOf": [items, { "type": "object", "description": "Of a page.", "properties": {
                "items": items, "page": number, "page_count": number, "page_size": number, "item_count": number,
                "filtered_count": number, "total_count": number,
            } }] })
        }
    }
}

/// The description.
pub(super) fn make() -> Value {
    let (mut tags, mut paths, mut tag) = (Vec::new(), Map::new(), "");
    for line in ENDPOINTS.lines() {
        if let Some(group) = line.strip_prefix("== ") {
            let (name, description) = group.split_once(": ").unwrap_or((group, ""));
            tag = name;
            tags.push(json!({ "name": name, "description": description }));
        } else if let Some(endpoint) = Endpoint::read(line) {
            let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
            path[endpoint.method] = endpoint.describe(tag);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millpond",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The management API, as RabbitMQ's plugin has it, and what goes beyond it.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "basic": [] }, { "bearer": [] }, { "cookie": [] }],
        "tags": tags,
        "paths": paths,
        "components": serde_json::from_str::<Value>(COMPONENTS).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_line_is_an_endpoint_whose_names_are_there() {
        let is_endpoint = |line: &&str| !(line.is_empty() || line.starts_with('#') || line.starts_with("=="));
        for line in ENDPOINTS.lines().filter(is_endpoint) {
            assert!(Endpoint::read(line).is_some(), "{line}");
        }
        let document = make();
        let mut ids = HashSet::new();
        let mut look = vec![&document];
        while let Some(value) = look.pop() {
            if let Some(id) = value["operationId"].as_str() {
                assert!(ids.insert(id), "{id} is there twice");
            }
            if let Some(named) = value["$ref"].as_str() {
                assert!(document.pointer(&named[1..]).is_some(), "{named}");
            }
            look.extend(value.as_array().into_iter().flatten());
            look.extend(value.as_object().into_iter().flat_map(|members| members.values()));
        }
        assert!(ids.len() > 150, "{}", ids.len());
    }
}
