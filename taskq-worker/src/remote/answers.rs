//! Answers to questions, in the form of Celery's workers. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::state::{ProcessState, RunState};

/// The facts about a node that are not those of its processes.
#[derive(Debug, Clone)]
pub(super) struct NodeFacts {
    /// The node name.
    pub(super) node: String,
    /// The settings, without secrets.
    pub(super) settings: BTreeMap<String, String>,
    /// The broker, in words.
    pub(super) broker: String,
    /// The logical clock.
    pub(super) clock: u64,
}

/// Answers a question that changes nothing; `None` if it is none of those.
pub(super) fn answer(
    question: &str,
    arguments: &Map<String, Value>,
    facts: &NodeFacts,
    processes: &[ProcessState],
) -> Option<Value> {
    let runs = |wanted: fn(&RunState) -> bool| -> Value {
        processes
            .iter()
            .flat_map(|process| process.runs.iter().filter(|run| wanted(run)).map(|run| info(run, process, facts)))
            .collect()
    };
    Some(match question {
        "ping" => json!({ "ok": "pong" }),
        "active" => runs(|run| run.is_running),
        "reserved" => runs(|run| !run.is_running),
        // A task that is not due waits in the broker.
        "scheduled" => json!([]),
        "revoked" => json!(revoked(processes)),
        "registered" => {
            let names: BTreeSet<&String> = processes.iter().flat_map(|process| &process.tasks).collect();
            json!(names)
        }
        "stats" => stats(facts, processes),
        "active_queues" => {
            let names: BTreeSet<&String> = processes.iter().flat_map(|process| &process.queues).collect();
            names.into_iter().map(|name| queue(name)).collect()
        }
        "conf" => json!(facts.settings),
        "report" => {
            let lines: Vec<String> = facts.settings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let version = env!("CARGO_PKG_VERSION");
            json!({ "ok": format!("software -> taskq:{version} broker:{}\n{}", facts.broker, lines.join("\n")) })
        }
        "query_task" => found(&wanted_ids(arguments.get("ids")), facts, processes),
        "clock" => json!({ "clock": facts.clock }),
        "memsample" => Value::Null,
        _ => return None,
    })
}

/// The revoked tasks of all processes.
pub(super) fn revoked(processes: &[ProcessState]) -> BTreeSet<&str> {
    processes.iter().flat_map(|process| process.revoked.iter().map(taskq::TaskId::as_str)).collect()
}

