//! The command line, as processes against real servers: what it answers, and how it ends.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use taskq_tests::harness::{App, Finished, Folder, Ledger, Process, Servers, Vhost, build, taskq, unique, wait_until};

/// Nothing is said twice, and nothing in more lines than fit at the bottom of a terminal.
const LINES_MAX: usize = 2;

fn shop() -> App {
    App::new(env!("CARGO_BIN_EXE_shop"))
}

/// The shop with these servers and a default queue of this test's own.
fn shop_with_queue(servers: &Servers) -> App {
    shop().servers(servers).env("TASKQ_DEFAULT_QUEUE", &unique("cli"))
}

fn start_worker(app: &App, arguments: &[&str]) -> Process {
    let mut worker = app.start(&[&["worker"], arguments].concat());
    worker.wait_until_ready();
    worker
}

/// Sends a task and gives its id.
fn send(app: &App, arguments: &[&str]) -> String {
    let sent = app.run(&[&["call"], arguments].concat()).expect_exit(0).json();
    sent["id"].as_str().expect("a call answers with an id").to_owned()
}

/// Ends with this code, and says why in one or two lines, with `remedy`.
fn assert_refused(finished: Finished, exit: i32, remedy: &str) {
    let finished = finished.expect_exit(exit);
    assert!(finished.stderr.starts_with("error: "), "no error\n{finished}");
    assert!(finished.stderr.lines().count() <= LINES_MAX, "too many lines\n{finished}");
    assert!(finished.stderr.contains(remedy), "{remedy:?} is not said\n{finished}");
}

#[test]
fn a_task_is_followed_from_call_to_result() {
    let Some(servers) = Servers::from_env() else { return };
    let shop = shop_with_queue(&servers);
    let mut worker = shop.start(&["worker", "-n", "follow", "-c", "3"]);
    let ready = worker.wait_until_ready();
    assert!(ready["node"].as_str().is_some_and(|node| node.starts_with("follow@")), "{ready}");
    assert!(ready["broker"].as_str().is_some_and(|broker| broker.starts_with("RabbitMQ ")), "{ready}");
    assert_eq!(ready["concurrency"], 3);
    assert!(ready["tasks"].as_u64().is_some_and(|tasks| tasks > 10), "{ready}");

    let sum = shop.run(&["call", "shop.add", "2", "-3", "--wait=60s"]).expect_exit(0).json();
    assert_eq!((&sum["state"], &sum["value"]), (&json!("SUCCESS"), &json!(-1)));

    // Every digit that was typed is sent, and every digit that was stored is shown.
    let big = "1267650600228229401496703205376";
    let doubled = shop.run(&["call", "shop.double", big, "--kwargs", "{\"beside\": 985.6906946328695}", "--wait=60s"]);
    let doubled = doubled.expect_exit(0);
    assert!(doubled.stdout.contains("\"value\":[2535301200456458802993406410752,985.6906946328695]"), "{doubled}");
    for argument in ["NaN", "[1, -Infinity]", "1e999"] {
        let refused = shop.run(&["call", "shop.echo", argument]).expect_exit(2);
        assert!(refused.stderr.contains("send "), "{argument}: {refused}");
    }
    let echo = ["call", "shop.echo", &format!("[{big}]"), "--wait=60s"];
    assert_refused(shop.run(&echo), 2, "more than 64 bits");
    assert_refused(shop.run(&[&echo[..], &["--foreign"]].concat()), 1, "more than 64 bits");

    let id = send(&shop, &["shop.greet", "Ada", "--kwargs", "{\"greeting\": \"Good morning\"}"]);
    let result = shop.run(&["result", &id, "--wait=60s"]).expect_exit(0).json();
    assert_eq!(result["value"], "Good morning, Ada");
    let status = shop.run(&["status", &id]).expect_exit(0).json();
    assert_eq!((&status["state"], &status["worker"]), (&json!("SUCCESS"), &ready["node"]));
    assert_eq!(shop.run(&["result", &id]).expect_exit(0).json()["value"], "Good morning, Ada");
}

