//! What is said of files with mistakes.

use millpond_engine::{check, dry_run};

/// Checks a file and compares everything that is said of it.
#[track_caller]
fn says(text: &str, expected: &[&str]) {
    match check("t.yaml", text) {
        Ok(topology) => panic!("it is taken: {topology}"),
        Err(error) => assert_eq!(error.to_string(), expected.join("\n"), "of {text}"),
    }
}

#[test]
fn a_good_file_is_counted() {
    for (text, expected) in [
        ("version: 1", "0 exchanges, 0 queues, 0 bindings, 0 rules"),
        ("queues: {a: {}, b: }", "0 exchanges, 2 queues, 0 bindings, 0 rules"),
        (
            "exchanges: {x: {type: fanout}}\nqueues: {q: }\nbindings:\n  - {exchange: x, queue: q}\nrules:\n  r: {on: {queue: q}, do: [file: {path: a.log}]}",
            "1 exchange, 1 queue, 1 binding, 1 rule",
        ),
        (
            "rules:\n  r: &r {on: {queue: q}, do: [file: {path: /var/log/a.log}]}\n  s: *r",
            "0 exchanges, 0 queues, 0 bindings, 2 rules",
        ),
    ] {
        assert_eq!(check("t.yaml", text).unwrap().to_string(), expected, "of {text}");
    }
}

#[test]
fn what_is_not_yaml_is_told_with_its_line() {
    says("", &["t.yaml:1: found nothing, expected exchanges, queues, bindings or rules"]);
    says(
        "- a",
        &[
            "t.yaml:1: found a list, expected a mapping with version, exchanges, queues, bindings, policies, operator_policies, schedules, databases, sources, mail, providers, functions, rules or tests",
        ],
    );
    says(
        "queues: {}\n---\nqueues: {}",
        &["t.yaml:2: a second document begins, one is expected: remove the '---'"],
    );
    let deep = format!("queues: {}1{}", "[".repeat(70), "]".repeat(70));
    says(&deep, &["t.yaml:1: lists and mappings nest deeper than 64 levels: flatten them"]);
    let bomb = format!(
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n{}",
        (0..8)
            .map(|n| {
                let (name, of) = (char::from(b'b' + n), char::from(b'a' + n));
                format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 10].join(","))
            })
            .collect::<String>()
    );
    says(&bomb, &["t.yaml:6: the file has more than 500000 values, aliases counted: split it"]);
    let error = check("t.yaml", "queues:\n  a: {\n").unwrap_err().to_string();
    assert!(error.starts_with("t.yaml:3: this is not YAML: "), "{error}");
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    says(
        "queus: {}",
        &[
            "t.yaml:1: found the unknown key 'queus', expected one of version, exchanges, queues, bindings, policies, operator_policies, schedules, databases, sources, mail, providers, functions, rules or tests; did you mean 'queues'?",
        ],
    );
    says(
        "queues:\n  a:\n    durabel: true\n    zzz: 1",
        &[
            "t.yaml:3: queues.a: found the unknown key 'durabel', expected one of durable, auto_delete or arguments; did you mean 'durable'?",
            "t.yaml:4: queues.a: found the unknown key 'zzz', expected one of durable, auto_delete or arguments",
        ],
    );
    says(
        "queues:\n  a: {}\n  a: {}",
        &["t.yaml:3: queues: found the key 'a' a second time, it is already on line 2"],
    );
}

