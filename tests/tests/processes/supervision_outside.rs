//! The outside of a supervised worker: health probes, systemd, and a container whose first process it is.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::thread::scope;

use taskq_tests::harness::{App, Health, SupervisedWorker, children_of, is_gone, repository, signal, wait_until};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

#[test]
fn health_is_red_while_no_process_is_ready() {
    let supervised = SupervisedWorker::new(SHOP);
    let health = Health::new();
    let worker = supervised.worker(&["--health", &health.address()]);
    health.wait_until_green();
    let children = worker.children();
    // Without its program it cannot come back.
    std::fs::remove_file(supervised.path("app")).expect("it is there");
    signal(children[0], "KILL");
    assert_eq!(health.wait_until_red(), "no process is ready");
    supervised.build();
    health.wait_until_green();
    worker.drain();
    assert_eq!(health.ask(), None);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let supervised = SupervisedWorker::new(SHOP);
    let taken = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    let finished = supervised.app.run(&["worker", "--state-dir", "state", "--health", &address]).expect_exit(3);
    assert!(finished.stderr.starts_with("error: ") && finished.stderr.contains(&address), "{finished}");
}

#[test]
fn systemd_is_told() {
    let supervised = SupervisedWorker::new(SHOP);
    let path = supervised.path("notify");
    let systemd = UnixDatagram::bind(&path).expect("the folder can be written");
    systemd.set_read_timeout(Some(taskq_tests::harness::BOUND)).expect("a time-out can be set");
    let app =
        supervised.app.clone().env("NOTIFY_SOCKET", path.to_str().expect("it is text")).env("WATCHDOG_USEC", "1000000");
    let hear = |wanted: &str| loop {
        let mut word = [0; 1000];
        let length = systemd.recv(&mut word).unwrap_or_else(|error| panic!("{wanted} was not said: {error}"));
        let word = String::from_utf8_lossy(&word[..length]).into_owned();
        if word.starts_with(wanted) {
            return word;
        }
    };
    let worker = supervised.worker_of(&app, &[]);
    hear("READY=1");
    hear("WATCHDOG=1");
    worker.signal("HUP");
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    hear("WATCHDOG=1");
    worker.signal("TERM");
    hear("STOPPING=1");
    worker.finish().expect_exit(0);
}

/// Nobody among the children of this process waits to be noticed.
fn wait_until_no_zombie_is_left(supervisor: u32) {
    wait_until("every process that has ended was waited for", || {
        children_of(supervisor).into_iter().all(|pid| !is_gone(pid)).then_some(())
    });
}

#[test]
fn orphans_come_to_the_supervisor_and_leave_no_trace() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&["-c", "1"]);
    let child = worker.children();
    supervised.send(&["shop.orphan", "1500"]);
    worker.wait_for("the orphan is adopted", |worker| (worker.children().len() == 2).then_some(()));
    worker.wait_for("and waited for", |worker| (worker.children() == child).then_some(()));
    worker.drain();
}

#[test]
fn what_a_dead_process_has_started_ends_with_it() {
    let supervised = SupervisedWorker::new(SHOP);
    let mut worker = supervised.worker(&["-c", "1"]);
    let child = worker.children();
    let id = supervised.send(&["shop.orphan", "600000"]);
    let orphan = supervised.app.run(&["result", &id, "--wait=60s"]).expect_exit(0).json();
    let orphan = u32::try_from(orphan["value"].as_u64().expect("it is a number")).expect("it is a process");
    assert!(!is_gone(orphan));
    signal(child[0], "KILL");
    worker.wait_for("the orphan is gone", |_| is_gone(orphan).then_some(()));
    worker.drain();
}

/// A process that a test has to end if the worker does not.
struct Left(u32);

impl Left {
    /// The process that this task leaves behind.
    fn by(supervised: &SupervisedWorker, task: &[&str]) -> Self {
        let id = supervised.send(task);
        let pid = supervised.app.run(&["result", &id, "--wait=60s"]).expect_exit(0).json()["value"].as_u64();
        let left = Self(u32::try_from(pid.expect("it is a number")).expect("it is a process"));
        assert!(!is_gone(left.0));
        left
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        if !is_gone(self.0) {
            signal(self.0, "KILL");
        }
    }
}

/// A copy that a task has forked has the connections and the open file of its process, and ends with it however that
/// ends.
#[test]
fn what_a_process_has_left_in_its_group_ends_with_it_in_good_order_too() {
    scope(|threads| {
        for how in ["drain", "reload", "limit", "stop", "at once"] {
            threads.spawn(move || leave_behind(how));
        }
    });
}