#[test]
fn progress_is_watched_until_the_end() {
    let Some(servers) = Servers::from_env() else { return };
    let shop = shop_with_queue(&servers);
    let _worker = start_worker(&shop, &[]);
    // A watcher that starts late sees only the end, so both views are tried until one began in time.
    let watch = |flags: &[&str], is_progress: fn(&str) -> bool| {
        wait_until("progress is seen", || {
            let id = send(&shop, &["shop.progress", "20", "100"]);
            let watched = shop.run(&[&["watch", &id], flags].concat()).expect_exit(0);
            watched.stdout.lines().any(is_progress).then_some(watched)
        })
    };
    let lines = watch(&[], |line| line.starts_with("PROGRESS ") && line.contains(" of 20, step "));
    assert_eq!(lines.stdout.lines().last(), Some("SUCCESS 20"));
    let json = watch(&["--json"], |line| line.contains("\"note\":\"step "));
    let last = json.json_lines().pop().expect("there is an end");
    assert_eq!((&last["state"], &last["value"]), (&json!("SUCCESS"), &json!(20)));
}

#[test]
fn a_failure_is_told_by_the_exit_code_and_in_words() {
    let Some(servers) = Servers::from_env() else { return };
    let shop = shop_with_queue(&servers);
    let _worker = start_worker(&shop, &[]);
    let id = unique("fail");
    let failed = shop.run(&["call", "shop.fail", "no stock", "--id", &id, "--wait=60s"]);
    assert_eq!(failed.json()["state"], "FAILURE");
    assert_refused(failed, 1, "no stock");
    assert_refused(shop.run(&["result", &id]), 1, "no stock");
    assert_refused(shop.run(&["watch", &id]), 1, "no stock");
    assert_refused(shop.run(&["call", "shop.cancel", "not wanted", "--wait=60s"]), 1, "not wanted");
    assert_refused(shop.run(&["call", "shop.panic", "lost it", "--wait=60s"]), 1, "lost it");
}

#[test]
fn a_result_that_cannot_be_read_is_no_hang() {
    let Some(servers) = Servers::from_env() else { return };
    let shop = shop_with_queue(&servers);
    let id = unique("pickled");
    let mut redis =
        redis::Client::open(&*servers.redis).and_then(|client| client.get_connection()).expect("Redis is up");
    let document = &b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94."[..];
    redis::cmd("SETEX")
        .arg(format!("celery-task-meta-{id}"))
        .arg(600)
        .arg(document)
        .exec(&mut redis)
        .expect("it is up");
    let reason = "result_serializer = \"pickle\"";
    for arguments in [&["status", &id][..], &["result", &id], &["result", &id, "--wait=60s"], &["watch", &id]] {
        assert_refused(shop.run(arguments), 4, reason);
    }
    let document = "{\"status\": \"SUCCESS\", \"result\": [1.50, NaN, 1267650600228229401496703205376]}";
    let other = unique("no-number");
    redis::cmd("SETEX")
        .arg(format!("celery-task-meta-{other}"))
        .arg(600)
        .arg(document)
        .exec(&mut redis)
        .expect("it is up");
    let shown = shop.run(&["result", &other]);
    assert!(shown.stdout.contains("\"value\":[1.50,null,1267650600228229401496703205376]"), "{shown}");
    assert_refused(shown, 4, "NaN");
    // Nothing takes the task, and the document is there already when its result is waited for.
    assert_refused(shop.run(&["call", "shop.add", "1", "1", "--id", &id, "--wait=60s"]), 4, reason);
}