#[test]
fn exchanges_queues_and_bindings_are_checked() {
    says(
        "exchanges:\n  a: {}\n  b: {type: topik}\n  amq.c: {type: topic}",
        &[
            "t.yaml:2: exchanges.a: found no 'type', expected 'type': direct, fanout, topic, headers, x-events, x-consistent-hash, x-modulus-hash, x-random, x-local-random, x-recent-history or x-delayed-message",
            "t.yaml:3: exchanges.b.type: found 'topik', expected direct, fanout, topic, headers, x-events, x-consistent-hash, x-modulus-hash, x-random, x-local-random, x-recent-history or x-delayed-message; did you mean 'topic'?",
            "t.yaml:4: exchanges.amq.c: found a name of the broker's own, expected one that is not empty and does not begin with 'amq.'",
        ],
    );
    says(
        "queues:\n  a: {durable: yes}\n  b: 5\n  c: {arguments: [x]}",
        &[
            "t.yaml:2: queues.a.durable: found 'yes', expected true or false",
            "t.yaml:3: queues.b: found the number 5, expected a mapping with durable, auto_delete or arguments",
            "t.yaml:4: queues.c.arguments: found a list, expected a mapping",
        ],
    );
    says(
        "bindings:\n  - {exchange: a}\n  - {exchange: a, queue: b, to_exchange: c}\n  - {queue: b}\n  - {exchange: a, queue: b, key: 5}",
        &[
            "t.yaml:2: bindings[0]: found no 'queue', expected 'queue' or 'to_exchange'",
            "t.yaml:3: bindings[1]: found both 'queue' and 'to_exchange', expected one: a binding leads to one place",
            "t.yaml:4: bindings[2]: found no 'exchange', expected 'exchange', where messages come from",
            "t.yaml:5: bindings[3].key: found the number 5, expected a binding key: put it in quotes",
        ],
    );
    says(
        "bindings: {}",
        &["t.yaml:1: bindings: found a mapping, expected a list of bindings, each after a '-'"],
    );
}

#[test]
fn rules_are_checked() {
    says(
        "rules:\n  a b: {}\n  c: {on: {}, do: []}\n  d: {on: {queue: q, exchange: x}, do: x}",
        &[
            "t.yaml:2: rules.a b: found the rule name 'a b', expected letters, digits, '.', '_' and '-', at most 200",
            "t.yaml:3: rules.c.on: found nothing to listen to, expected a mapping with attributes of events ('type', 'source', 'subject', ...), or with 'exchange', 'queue' or 'stream'",
            "t.yaml:3: rules.c.do: found an empty list, expected at least one action",
            "t.yaml:4: rules.d.on: found both 'exchange' and 'queue', expected one of them",
            "t.yaml:4: rules.d.do: found 'x', expected a list of actions, each after a '-'",
        ],
    );
    says(
        "exchanges: {t: {type: topic}, h: {type: headers}}\nrules:\n  a:\n    on: {exchange: t}\n    do: [file: {path: x}]\n  b:\n    on: {exchange: h}\n    do: [file: {path: x}]",
        &[
            "t.yaml:3: rules.a.on: found exchange 't' alone, expected a 'key', for it is a topic exchange ('#' is every message)",
            "t.yaml:6: rules.b.on: found exchange 'h' alone, expected 'headers', for it is a headers exchange",
        ],
    );
}

