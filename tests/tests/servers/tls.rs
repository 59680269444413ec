//! Encrypted connections, to servers that want certificates of their clients. Who is not who it says, or says
//! nothing, is told with the remedy.

use std::sync::Arc;

use taskq::TaskId;
use taskq::backend::{self, Backend, BackendError, BackendOptions, ResultBackendExt};
use taskq::broker::{self, BrokerOptions, QueueKind, QueueSpec};
use taskq::conformance::broker::run_all;
use taskq::conformance::{kv, results};
use taskq::settings::TlsOptions;
use taskq_tests::harness::{App, Certificates, Folder, PrivateRedis, PrivateServers, Sentinels, Server, unique};

async fn connect(url: &str) -> Result<Backend, BackendError> {
    backend::connect(url, BackendOptions::default()).await
}

/// The error of a Redis with this URL, of at most two lines.
async fn refusal(url: &str) -> String {
    let error = connect(url).await.expect_err(url).to_string();
    assert!(error.lines().count() <= 2 && error.len() < 600, "{error}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_promise_of_results_holds_over_tls() {
    let certificates = Certificates::new();
    let Some(redis) = PrivateRedis::start_encrypted(&certificates, "server") else { return };
    let backend = connect(&redis.url()).await.expect("both certificates are right");
    results::run_all(|| async { Arc::clone(&backend.results) }).await;
    kv::run_all(|| async { Arc::clone(&backend.kv) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_is_told_with_the_remedy() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let Some(redis) = PrivateRedis::start_encrypted(&certificates, "server") else { return };
    let Some(plain) = PrivateRedis::start(None) else { return };
    let folder = Folder::new("garbled");
    let garbled = folder.path().join("garbled.pem");
    std::fs::write(&garbled, "no PEM").expect("the folder can be written");
    let at = |port: u16, parameters: &str| format!("rediss://127.0.0.1:{port}/0?{parameters}");
    let (ca, right) = (format!("ssl_ca_certs={}", certificates.text("ca.pem")), certificates.of_redis());
    let of_client = |own: &Certificates, key: &Certificates| {
        format!("{ca}&ssl_certfile={}&ssl_keyfile={}", own.text("client.pem"), key.text("client.key"))
    };
    for (url, expected) in [
        (
            at(redis.port, &format!("{right}&ssl_server_hostname=elsewhere")),
            "not for elsewhere; correct the host, or name",
        ),
        (
            at(redis.port, &right.replacen(&ca, &format!("ssl_ca_certs={}", others.text("ca.pem")), 1)),
            "is signed by no CA in",
        ),
        (at(redis.port, &right.replacen(&ca, "ssl_cert_reqs=required", 1)), "no CA that this system trusts"),
        (at(redis.port, &ca), "it wants a certificate of the client"),
        (at(redis.port, &of_client(&others, &others)), "it does not accept the certificate in"),
        (at(redis.port, &of_client(&certificates, &others)), "is not the key of the certificate in"),
        (at(redis.port, &format!("ssl_ca_certs={}", garbled.display())), "it holds no certificate; name a file"),
        (at(redis.port, "ssl_ca_certs=/no/such"), "`tls_ca_file` /no/such: cannot be read"),
        (at(redis.port, &format!("{right}&ssl_cert_reqs=none")), "would take any server for the right one"),
        (at(plain.port, &right), "does not speak TLS"),
        (format!("redis://127.0.0.1:{}/0", redis.port), "write rediss://"),
    ] {
        let error = refusal(&url).await;
        assert!(error.contains(expected), "{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn settings_name_the_files_for_all_urls() {
    let certificates = Certificates::new();
    let Some(redis) = PrivateRedis::start_encrypted(&certificates, "server") else { return };
    let tls = TlsOptions::default().with(|tls| {
        tls.ca_file = Some(certificates.path("ca.pem"));
        tls.certificate_file = Some(certificates.path("client.pem"));
        tls.key_file = Some(certificates.path("client.key"));
    });
    let url = format!("rediss://localhost:{}/0", redis.port);
    let backend = backend::connect(&url, BackendOptions::default().with(|options| options.tls = tls)).await;
    backend.expect("all files are named").results.read_one(&TaskId::new()).await.expect("it answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sentinels_and_their_primary_are_reached_over_tls() {
    let certificates = Certificates::new();
    let Some(redis) = PrivateRedis::start_encrypted(&certificates, "server") else { return };
    let sentinel = Sentinels::encrypted_over(redis.port, &certificates);
    let backend = connect(&sentinel.url()).await.expect("both certificates are right");
    backend.results.read_one(&TaskId::new()).await.expect("it answers");
    let url = sentinel.url();
    let (without_certificate, _) = url.split_once("&ssl_certfile").expect("it names a certificate");
    let error = refusal(without_certificate).await;
    assert!(error.contains("it wants a certificate of the client"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_expired_certificate_is_told() {
    let certificates = Certificates::new();
    certificates.issue("short", 0);
    let Some(redis) = PrivateRedis::start_encrypted(&certificates, "short") else { return };
    let mut errors = Vec::new();
    for _ in 0..100 {
        if let Err(error) = connect(&redis.url()).await {
            errors.push(error.to_string());
            break;
        }
        // It is valid for the second in which it was made.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(errors.iter().any(|error| error.contains("its certificate has expired")), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replaced_certificates_serve_the_next_connection() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let Some(mut redis) = PrivateRedis::start_encrypted(&certificates, "server") else { return };
    let backend = connect(&redis.url()).await.expect("both certificates are right");
    backend.results.read_one(&TaskId::new()).await.expect("it answers");
    redis.kill();
    certificates.replace_by(&others);
    redis.up();
    // One operation waits for the connection for ten seconds at most.
    let id = TaskId::new();
    let mut answer = backend.results.read_one(&id).await;
    for _ in 0..5 {
        if answer.is_err() {
            answer = backend.results.read_one(&id).await;
        }
    }
    answer.expect("the files are read again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rabbitmq_keeps_every_promise_over_tls_and_is_told_with_the_remedy() {
    let Some(own) = PrivateServers::start_encrypted() else { return };
    let (certificates, others) = (own.certificates(), Certificates::new());
    let encrypted = own.encrypted().amqp;
    let (place, right) = encrypted.split_once('?').expect("it names the certificates");
    let at = |parameters: &str| format!("{place}?{parameters}");
    for kind in [QueueKind::Quorum, QueueKind::Classic, QueueKind::Celery] {
        let broker = broker::connect(&encrypted, BrokerOptions::default()).await.expect("both certificates are right");
        assert_eq!(broker.info().await.expect("it is known").product, "RabbitMQ");
        run_all(|| async { Arc::clone(&broker) }, kind).await;
        broker.close().await;
    }
    let ca = format!("cacertfile={}", certificates.text("ca.pem"));
    let of_client = |own: &Certificates, key: &Certificates| {
        format!("{ca}&certfile={}&keyfile={}", own.text("client.pem"), key.text("client.key"))
    };
    let (_, plain) = own.servers.amqp.split_once("://").expect("it is a URL");
    for (url, expected) in [
        (at(&format!("{right}&server_name_indication=elsewhere")), "not for elsewhere; correct the host, or name"),
        (at(&right.replacen(&ca, &format!("cacertfile={}", others.text("ca.pem")), 1)), "is signed by no CA in"),
        (at(&ca), "it wants a certificate of the client"),
        (at(&of_client(&others, &others)), "it does not accept the certificate in"),
        (at(&of_client(&certificates, &others)), "is not the key of the certificate in"),
        (at("cacertfile=/no/such"), "`tls_ca_file` /no/such: cannot be read"),
        (at(&format!("{right}&verify=verify_none")), "would take any server for the right one"),
        (format!("amqps://{plain}?{right}"), "does not speak TLS"),
        (place.replacen("amqps:", "amqp:", 1), "write amqps://"),
    ] {
        let error = broker::connect(&url, BrokerOptions::default()).await.expect_err(&url).to_string();
        assert!(error.contains(expected), "{url}: {error}");
        assert!(error.lines().count() <= 2 && !error.contains("guest:guest"), "{error}");
    }

    // The next connection is one with the new certificates.
    let broker = broker::connect(&encrypted, BrokerOptions::default()).await.expect("both certificates are right");
    let queue = QueueSpec::quorum(unique("replaced"));
    broker.declare(&queue).await.expect("it is new");
    certificates.replace_by(&others);
    own.restart(Server::Rabbit, true);
    let stats = loop {
        match broker.stats(&queue.name).await {
            Ok(stats) => break stats,
            Err(error) => assert!(!error.is_permanent(), "{error}"),
        }
    };
    assert_eq!(stats.ready, 0);
    broker.close().await;
}

#[test]
fn a_worker_runs_tasks_over_tls() {
    let Some(own) = PrivateServers::start_encrypted() else { return };
    let (certificates, encrypted, queue) = (own.certificates(), own.encrypted(), unique("tls"));
    let without_parameters = |url: &str| url.split_once('?').expect("it names the certificates").0.to_owned();
    let shop = App::new(env!("CARGO_BIN_EXE_shop"))
        .env("TASKQ_BROKER_URL", &without_parameters(&encrypted.amqp))
        .env("TASKQ_RESULT_URL", &without_parameters(&encrypted.redis))
        .env("TASKQ_TLS_CA_FILE", &certificates.text("ca.pem"))
        .env("TASKQ_TLS_CERTIFICATE_FILE", &certificates.text("client.pem"))
        .env("TASKQ_TLS_KEY_FILE", &certificates.text("client.key"))
        .env("TASKQ_DEFAULT_QUEUE", &queue);
    let folder = Folder::new("tls");
    let mut worker = shop.clone().folder(&folder).start(&["worker", "-Q", &queue, "--state-dir", "state"]);
    worker.wait_until_ready();
    assert_eq!(shop.run(&["call", "shop.add", "2", "3", "--wait=60s"]).expect_exit(0).json()["value"], 5);
    assert_eq!(shop.run(&["check"]).expect_exit(0).json()["broker"]["fault"], serde_json::Value::Null);
    worker.drain();
}