#[test]
fn a_result_that_does_not_come_is_no_hang() {
    let Some(servers) = Servers::from_env() else { return };
    let shop = shop_with_queue(&servers);
    assert_eq!(shop.run(&["status", &unique("nobody")]).expect_exit(0).json()["state"], "PENDING");
    assert_refused(shop.run(&["result", &unique("nobody")]), 6, "--wait");
    assert_refused(shop.run(&["result", &unique("nobody"), "--wait", "200ms"]), 6, "200ms");
    assert_refused(shop.run(&["watch", &unique("nobody"), "--timeout", "200ms"]), 6, "200ms");
    assert_refused(shop.run(&["call", "shop.add", "1", "1", "--wait=200ms"]), 6, "200ms");
}

#[test]
fn with_nothing_configured_a_file_is_used_and_the_way_to_servers_is_named() {
    let here = Folder::new("cli-embedded");
    let shop = shop().folder(&here);
    let mut worker = shop.start(&["worker"]);
    assert_eq!(worker.wait_until_ready()["queues"], json!(["default", "shop.letters"]), "also those that tasks name");
    for word in ["creating ", "taskq.db", "nothing is configured", "TASKQ_BROKER_URL", "TASKQ_RESULT_URL"] {
        assert!(worker.stderr().contains(word), "{word}\n{}", worker.stderr());
    }
    let called = shop.run(&["call", "shop.add", "2", "3", "--wait=60s"]).expect_exit(0);
    assert_eq!(called.json()["value"], 5);
    assert_eq!(called.stderr, "", "the file is there: nothing to be said");
    let elsewhere = Folder::new("cli-elsewhere");
    let lost = shop.clone().folder(&elsewhere).run(&["call", "shop.add", "2", "3"]).expect_exit(0);
    assert!(lost.stderr.contains("creating ") && lost.stderr.contains("cli-elsewhere"), "{lost}");
    shop.run(&["check"]).expect_exit(0);
    worker.signal("TERM");
    worker.finish().expect_exit(0);
}

#[test]
fn a_broker_inside_a_process_is_of_no_use_to_a_command() {
    let shop = shop().env("TASKQ_BROKER_URL", "memory:");
    for arguments in [&["call", "shop.add", "2", "3"][..], &["worker"], &["status", "7"], &["dead", "list"]] {
        let finished = shop.run(arguments);
        assert!(finished.stderr.contains("TASKQ_BROKER_URL=sqlite:taskq.db"), "{finished}");
        assert_refused(finished, 3, "TASKQ_RESULT_URL");
    }
    shop.run(&["check"]).expect_exit(0);
}

#[test]
fn a_new_build_takes_over_from_a_developers_worker() {
    let here = Folder::new("cli-dev");
    let program = here.path().join("app");
    let build = || build(env!("CARGO_BIN_EXE_shop"), &program);
    build();
    let app = App::new(&program).folder(&here);
    let mut worker = app.start(&["dev"]);
    worker.wait_until_ready();
    let old = worker.children();
    // One is under way while the new build comes: the old one finishes it, and it runs once.
    let ledger = Ledger::new();
    let slow = app.run(&["call", "shop.ledger", ledger.path(), "slow", "1500"]).expect_exit(0);
    build();
    let is_other = |new: &Vec<u32>| new.len() == 1 && *new != old;
    let new = worker.wait_for("only the new build is left", |worker| Some(worker.children()).filter(is_other));
    let id = slow.json()["id"].as_str().expect("it is text").to_owned();
    app.run(&["result", &id, "--wait=60s"]).expect_exit(0);
    assert_eq!(ledger.len(), 1);
    let about = app.run(&["call", "shop.about", "--wait=60s"]).expect_exit(0).json();
    assert_eq!(json!([about["value"]["pid"]]), json!(new));
    worker.signal("INT");
    let ended = worker.finish().expect_exit(0);
    let events: Vec<_> = ended.json_lines().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["ready", "ended"], "one worker, whatever its processes are");
}