#[test]
fn actions_are_checked() {
    let rule = |action: &str| format!("rules:\n  r:\n    on: {{queue: q}}\n    do:\n      - {action}\n");
    for (action, expected) in [
        (
            "publsh: {}",
            "rules.r.do[0]: found the unknown action 'publsh', expected publish, http, email, sms, voice, sql, file, exec, function or log; did you mean 'publish'?",
        ),
        (
            "publish: {routing_key: a}",
            "rules.r.do[0].publish: found no 'exchange', expected 'exchange' ('' is the default exchange, whose keys are queue names)",
        ),
        (
            "publish: {exchange: a, headers: {b: .data.c}}",
            "rules.r.do[0].publish.headers.b: found '.data.c', which is a text here and not jq, expected '\\(.data.c)' to take it from the event",
        ),
        (
            "publish: {exchange: a, body: '{a: }'}",
            "rules.r.do[0].publish.body: jq '{a: }': found '}', expected term",
        ),
        (
            "publish: {exchange: a, routing_key: 'a.\\(.b'}",
            "rules.r.do[0].publish.routing_key: jq 'a.\\(.b': found '\\(' without its ')', expected both: write '\\\\(' for the characters",
        ),
        (
            "publish: {exchange: a, body: {order: .data}}",
            "rules.r.do[0].publish.body: found a mapping, expected a jq expression",
        ),
        (
            "http: {endpoint: 'ftp://x'}",
            "rules.r.do[0].http.endpoint: found 'ftp://x', expected an http or https URL",
        ),
        (
            "http: {endpoint: 'http://x', expect: 2xx}",
            "rules.r.do[0].http.expect: found '2xx', expected statuses such as 200, 200-299 or a list of them",
        ),
        (
            "http: {endpoint: 'http://x', timeout: 5}",
            "rules.r.do[0].http.timeout: found the number 5, expected a time such as 250ms, 5s, 2m, 1h or 7d, over 0 and at most 5m",
        ),
        (
            "http: {endpoint: 'http://x', method: 'P ST'}",
            "rules.r.do[0].http.method: found 'P ST', expected an HTTP method such as POST",
        ),
        ("file: {path: ../x}", "rules.r.do[0].file.path: found '../x', expected a path without '..'"),
        (
            "file: {path: x, max_size: big}",
            "rules.r.do[0].file.max_size: found 'big', expected a size such as 64KiB, 10MiB or 1GiB, or bytes as a number, at least 1",
        ),
        (
            "file: {path: x, line: frob(.a)}",
            "rules.r.do[0].file.line: jq 'frob(.a)': found the filter 'frob', which is not defined",
        ),
    ] {
        says(&rule(action), &[&format!("t.yaml:5: {expected}")]);
    }
    says(
        "rules:\n  r:\n    on: {queue: q}\n    do: [file: {path: x}]\n    retry: {max_attempts: 0, factor: 0.5, first: 2h}",
        &[
            "t.yaml:5: rules.r.retry.max_attempts: found the number 0, expected a whole number from 1 to 1000",
            "t.yaml:5: rules.r.retry.first: found '2h', expected a time such as 250ms, 5s, 2m, 1h or 7d, over 0 and at most 1h",
            "t.yaml:5: rules.r.retry.factor: found the number 0.5, expected a number from 1 to 100",
        ],
    );
}

#[test]
fn nothing_nests_so_deep_that_it_cannot_be_refused() {
    for text in
        ["- ", "? ", "[", "{", "[{", "{a: [", "a: ", "&a ", "*a ", "!a ", "- - ", "\"", "|\n ", "a:\n "]
    {
        let _ = check("t.yaml", &text.repeat(20_000));
        let _ = check("t.yaml", &format!("queues: {}", text.repeat(20_000)));
    }
    let indented: String = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(check("t.yaml", &indented).is_err());
    // The longest expressions of each shape: what compiles also runs.
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{a:", "}"),
        (".|", ""),
        ("1,", ""),
        ("-", ""),
        ("1+", ""),
        ("null//", ""),
        ("true and ", ""),
        (". as $x|", ""),
        ("if 1 then ", " else 2 end"),
        ("try ", ""),
        ("[0]?", ""),
        ("\"\\(", ")\""),
        (".[", "]"),
        ("[.[]|", "]"),
        ("reduce 1 as $x (.;", ")"),
        ("first(", ")"),
        ("..|", ""),
        ("not|", ""),
        ("label $x|", ""),
        ("1 as [$x]|", ""),
        ("(.a|=", ")"),
    ] {
        let fitting = 8192 / (open.len() + close.len()) - 2;
        for count in [fitting, fitting * 2, fitting / 100] {
            let jq = format!("{}1{}", open.repeat(count), close.repeat(count));
            let quoted = serde_json::to_string(&jq).unwrap();
            let text = format!("rules: {{r: {{on: {{queue: q}}, do: [file: {{path: x, line: {quoted}}}]}}}}");
            if let Ok(topology) = check("t.yaml", &text) {
                let _ = dry_run(&topology, "r", &serde_json::json!({"data": 1}));
            }
        }
    }
}