/// The ids that an argument names: one, or a list. Numbers and the like are no ids.
pub(super) fn wanted_ids(argument: Option<&Value>) -> Vec<String> {
    match argument {
        Some(Value::String(id)) => vec![id.clone()],
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Returns whether an argument says yes; Flower says 1.
pub(super) fn is_yes(argument: Option<&Value>) -> bool {
    match argument {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !matches!(text.to_ascii_lowercase().as_str(), "" | "0" | "false" | "no" | "off"),
        _ => false,
    }
}

fn info(run: &RunState, process: &ProcessState, facts: &NodeFacts) -> Value {
    let (args, kwargs) = run.arguments.clone().unwrap_or_default();
    json!({
        "id": run.id,
        "name": run.task,
        "args": args,
        "kwargs": kwargs,
        "type": run.task,
        "hostname": facts.node,
        "time_start": run.began_ms.map(|at| at as f64 / 1000.0),
        "acknowledged": false,
        "delivery_info": {
            "exchange": "",
            "routing_key": run.queue,
            "priority": run.priority.unwrap_or_default(),
            "redelivered": false,
        },
        "worker_pid": run.is_running.then_some(process.pid),
    })
}

fn found(ids: &[String], facts: &NodeFacts, processes: &[ProcessState]) -> Value {
    let mut found = Map::new();
    for process in processes {
        for run in process.runs.iter().filter(|run| ids.iter().any(|id| run.id.as_str() == id)) {
            let place = if run.is_running { "active" } else { "reserved" };
            found.insert(run.id.to_string(), json!([place, info(run, process, facts)]));
        }
    }
    Value::Object(found)
}

fn stats(facts: &NodeFacts, processes: &[ProcessState]) -> Value {
    let sum = |figure: fn(&ProcessState) -> u64| processes.iter().map(figure).sum::<u64>();
    json!({
        "total": { "all": sum(|process| process.done) },
        "pid": processes.first().map(|process| process.pid),
        "clock": facts.clock.to_string(),
        "uptime": processes.iter().map(|process| process.uptime).max(),
        "pool": {
            "implementation": "taskq",
            "max-concurrency": sum(|process| process.concurrency as u64),
            "processes": processes.iter().map(|process| process.pid).collect::<Vec<_>>(),
            "max-tasks-per-child": "N/A",
            "put-guarded-by-semaphore": true,
            "timeouts": [0, 0],
            "writes": {},
        },
        "broker": {
            "transport": facts.broker,
            "hostname": facts.settings.get("broker_url"),
        },
        "prefetch_count": sum(|process| process.prefetch.into()),
        "rusage": "N/A",
    })
}

/// A queue as kombu tells of one.
fn queue(name: &str) -> Value {
    json!({
        "name": name,
        "exchange": {
            "name": name, "type": "direct", "arguments": null, "durable": true, "passive": false, "auto_delete": false,
            "delivery_mode": null, "no_declare": false,
        },
        "routing_key": name,
        "queue_arguments": null,
        "binding_arguments": null,
        "consumer_arguments": null,
        "durable": true,
        "exclusive": false,
        "auto_delete": false,
        "no_ack": false,
        "alias": null,
        "bindings": [],
        "no_declare": null,
        "expires": null,
        "message_ttl": null,
        "max_length": null,
        "max_length_bytes": null,
        "max_priority": null,
    })
}

#[cfg(test)]
mod tests {
    use taskq::TaskId;

    use super::*;

    fn facts() -> NodeFacts {
        let settings = [("broker_url".to_owned(), "amqp://guest:***@h".to_owned())].into();
        NodeFacts { node: "taskq@here".to_owned(), settings, broker: "RabbitMQ 4.3.6".to_owned(), clock: 7 }
    }

    fn run(id: &str, is_running: bool) -> RunState {
        RunState {
            id: TaskId::parse(id).expect("it is an id"),
            task: "shop.add".to_owned(),
            queue: "default".to_owned(),
            priority: None,
            arguments: Some((vec![json!(2), json!(3)], Map::new())),
            began_ms: is_running.then_some(1_795_226_817_775),
            is_running,
        }
    }

    /// Two processes: one runs `a` and holds `b`, the other runs `c`.
    fn processes() -> Vec<ProcessState> {
        let state = |pid, runs| ProcessState {
            pid,
            uptime: u64::from(pid),
            concurrency: 4,
            prefetch: 8,
            done: 10,
            queues: vec!["default".to_owned()],
            tasks: vec!["shop.add".to_owned()],
            revoked: vec![TaskId::parse("r").expect("it is an id")],
            runs,
        };
        vec![state(1, vec![run("a", true), run("b", false)]), state(2, vec![run("c", true)])]
    }

    fn asked(question: &str, arguments: &Value) -> Value {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        answer(question, &arguments, &facts(), &processes()).expect(question)
    }

    #[test]
    fn a_node_answers_for_all_of_its_processes() {
        assert_eq!(asked("ping", &json!({})), json!({"ok": "pong"}));
        let active = asked("active", &json!({"safe": true}));
        let ids: Vec<&Value> = active.as_array().expect("a list").iter().map(|info| &info["id"]).collect();
        assert_eq!(ids, ["a", "c"]);
        assert_eq!(active[0]["time_start"], json!(1_795_226_817.775));
        assert_eq!((&active[0]["args"], &active[0]["hostname"]), (&json!([2, 3]), &json!("taskq@here")));
        assert_eq!(asked("reserved", &json!({}))[0]["worker_pid"], Value::Null);
        assert_eq!(asked("registered", &json!({})), json!(["shop.add"]));
        assert_eq!(asked("revoked", &json!({})), json!(["r"]));
        assert_eq!(asked("active_queues", &json!({}))[0]["name"], "default");
        let stats = asked("stats", &json!({}));
        assert_eq!((&stats["pool"]["max-concurrency"], &stats["prefetch_count"]), (&json!(8), &json!(16)));
        assert_eq!((&stats["pool"]["processes"], &stats["uptime"]), (&json!([1, 2]), &json!(2)));
        assert_eq!(asked("conf", &json!({}))["broker_url"], "amqp://guest:***@h");
        assert_eq!(asked("clock", &json!({})), json!({"clock": 7}));
        assert!(answer("revoke", &Map::new(), &facts(), &[]).is_none());
    }

    #[test]
    fn a_task_is_found_wherever_it_is() {
        let found = asked("query_task", &json!({"ids": ["a", "b", "x"]}));
        assert_eq!((&found["a"][0], &found["b"][0], found.get("x")), (&json!("active"), &json!("reserved"), None));
        assert_eq!(asked("query_task", &json!({"ids": "c"}))["c"][0], "active");
        assert_eq!(asked("query_task", &json!({"ids": 7})), json!({}));
    }

    #[test]
    fn flags_come_in_many_forms() {
        for (argument, expected) in
            [(json!(true), true), (json!(1), true), (json!("true"), true), (json!(0), false), (json!("0"), false)]
        {
            assert_eq!(is_yes(Some(&argument)), expected, "{argument}");
        }
        assert!(!is_yes(None) && !is_yes(Some(&Value::Null)));
    }
}