#[test]
fn a_worker_in_one_process_becomes_the_new_build() {
    let here = Folder::new("cli-watch");
    let program = here.path().join("app");
    let build = || build(env!("CARGO_BIN_EXE_shop"), &program);
    build();
    let app = App::new(&program).folder(&here);
    let mut worker = app.start(&["dev", "--unsupervised"]);
    let first = worker.wait_until_ready();
    assert_eq!(worker.children(), [] as [u32; 0]);
    build();
    let events = |process: &Process, event: &str| -> Vec<Value> {
        let lines = process.stdout();
        let lines = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &Value| line["event"] == event).collect()
    };
    let second = worker.wait_for("the new build is ready", |worker| events(worker, "ready").get(1).cloned());
    assert_eq!(events(&worker, "ended").len(), 1, "the old one was done before");
    assert_eq!(first["pid"], second["pid"], "it took over in the same process");
    worker.signal("INT");
    worker.finish().expect_exit(0);
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let folder = std::env::temp_dir().join(unique("cli-settings"));
    std::fs::create_dir(&folder).expect("the temporary folder can be written");
    let file = folder.join("taskq.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("the folder can be written");
    write("brokr_url = \"amqp://h\"");
    assert_refused(shop().folder(&folder).run(&["check"]), 3, "did you mean `broker_url`?");
    write("broker_url = \"amqp://u:secret@h");
    let torn = shop().folder(&folder).run(&["check"]);
    assert!(!torn.stderr.contains("secret"), "{torn}");
    assert_refused(torn, 3, "taskq.toml");
    write("default_queue = \"mine\"");
    let report = shop().folder(&folder).run(&["check"]).expect_exit(0).json();
    let origin = |report: &Value, key: &str| {
        let settings = report["settings"].as_array().cloned().unwrap_or_default();
        settings.into_iter().find(|setting| setting["key"] == key).expect("the key is reported")["origin"].clone()
    };
    assert!(origin(&report, "default_queue").as_str().is_some_and(|origin| origin.ends_with("taskq.toml")), "{report}");
    let variable = shop().folder(&folder).env("TASKQ_DEFAULT_QUEUE", "other").run(&["check"]).expect_exit(0).json();
    assert_eq!(origin(&variable, "default_queue"), "TASKQ_DEFAULT_QUEUE");
    assert_refused(shop().run(&["check", "--config", "/no/such/taskq.toml"]), 3, "/no/such/taskq.toml");
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}

#[test]
fn servers_that_are_not_there_or_say_no_are_named_with_the_mend() {
    let Some(servers) = Servers::from_env() else { return };
    let closed = closed_port();
    let password = servers.amqp_with(|authority, vhost| {
        let host = authority.split_once('@').expect("the test broker wants a user").1;
        (format!("guest:s3cret@{host}"), vhost.to_owned())
    });
    let no_vhost = servers.amqp_with(|authority, _| (authority.to_owned(), "nowhere".to_owned()));
    for (url, exit, remedy) in [
        ("rabbit://localhost".to_owned(), 3, "amqp://user:password@host:5672/vhost"),
        ("localhost:5672".to_owned(), 3, "amqp://"),
        (format!("amqp://guest:s3cret@127.0.0.1:{closed}/%2f"), 4, &*format!("127.0.0.1:{closed}")),
        (password, 4, "password"),
        (no_vhost, 4, "nowhere"),
    ] {
        let shop = shop().servers(&Servers { amqp: url.clone(), redis: servers.redis.clone() });
        for arguments in [&["call", "shop.add", "1", "1"][..], &["worker"]] {
            let finished = shop.run(arguments);
            assert!(!finished.stderr.contains("s3cret"), "a password is shown\n{finished}");
            assert_refused(finished, exit, remedy);
        }
        let report = shop.run(&["check"]).expect_exit(exit).json();
        assert!(report["broker"]["fault"].as_str().is_some_and(|fault| fault.contains(remedy)), "{report}");
        // The other server is looked at all the same.
        assert!(report["results"]["fault"].is_null(), "{report}");
    }
}

