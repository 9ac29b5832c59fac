//! `POST /cluster`: an operator's command, the same JSON that `gramme cluster` sends over the native protocol, for whoever
//! says the token (`Authorization: Bearer TOKEN`).
//!
//! Where the node has no token there is no such thing: a browser's page could ask for it as well as an operator.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Shared, ask, failed};

pub(super) async fn cluster(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    command: Bytes,
) -> Response {
    let Some(token) = &shared.facts.admin_token else {
        let why = "this node has no operators' token, so nothing is changed over HTTP; set GRAMME_ADMIN_TOKEN or \
                   auth.admin_token_file, or use gramme cluster\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    };
    let said = headers.get(header::AUTHORIZATION);
    let said = said.and_then(|said| said.as_bytes().strip_prefix(b"Bearer "));
    if !said.is_some_and(|said| token.is(said)) {
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            "say the operators' token: Authorization: Bearer TOKEN\n",
        )
            .into_response();
    }
    match ask(&shared, command).await {
        Ok(Some(answer)) => {
            let status = if answer["error"].is_null() {
                StatusCode::OK
            } else if answer["is_usage"] == true {
                StatusCode::BAD_REQUEST
            } else {
                StatusCode::CONFLICT
            };
            (status, axum::Json(answer)).into_response()
        }
        Ok(None) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the control shard did not answer; look at the cluster's status, and give the command again\n",
        )
            .into_response(),
        Err(error) => failed(&error),
    }
}
