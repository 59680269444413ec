//! A web server that hands slow work to a worker in the same process, and answers at once.
//!
//! ```console
//! $ cargo run --example web
//! listening on http://127.0.0.1:3000
//! ```
//!
//! ```console
//! $ curl -i localhost:3000/reports -H 'content-type: application/json' -d '{"title": "May", "rows": 2000}'
//! HTTP/1.1 202 Accepted
//! location: /reports/019…
//! $ curl localhost:3000/reports/019…
//! {"id":"019…","state":"PROGRESS","progress":{"current":700,"total":2000,"note":"adding up"},"report":null,…}
//! ```
//!
//! Ctrl-C stops server and worker in good order: no new requests are accepted, running tasks are finished, then the
//! program ends. An accepted report outlives the process: after a `kill -9` the next process makes it anew. To listen
//! on another address: `-- 127.0.0.1:8080`.

use std::future::IntoFuture;
use std::time::Duration;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use taskq::{Client, Context, Handle, TaskId, task};
use taskq_worker::Worker;
use tokio::net::TcpListener;

#[task(queue = "reports", retries = 2, time_limit = "10m")]
async fn report(ctx: &Context, title: String, rows: u64) -> String {
    for row in 1..=rows {
        ctx.progress(row, rows, "adding up");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    format!("{title}: {rows} rows, {} in all", rows * (rows + 1) / 2)
}

#[derive(Deserialize)]
struct Order {
    title: String,
    rows: u64,
}

/// Answers 202 as soon as the message is safe in its queue, with the place to ask for the report.
async fn order(Json(Order { title, rows }): Json<Order>) -> Result<Response, Unavailable> {
    let handle = report(title, rows).await?;
    let place = format!("/reports/{}", handle.id());
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(json!({ "id": handle.id() }))).into_response())
}

/// Answers with the status of a report. An id that was never given is `PENDING` too, since nothing is known of it.
async fn look(Path(id): Path<String>) -> Result<Response, Unavailable> {
    let Ok(id) = TaskId::parse(&id) else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    let status = Handle::<String>::attach(id).status().await?;
    let report = status.value.filter(|_| status.state.is_terminal());
    let error = status.failure.map(|failure| failure.to_string());
    let answer = json!({ "id": status.id, "state": status.state, "progress": status.progress, "report": report, "error": error });
    Ok(Json(answer).into_response())
}

/// The answer 503, for a broker or result backend that does not answer.
struct Unavailable(taskq::Error);

impl From<taskq::Error> for Unavailable {
    fn from(error: taskq::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": self.0.to_string() }))).into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let worker = Worker::builder(Client::from_settings().await?.install()).queues(["reports"]).build().await?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let routes = Router::new().route("/reports", post(order)).route("/reports/{id}", get(look));
    let server = axum::serve(listener, routes).with_graceful_shutdown(asked_to_stop());
    // The server ends when it is asked to, after its last request is answered; then the worker drains.
    worker.run_until(server.into_future()).await??;
    println!("stopped in good order");
    Ok(())
}

/// Waits for Ctrl-C on a terminal, or TERM from a service manager.
async fn asked_to_stop() {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("Unix has TERM");
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.expect("Ctrl-C can be heard"),
        _ = terminate.recv() => {}
    }
}