#[test]
fn a_redis_that_is_not_there_or_wants_a_password_is_named() {
    let Some(servers) = Servers::from_env() else { return };
    let locked = LockedRedis::start("s3cret");
    let (closed, port) = (closed_port(), locked.port);
    for (url, exit, remedy) in [
        ("rediss//localhost".to_owned(), 3, "redis://"),
        (format!("redis://:hidden@127.0.0.1:{closed}/0"), 4, &*format!("127.0.0.1:{closed}")),
        (format!("redis://127.0.0.1:{port}/0"), 4, "password"),
        (format!("redis://:hidden@127.0.0.1:{port}/0"), 4, "password"),
    ] {
        let finished = shop().servers(&Servers { amqp: servers.amqp.clone(), redis: url }).run(&["status", "7"]);
        assert!(!finished.stderr.contains("hidden"), "a password is shown\n{finished}");
        assert_refused(finished, exit, remedy);
    }
    let url = format!("redis://:s3cret@127.0.0.1:{port}/0");
    let report = shop().servers(&Servers { amqp: servers.amqp, redis: url }).run(&["check"]).expect_exit(0);
    assert!(!report.stdout.contains("s3cret"), "a password is shown\n{report}");
    assert!(report.json()["results"]["round_trip_ms"].is_number(), "{report}");
}

#[test]
fn without_a_result_backend_tasks_run_and_results_are_refused() {
    let Some(servers) = Servers::from_env() else { return };
    let ledger = Ledger::new();
    let shop = shop().env("TASKQ_BROKER_URL", &servers.amqp).env("TASKQ_DEFAULT_QUEUE", &unique("cli"));
    let _worker = start_worker(&shop, &[]);
    assert_refused(shop.run(&["call", "shop.add", "1", "1", "--wait"]), 3, "TASKQ_RESULT_URL");
    assert_refused(shop.run(&["status", "7"]), 3, "TASKQ_RESULT_URL");
    let id = send(&shop, &["shop.ledger", ledger.path(), "here", "0"]);
    wait_until("the task has run", || ledger.entries().into_iter().find(|entry| entry.id == id));
}

#[test]
fn a_program_without_tasks_says_what_to_write() {
    for arguments in [&["worker"][..], &["tasks"]] {
        let finished = taskq().run(arguments);
        assert!(finished.stderr.contains("taskq -A path/to/app worker"), "{finished}");
        assert_refused(finished, 7, "as _;");
    }
}

#[test]
fn another_program_is_taken_over() {
    let tasks = taskq().run(&["-A", env!("CARGO_BIN_EXE_shop"), "tasks"]).expect_exit(0);
    let add = tasks.json_lines().into_iter().find(|task| task["name"] == "shop.add").expect("the shop can add");
    assert_eq!(add["parameters"], json!([{"name": "x", "type": "i64"}, {"name": "y", "type": "i64"}]));
    assert_refused(taskq().run(&["-A", "/", "tasks"]), 2, "this is a folder");
    assert_refused(taskq().run(&["-A", "/no/such/app", "tasks"]), 2, "no such program");
    assert_refused(taskq().run(&["-A"]), 2, "-A path/to/app");
}

#[test]
fn wrong_use_is_told_from_everything_else() {
    for arguments in
        [&["wrok"][..], &["call"], &["call", "x", "--kwargs", "[1]"], &["worker", "-c", "0"], &["dead", "retry"]]
    {
        let finished = shop().run(arguments).expect_exit(2);
        assert!(finished.stderr.starts_with("error: "), "{finished}");
    }
    // Queues of taskq's own, wherever one is named.
    for arguments in [
        &["call", "shop.add", "2", "3", "--queue", "taskq.delay.3"][..],
        &["worker", "-Q", "mail,taskq.dead"],
        &["queues", "purge", "taskq.delay.3", "--yes"],
        &["schedule", "add", "nightly", "shop.add", "--every", "1m", "--queue", "taskq.dead"],
    ] {
        let finished = shop().run(arguments).expect_exit(2);
        assert!(finished.stderr.contains("names that begin with `taskq.` belong to taskq"), "{finished}");
    }
    let finished = shop().env("TASKQ_DEFAULT_QUEUE", "taskq.dead").run(&["queues", "list"]).expect_exit(3);
    assert!(finished.stderr.contains("does not begin with `taskq.`"), "{finished}");
    assert!(shop().run(&["queues", "purge", "taskq.dead", "--yes"]).expect_exit(2).stderr.contains("dead drop --all"));
    let help = shop().run(&["--help"]).expect_exit(0);
    assert!(help.stdout.contains("Exit codes:"), "{help}");
}