#[test]
fn expressions_define_nothing_and_are_limited() {
    let line = |jq: &str| {
        let quoted = serde_json::to_string(jq).unwrap();
        format!("rules: {{r: {{on: {{queue: q}}, do: [file: {{path: x, line: {quoted}}}]}}}}")
    };
    let refused = "found 'def', expected an expression: functions cannot be defined here";
    for jq in [
        "def f: 1; f",
        "1 | def f(x): f(x); f(.)",
        "\"a\\(def f: 1; f)\"",
        "[def\nf: 1; f]",
        "def #c\n f: 1; f",
    ] {
        let error = check("t.yaml", &line(jq)).unwrap_err().to_string();
        assert!(error.ends_with(refused), "{jq}: {error}");
    }
    for jq in [".def", "{def: 1}", "{def :1}", "\"def f: 1;\"", ".undef x"] {
        if let Err(error) = check("t.yaml", &line(jq)) {
            assert!(!error.to_string().ends_with(refused), "{jq}: {error}");
        }
    }
    let long = format!("1{}", " ".repeat(8192));
    let error = check("t.yaml", &line(&long)).unwrap_err().to_string();
    assert!(error.ends_with("found 8193 bytes, expected at most 8192"), "{error}");
    let many =
        format!("rules: {{r: {{on: {{queue: q}}, do: [file: {{path: '{}'}}]}}}}", "\\(1)".repeat(20_001));
    let error = check("t.yaml", &many).unwrap_err().to_string();
    assert!(error.ends_with("found more than 20000 expressions, expected fewer: split the file"), "{error}");
}

#[test]
fn a_mistake_in_a_block_of_jq_has_the_line_where_it_is() {
    says(
        "rules:\n  r:\n    on: {queue: q}\n    when: |\n      .data.a > 1\n      and frob\n    do: [file: {path: x}]",
        &[
            "t.yaml:6: rules.r.when: jq '.data.a > 1\\nand frob\\n': found the filter 'frob', which is not defined",
        ],
    );
}

#[test]
fn policies_and_schedules_are_checked_as_the_broker_checks_them() {
    let good = "policies: {p: {pattern: ^q, definition: {max-length: 5}}}\n\
        operator_policies: {o: {pattern: ., apply_to: queues, definition: {max-length: 5}}}\n\
        schedules: {s: {cron: '@daily', exchange: ''}}";
    let counted = "0 exchanges, 0 queues, 0 bindings, 0 rules, 2 policies, 1 schedule";
    assert_eq!(check("t.yaml", good).unwrap().to_string(), counted);
    says(
        "policies:\n  p: {pattern: '(', definition: {max-length: 5}}\n  q: {definition: {max-lenth: 5}}",
        &[
            "t.yaml:2: policies.p: the pattern '(' cannot be used: Parsing error at position 1: Opening parenthesis without closing parenthesis",
            "t.yaml:3: policies.q: found no 'pattern', expected 'pattern', a regular expression for names",
        ],
    );
    says(
        "schedules:\n  a: {cron: 0 9 * * MO, exchange: jobs}\n  b: {cron: '@daily', exchange: jobs, zone: Mars, missed: never}\n  c: {exchange: jobs}",
        &[
            "t.yaml:2: schedules.a: '0 9 * * MO' is no cron expression: Pattern contains illegal characters: CronPattern contains illegal character 'M' in part 'MO' (five fields: minute, hour, day of month, month, day of week)",
            "t.yaml:3: schedules.b.missed: found 'never', expected skip, once or all",
            "t.yaml:3: schedules.b: there is no time zone 'Mars': use a name such as Europe/Berlin or UTC",
            "t.yaml:4: schedules.c: found no 'cron', expected 'cron', such as '0 9 * * MON-FRI'",
        ],
    );
}
