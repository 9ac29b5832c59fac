//! The admin HTTP server: health, counters and status for people, balancers and Prometheus.
//!
//! Owns its thread, so that a slow scrape costs no shard more than the message that asks it. Changes nothing, unless whoever
//! asks for it says the operators' token: everybody may look, as with any store's metrics.
//!
//! # Layout
//! - `health`: whether the node serves, and why not;
//! - `metrics`: the counters as Prometheus text;
//! - `console.html`: the page for people;
//! - `connections`: how many there are, with TLS or without;
//! - `command`: an operator's command;
//! - `status`: the same as JSON, with what the node is, and its cluster as it sees it; `/ring` is who has what.

mod command;
mod connections;
mod health;
mod metrics;
mod status;
#[cfg(test)]
mod watch_tests;

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gramme_core::shard::ShardStatus;
use gramme_engine::Engine;
use rustls::ServerConfig;
use tokio::sync::oneshot;

use crate::native::COMMAND_BYTES_MAX;
use crate::node::Addresses;
use crate::reactor::Counters;
use crate::secret::Secret;
use connections::Connections;

/// How long a page waits for the control shard.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// What the node is; fixed from its start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What people call it.
    pub name: Option<String>,
    /// The zone that it fails with.
    pub zone: Option<String>,
    /// Where it listens.
    pub addresses: Addresses,
    /// What operators' changes must say; none: there are no changes over HTTP.
    pub admin_token: Option<Arc<Secret>>,
}

struct Shared {
    facts: Facts,
    network: Arc<Counters>,
    started: Instant,
    /// Set when the shards have recovered.
    engine: OnceLock<Engine>,
}

/// The server; `stop` ends it.
pub struct Admin {
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Starts the server, over TLS where there is one; until [`serve`](Self::serve) it answers that the node recovers.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(
        (socket, tls): (TcpListener, Option<Arc<ServerConfig>>),
        facts: Facts,
        network: Arc<Counters>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            facts,
            network,
            started: Instant::now(),
            engine: OnceLock::new(),
        });
        let router = Router::new()
            .route("/", get(console))
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/ring", get(ring))
            .route("/cluster", post(command::cluster))
            .layer(DefaultBodyLimit::max(COMMAND_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("gramme-admin".into())
            .spawn(move || {
                let served = runtime.block_on(async {
                    let socket = tokio::net::TcpListener::from_std(socket)?;
                    let connections = Connections::new(socket, tls);
                    let serve = async { axum::serve(connections, router).await };
                    tokio::select! {
                        served = serve => served,
                        // A dropped sender ends it too.
                        _ = stopped => Ok(()),
                    }
                });
                if let Err(error) = served {
                    tracing::error!("the admin server has ended: {error}; the node serves on");
                }
            })?;
        Ok(Self {
            shared,
            stop,
            thread,
        })
    }

    /// The shards serve now.
    pub fn serve(&self, engine: Engine) {
        if self.shared.engine.set(engine).is_err() {
            tracing::warn!("the admin server was given shards twice; it keeps the first");
        }
    }

    /// Ends the server.
    pub fn stop(self) {
        // An error says that it has ended already.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the admin server panicked; report this");
        }
    }
}

/// What all pages are made of.
struct Seen {
    shards: Vec<Option<ShardStatus>>,
    failures: Vec<String>,
}

/// Asks the shards, off the server's own thread since a stuck shard takes its time.
async fn look(shared: &Shared) -> Result<Option<Seen>, tokio::task::JoinError> {
    let Some(engine) = shared.engine.get().cloned() else {
        return Ok(None);
    };
    tokio::task::spawn_blocking(move || {
        Some(Seen {
            shards: engine.status(),
            failures: engine.failures(),
        })
    })
    .await
}

/// The page for people: one file, readable without a network, which asks `/status` every second.
async fn console() -> axum::response::Html<&'static str> {
    axum::response::Html(include_str!("console.html"))
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    match look(&shared).await {
        Ok(None) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "starting: the shards recover\n",
        )
            .into_response(),
        Ok(Some(seen)) => {
            let reasons = health::reasons(&seen);
            if reasons.is_empty() {
                let notes = health::notes(&seen);
                let lines = notes.iter().map(|note| format!("note: {note}\n"));
                let text = "serving\n".to_owned() + &lines.collect::<String>();
                (StatusCode::OK, text).into_response()
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
            }
        }
        Err(error) => failed(&error),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match look(&shared).await {
        Ok(seen) => {
            let text = metrics::text(seen.as_ref(), &shared.network, shared.started.elapsed());
            (
                [(
                    header::CONTENT_TYPE,
                    "text/plain; version=0.0.4; charset=utf-8",
                )],
                text,
            )
                .into_response()
        }
        Err(error) => failed(&error),
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    match (
        look(&shared).await,
        ask(&shared, r#"{"command":"status"}"#).await,
    ) {
        (Ok(seen), Ok(cluster)) => {
            let node = shared.engine.get().map(Engine::node);
            let mut page = status::json(&shared, node, seen.as_ref(), shared.started.elapsed());
            status::add_cluster(&mut page, cluster);
            axum::Json(page).into_response()
        }
        (Err(error), _) | (_, Err(error)) => failed(&error),
    }
}

async fn ring(State(shared): State<Arc<Shared>>) -> Response {
    match ask(&shared, r#"{"command":"ring"}"#).await {
        Ok(Some(table)) => axum::Json(table).into_response(),
        Ok(None) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the control shard does not answer (yet)\n",
        )
            .into_response(),
        Err(error) => failed(&error),
    }
}

/// Asks the control shard, off the server's own thread; none where it does not answer.
async fn ask(
    shared: &Shared,
    command: impl AsRef<[u8]> + Send + 'static,
) -> Result<Option<serde_json::Value>, tokio::task::JoinError> {
    let Some(engine) = shared.engine.get().cloned() else {
        return Ok(None);
    };
    let asking = tokio::task::spawn_blocking(move || {
        let answer = engine.operate_blocking(command.as_ref()).ok()?;
        serde_json::from_slice(&answer).ok()
    });
    match tokio::time::timeout(ANSWER_WAIT, asking).await {
        Ok(answer) => answer,
        Err(_) => Ok(None),
    }
}

fn failed(error: &tokio::task::JoinError) -> Response {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("cannot ask the shards: {error}\n"),
    )
        .into_response()
}