fn leave_behind(how: &str) {
    let supervised = SupervisedWorker::new(SHOP);
    let arguments = if how == "limit" { &["-c", "1", "--max-tasks-per-child", "4"][..] } else { &["-c", "1"] };
    let mut worker = supervised.worker(arguments);
    let child = worker.children();
    let gone = [Left::by(&supervised, &["shop.fork"]), Left::by(&supervised, &["shop.orphan", "600000"])];
    let stays = Left::by(&supervised, &["shop.daemon"]);
    match how {
        "drain" => worker.signal("TERM"),
        "reload" => worker.signal("HUP"),
        "stop" => signal(child[0], "TERM"),
        "at once" => worker.signal("QUIT"),
        _ => drop(supervised.send(&["shop.add", "1", "2"])),
    }
    wait_until(&format!("{how}: the process has ended"), || is_gone(child[0]).then_some(()));
    wait_until(&format!("{how}: and what it has left"), || gone.iter().all(|left| is_gone(left.0)).then_some(()));
    assert!(!is_gone(stays.0), "{how}: a session of its own is not the worker's");
    // It came to the supervisor, which counts it among its children and leaves it alone.
    drop(stays);
    match how {
        "drain" => drop(worker.finish().expect_exit(0)),
        "at once" => drop(worker.finish().expect_exit(8)),
        _ => {
            wait_until("another process has its place", || {
                let now = worker.children();
                (now.len() == 1 && now != child).then_some(())
            });
            assert!(!worker.has_ended());
            drop(worker.drain());
        }
    }
}

#[test]
fn a_probe_is_answered_beside_slow_clients() {
    const SLOW: usize = 200;
    let supervised = SupervisedWorker::new(SHOP);
    let health = Health::new();
    let worker = supervised.worker(&["--health", &health.address()]);
    health.wait_until_green();
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let mut stream = TcpStream::connect(health.address()).expect("it is listened to");
        // Some say nothing, some begin a request, and some do not read the answer.
        let begun: &[u8] = [&b""[..], b"GET / HTTP/1.1\r\nA: ", b"GET / HTTP/1.1\r\n\r\n"][number % 3];
        stream.write_all(begun).expect("it is read");
        slow.push(stream);
    }
    let (status, _) = health.ask().expect("a probe is answered");
    assert_eq!(status, 200);
    worker.drain();
}

#[test]
fn it_is_the_first_process_of_a_container() {
    let flags = ["--pid", "--fork", "--mount-proc"];
    let allowed = Command::new("unshare").args(flags).arg("true").status();
    if !allowed.as_ref().is_ok_and(std::process::ExitStatus::success) {
        eprintln!("skipped: no process ids of one's own here: {allowed:?}");
        return;
    }
    let supervised = SupervisedWorker::new(SHOP);
    let program = supervised.path("app");
    let program = program.to_str().expect("it is text");
    let container = App::new("unshare").folder(supervised.path(""));
    for (signals, exit) in [(&["TERM"][..], 0), (&["QUIT"], 8)] {
        let arguments = [&flags[..], &[program, "worker", "--state-dir", "state", "-c", "1"]].concat();
        let mut worker = container.start(&arguments);
        assert_eq!(worker.wait_until_ready()["pid"], 1);
        let supervisor = worker.children()[0];
        let child = children_of(supervisor);
        assert_eq!(child.len(), 1);
        supervised.send(&["shop.orphan", "300"]);
        wait_until("the orphan was adopted", || (children_of(supervisor).len() == 2).then_some(()));
        wait_until_no_zombie_is_left(supervisor);
        signal(child[0], "KILL");
        worker.wait_for("another process has its place", |_| {
            children_of(supervisor).into_iter().find(|pid| !child.contains(pid) && !is_gone(*pid))
        });
        wait_until_no_zombie_is_left(supervisor);
        for name in signals {
            signal(supervisor, name);
        }
        worker.finish().expect_exit(exit);
    }
}

/// The seconds that follow `key` in a text.
fn seconds(text: &str, key: &str) -> u64 {
    let (_, rest) = text.split_once(key).unwrap_or_else(|| panic!("{key} is not in it"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|error| panic!("{key}: {error}"))
}

#[test]
fn what_is_deployed_is_understood_and_waits_for_the_grace() {
    let read = |name: &str| {
        let path = repository().join("deploy").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let unit = read("taskq-worker.service");
    let (_, start) = unit.split_once("\nExecStart=").expect("it starts something");
    let words: Vec<&str> = start.lines().next().expect("it is a line").split(' ').collect();
    taskq_worker::understands(&words).unwrap_or_else(|why| panic!("{words:?}: {why}"));
    assert!(words.windows(2).any(|pair| pair == ["--grace", "2m"]));
    assert!(seconds(&unit, "\nTimeoutStopSec=") > 120 + 10);

    let pod = read("kubernetes.yaml");
    let list = |key: &str| {
        let (_, list) = pod.split_once(&format!("{key}: [")).unwrap_or_else(|| panic!("there is no {key}"));
        let (list, _) = list.split_once(']').expect("it ends");
        list.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect::<Vec<_>>()
    };
    let words = [list("command"), list("args")].concat();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    taskq_worker::understands(&words).unwrap_or_else(|why| panic!("{words:?}: {why}"));
    assert!(words.windows(2).any(|pair| pair == ["--grace", "2m"]));
    assert!(seconds(&pod, "terminationGracePeriodSeconds:") > 120 + 10);
}
