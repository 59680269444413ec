//! No password of a URL is shown: not by an error, a log, a report or a process, whatever is wrong with the URL.

use taskq_tests::harness::{App, Folder, Servers, children_of, unique};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// The password in every URL.
const PASSWORD: &str = "s3cr3t-w0rd";

/// Brokers of which none can be used. `PW` stands for the password, and nothing listens on the ports.
const BROKERS: [&str; 25] = [
    "amqp://u:PW@127.0.0.1:1/v",
    "amqp://PW@127.0.0.1:1/v",
    "amqp://u:PW@127.0.0.1:1/v;amqp://u:PW@127.0.0.1:2/v",
    "amqp://u:PW@127.0.0.1:1/v,amqp://PW@127.0.0.1:2/v , amqp://u:PW@[::1]:1/v",
    "amqp://u:PW@127.0.0.1:1;amqp://u:PW@127.0.0.1:2/v",
    "amqp://u:PW@127.0.0.1:1;redis://:PW@127.0.0.1:2",
    "amqp://u:PW@127.0.0.1:1;amqp://u:PW@127.0.0.1:port",
    "amqp://u:PW@127.0.0.1:1;u:PW@127.0.0.1:2",
    "amqp://u:PW@127.0.0.1:1,127.0.0.1:2/v",
    "amqp://u:PW@127.0.0.1,127.0.0.2/v",
    "amqp://u:PW@127.0.0.1:1/v;u:PW@127.0.0.1:2/v",
    "sqlite:x.db;amqp://u:PW@127.0.0.1:1",
    "amqp://u:PW@127.0.0.1:port/",
    "amqp://u:PW@127.0.0.1:1?heartbeat=x",
    "amqp://127.0.0.1:1/v?password=PW",
    "amqp://127.0.0.1:1/u:PW@v",
    "amqp://u:PW",
    "amqp:/u:PW@127.0.0.1",
    "ampq://u:PW@127.0.0.1",
    "amqps://u:PW@127.0.0.1:1/v",
    "redis://:PW@127.0.0.1:1/0",
    "sqlite://u:PW@127.0.0.1/x",
    "u:PW@127.0.0.1",
    "PW",
    " amqp://u:PW@127.0.0.1:1/v",
];

/// Result backends of the same kind.
const RESULTS: [&str; 16] = [
    "redis://:PW@127.0.0.1:1/0",
    "redis://PW@127.0.0.1:1/0",
    "redis://u:PW@127.0.0.1:1/x",
    "redis://:PW@127.0.0.1:1;redis://:PW@127.0.0.1:2",
    "redis://:PW@127.0.0.1:1,127.0.0.1:2/0",
    "redis://127.0.0.1:1/0?password=PW",
    "redis//:PW@127.0.0.1",
    "rediss://:PW@127.0.0.1:1/0",
    "redis+unix:///no/such?password=PW",
    "redis+sentinel://:PW@127.0.0.1:1,127.0.0.1:2/main/0",
    "sentinel://:PW@127.0.0.1:1;sentinel://:PW@127.0.0.1:2",
    "redis-cluster://:PW@127.0.0.1:1",
    "valkey://:PW@127.0.0.1:1",
    "amqp://u:PW@127.0.0.1:1",
    "PW",
    ":PW@127.0.0.1:1",
];

/// A program with everything in its log that it can say of itself.
fn shop(folder: &Folder) -> App {
    App::new(SHOP).folder(folder).env("RUST_LOG", "debug").env("RUST_BACKTRACE", "1")
}

/// Runs commands that use the URL, and checks all that they say.
fn refused(folder: &Folder, variable: &str, flag: &str, url: &str) {
    let url = url.replace("PW", PASSWORD);
    let by_variable = shop(folder).env(variable, &url);
    let by_flag = ["check", flag, &url];
    let commands: [(&App, &[&str]); 6] = [
        (&by_variable, &["check"]),
        (&by_variable, &["check", "--json"]),
        (&by_variable, &["call", "shop.add", "1", "2", "--wait=1s"]),
        (&by_variable, &["status", "7"]),
        (&by_variable, &["worker", "--unsupervised"]),
        (&shop(folder), &by_flag),
    ];
    for (app, arguments) in commands {
        let finished = app.run(arguments);
        let shown = url.replace(PASSWORD, "PW");
        assert_ne!(finished.exit, 0, "{shown} can be used by {arguments:?}\n{finished}");
        assert!(!finished.to_string().contains(PASSWORD), "the password of {shown} is shown\n{finished}");
        assert!(!finished.stderr.contains("panicked"), "{shown}\n{finished}");
    }
}

#[test]
fn no_wrong_broker_url_shows_its_password() {
    let folder = Folder::new("passwords");
    for url in BROKERS {
        refused(&folder, "TASKQ_BROKER_URL", "--broker", url);
    }
}

#[test]
fn no_wrong_result_url_shows_its_password() {
    let folder = Folder::new("passwords");
    for url in RESULTS {
        refused(&folder, "TASKQ_RESULT_URL", "--results", url);
    }
}

#[test]
fn a_server_that_refuses_the_password_is_told_of_without_it() {
    let Some(servers) = Servers::from_env() else { return };
    let wrong = servers.amqp_with(|authority, vhost| {
        let host = authority.split_once('@').map_or(authority, |(_, host)| host);
        (format!("guest:{PASSWORD}@{host}"), vhost.to_owned())
    });
    let folder = Folder::new("passwords");
    for url in
        [wrong.clone(), format!("{wrong};{wrong}"), format!("{},{wrong}", wrong.replace("127.0.0.1", "localhost"))]
    {
        refused(&folder, "TASKQ_BROKER_URL", "--broker", &url.replace(PASSWORD, "PW"));
    }
}

#[test]
fn no_process_of_a_worker_has_a_password_in_its_command_line() {
    let Some(servers) = Servers::from_env() else { return };
    let folder = Folder::new("passwords");
    let urls = format!("{0};{0}", servers.amqp);
    let (_, password) = servers.amqp.split_once("guest:").expect("the tests' user is guest");
    let password = &password[..password.find('@').expect("the host follows")];
    let queue = unique("passwords");
    let app = shop(&folder).env("TASKQ_RESULT_URL", &servers.redis);
    let mut worker = app.start(&["--broker", &urls, "worker", "--state-dir", "state", "-Q", &queue]);
    worker.wait_until_ready();
    let children = children_of(worker.id());
    assert!(!children.is_empty(), "the worker is supervised");
    for child in children {
        let line = std::fs::read(format!("/proc/{child}/cmdline")).expect("it is ours");
        let line = String::from_utf8_lossy(&line);
        assert!(!line.contains(&format!("guest:{password}")), "{line}");
    }
    let finished = worker.drain();
    assert!(!finished.to_string().contains(&format!("guest:{password}")), "{finished}");
}
