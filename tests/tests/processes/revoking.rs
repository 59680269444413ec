//! Revoking by the command line: a supervised worker is one node, and what does not listen is ended with its process.

use serde_json::{Value, json};
use taskq_tests::harness::{App, Embedded, Folder, Ledger, Process, wait_until};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// A worker of two processes on a file, and its command line.
struct SupervisedShop {
    _file: Embedded,
    _folder: Folder,
    shop: App,
    worker: Process,
}

impl SupervisedShop {
    fn start() -> Self {
        let (file, folder) = (Embedded::new(), Folder::new("revoking"));
        let shop = file.app(SHOP);
        let arguments = ["worker", "-n", "mailer@here", "--processes", "2", "-c", "2", "-l", "warn"];
        let mut worker = shop.clone().start(&[&arguments[..], &["--state-dir", &state(&folder)]].concat());
        worker.wait_until_ready();
        Self { _file: file, _folder: folder, shop, worker }
    }

    /// The answer of the worker, as soon as it has one that fits.
    fn asked(&self, words: &[&str], fits: impl Fn(&Value) -> bool) -> Value {
        wait_until(&format!("{words:?} is answered"), || {
            let arguments = [&["inspect"], words, &["-d", "mailer@here", "-t", "5s"]].concat();
            let line = self.shop.run(&arguments).json_lines().pop()?;
            assert_eq!(line["node"], "mailer@here");
            fits(&line["answer"]).then(|| line["answer"].clone())
        })
    }

    fn call(&self, arguments: &[&str]) -> String {
        let call = self.shop.run(&[&["call"], arguments].concat()).expect_exit(0).json();
        call["id"].as_str().expect("a call has an id").to_owned()
    }

    fn state_of(&self, id: &str) -> Value {
        self.shop.run(&["status", id]).expect_exit(0).json()["state"].clone()
    }
}

fn state(folder: &Folder) -> String {
    folder.path().join("state").display().to_string()
}

#[test]
fn a_worker_of_several_processes_is_one_node() {
    let shop = SupervisedShop::start();
    shop.asked(&["ping"], |answer| *answer == json!({ "ok": "pong" }));
    let stats = shop.asked(&["stats"], |stats| stats["pool"]["processes"].as_array().is_some_and(|all| all.len() == 2));
    assert_eq!(stats["pool"]["max-concurrency"], 4);
    let ids: Vec<String> = (0..4).map(|_| shop.call(&["shop.slow", "3600000"])).collect();
    let active = shop.asked(&["active"], |active| active.as_array().is_some_and(|all| all.len() == 4));
    let pids: std::collections::BTreeSet<u64> =
        active.as_array().into_iter().flatten().filter_map(|task| task["worker_pid"].as_u64()).collect();
    assert_eq!(pids.len(), 2, "both processes run tasks: {active}");

    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    shop.shop.run(&[&["revoke"], &all[..]].concat()).expect_exit(0);
    shop.asked(&["active"], |active| *active == json!([]));
    for id in &ids {
        assert_eq!(shop.state_of(id), "REVOKED");
    }
    let revoked = shop.asked(&["revoked"], |revoked| revoked.as_array().is_some_and(|all| all.len() == 4));
    assert!(ids.iter().all(|id| revoked.as_array().is_some_and(|all| all.contains(&json!(id)))), "{revoked}");
    shop.worker.drain();
}

#[test]
fn what_does_not_listen_is_ended_and_its_neighbours_are_finished() {
    let shop = SupervisedShop::start();
    let ledger = Ledger::new();
    // All four slots: each process has one that does not listen, or two.
    let deaf: Vec<String> = (0..2).map(|_| shop.call(&["shop.slow_blocking", "3600000"])).collect();
    let path = format!("{:?}", ledger.path());
    let neighbours: Vec<String> =
        (0..2).map(|number| shop.call(&["shop.ledger", &path, &format!("\"{number}\""), "4000"])).collect();
    let active = shop.asked(&["active"], |active| active.as_array().is_some_and(|all| all.len() == 4));
    let pid_of = |id: &String| {
        let task = active.as_array().into_iter().flatten().find(|task| task["id"] == id.as_str());
        task.and_then(|task| task["worker_pid"].as_u64()).expect("it runs")
    };
    let doomed: std::collections::BTreeSet<u64> = deaf.iter().map(pid_of).collect();

    let ids: Vec<&str> = deaf.iter().map(String::as_str).collect();
    shop.shop.run(&[&["revoke", "--terminate"], &ids[..]].concat()).expect_exit(0);
    wait_until("their processes are gone", || {
        doomed.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    for id in &deaf {
        assert_eq!(shop.state_of(id), "REVOKED");
    }
    for id in &neighbours {
        shop.shop.run(&["result", id, "--wait=60s"]).expect_exit(0);
    }
    assert_eq!(ledger.entries().len(), 2, "each neighbour ran once");
    shop.asked(&["stats"], |stats| stats["pool"]["processes"].as_array().is_some_and(|all| all.len() == 2));
    let ended = shop.worker.drain();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