#[test]
fn the_dead_are_listed_shown_put_back_and_dropped() {
    let Some(vhost) = Servers::from_env().and_then(|servers| Vhost::create(&servers)) else { return };
    let shop = shop_with_queue(&vhost.servers);
    let _worker = start_worker(&shop, &[]);
    let [first, second, other] = ["no shelf 7", "no shelf 9", "no stock"].map(|message| {
        let id = unique("dead");
        send(&shop, &["shop.fail", message, "--id", &id])
    });
    let all = |count: usize| {
        wait_until(&format!("{count} are dead"), || {
            let listed = shop.run(&["dead", "list", "--all"]).expect_exit(0).json_lines();
            (listed.len() == count).then_some(listed)
        })
    };
    all(3);
    let groups = shop.run(&["dead", "list"]).expect_exit(0).json_lines();
    let counts: Vec<_> = groups.iter().map(|group| group["count"].clone()).collect();
    assert_eq!(counts, [2, 1], "{groups:?}");
    let shown = shop.run(&["dead", "show", &first]).expect_exit(0).json();
    assert_eq!((&shown["task"], &shown["arguments"]), (&json!("shop.fail"), &json!([["no shelf 7"], {}])));
    assert_refused(shop.run(&["dead", "show", "nobody"]), 5, "nobody");

    let fingerprint = groups[0]["fingerprint"].as_str().expect("a fingerprint is text");
    let retried = shop.run(&["dead", "retry", "--error", fingerprint]).expect_exit(0).json();
    assert_eq!(retried["count"], 2);
    // They fail once more, as they were told to.
    all(3);
    assert_refused(shop.run(&["dead", "retry", "nobody"]), 5, "nobody");

    assert_refused(shop.run(&["dead", "drop", &first]), 2, "--yes");
    assert_refused(shop.run(&["dead", "drop", &first, "nobody", "--yes"]), 5, "only 1 of these 2");
    let left = all(2);
    let mut ids: Vec<_> = left.iter().map(|entry| entry["id"].as_str().expect("it has an id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, [&*second, &*other]);
    assert_eq!(shop.run(&["dead", "drop", "--all", "--yes"]).expect_exit(0).json()["count"], 2);
    all(0);
}

#[test]
fn queues_are_listed_and_purged() {
    let Some(vhost) = Servers::from_env().and_then(|servers| Vhost::create(&servers)) else { return };
    let shop = shop().servers(&vhost.servers);
    let ready = |queue: &str| {
        let listed = shop.run(&["queues", "list", "-Q", "mail,nowhere"]).expect_exit(0).json_lines();
        listed.into_iter().find(|row| row["queue"] == queue).expect("the queue is listed")["ready"].as_u64()
    };
    // One goes where its task says, two where the caller says.
    send(&shop, &["shop.letter", "hello"]);
    send(&shop, &["shop.letter", "hello", "--queue", "mail"]);
    send(&shop, &["shop.add", "1", "1", "--queue", "mail"]);
    wait_until("the messages are counted", || {
        (ready("mail") == Some(2) && ready("shop.letters") == Some(1)).then_some(())
    });
    assert_eq!(ready("nowhere"), None);
    assert_refused(shop.run(&["queues", "purge", "mail"]), 2, "--yes");
    assert_eq!(shop.run(&["queues", "purge", "mail", "--yes"]).expect_exit(0).json()["removed"], 2);
    wait_until("mail is empty", || (ready("mail") == Some(0)).then_some(()));
    assert_eq!(ready("shop.letters"), Some(1));
    assert_refused(shop.run(&["queues", "purge", "nowhere", "--yes"]), 5, "nowhere");
}

#[test]
fn the_first_signal_drains() {
    let Some(servers) = Servers::from_env() else { return };
    for signal in ["TERM", "INT"] {
        let shop = shop_with_queue(&servers);
        let ledger = Ledger::new();
        let worker = start_worker(&shop, &["-c", "1"]);
        let id = send(&shop, &["shop.ledger", ledger.path(), "finished", "1500"]);
        wait_until_started(&shop, &id);
        worker.signal(signal);
        let ended = worker.finish().expect_exit(0);
        let summary = ended.json_lines().pop().expect("the last line is the summary");
        assert_eq!((&summary["event"], &summary["succeeded"]), (&json!("ended"), &json!(1)), "{ended}");
        assert_eq!(ledger.counts().get("finished"), Some(&1));
        assert_eq!(shop.run(&["status", &id]).json()["state"], "SUCCESS");
    }
}

#[test]
fn what_outlives_the_grace_is_given_back() {
    let Some(servers) = Servers::from_env() else { return };
    for (arguments, signals) in [(&["--grace", "100ms"][..], &["TERM"][..]), (&[], &["TERM", "INT"]), (&[], &["QUIT"])]
    {
        let queue = unique("cli");
        let shop = shop().servers(&servers).env("TASKQ_DEFAULT_QUEUE", &queue);
        let mut worker = start_worker(&shop, arguments);
        let id = send(&shop, &["shop.slow", "600000"]);
        wait_until_started(&shop, &id);
        for (index, signal) in signals.iter().enumerate() {
            if index > 0 {
                // Two signals that come at once may be delivered as one.
                worker.wait_for("it drains", |worker| worker.stderr().contains("draining").then_some(()));
            }
            worker.signal(signal);
        }
        worker.finish().expect_exit(8);
        wait_until("the message is back", || {
            let listed = shop.run(&["queues", "list"]).expect_exit(0).json_lines();
            listed.into_iter().find(|row| row["queue"] == *queue && row["ready"] == 1)
        });
    }
}

#[test]
fn an_idle_worker_ends_at_once_and_writes_its_log_as_asked() {
    let Some(servers) = Servers::from_env() else { return };
    let worker = start_worker(&shop_with_queue(&servers), &["--log-format", "json", "-l", "debug"]);
    worker.signal("TERM");
    let ended = worker.finish().expect_exit(0);
    let lines: Vec<Value> = ended.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.len(), ended.stderr.lines().count(), "every line of the log is JSON\n{ended}");
    assert!(lines.iter().any(|line| line["level"] == "INFO"), "{ended}");
    assert_refused(shop().env("RUST_LOG", "=[").run(&["worker"]), 3, "RUST_LOG");
}

fn wait_until_started(app: &App, id: &str) {
    wait_until("the task has started", || {
        let state = app.run(&["status", id]).expect_exit(0).json()["state"].clone();
        (state == "STARTED").then_some(())
    });
}

/// A port on which nobody listens; another one each time.
fn closed_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(12_000);
    let mut candidates = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(8_000);
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("one of 8,000 ports is free")
}

/// A Redis that wants a password.
struct LockedRedis {
    port: u16,
    _process: Process,
}

impl LockedRedis {
    fn start(password: &str) -> Self {
        let port = closed_port();
        let number = port.to_string();
        let arguments = ["--port", &number, "--bind", "127.0.0.1", "--requirepass", password, "--save", ""];
        let mut process = App::new("redis-server").start(&arguments);
        process.wait_for("Redis listens", |process| process.stdout().contains("Ready to accept").then_some(()));
        Self { port, _process: process }
    }
}
