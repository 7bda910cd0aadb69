//! The metrics page. It is read by programs on a schedule, and must not suffer from whoever else
//! connects.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::status::Running;
use super::{accept, exposition};

/// Connections at one time; for one more the oldest is closed, so that silent connections
/// keep nobody out.
const CONNECTIONS: usize = 32;
/// From the first byte to the last of one request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD: usize = 8192;

/// Answers until the task is dropped.
pub(super) async fn serve(listener: TcpListener, running: Rc<Running>) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::with_capacity(CONNECTIONS);
    loop {
        let stream = accept(|| listener.accept()).await;
        open.retain(|connection| !connection.is_finished());
        if open.len() == CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let running = running.clone();
        open.push_back(tokio::task::spawn_local(async move {
            // What is not done by then is not worth a place.
            let _expired = tokio::time::timeout(REQUEST_TIMEOUT, connection(stream, running)).await;
        }));
    }
}

async fn connection(stream: TcpStream, running: Rc<Running>) {
    let service = service_fn(move |request| {
        let response = respond(&request, &running);
        async move { Ok::<_, Infallible>(response) }
    });
    // The peer's mistakes are the peer's to see, in the status it got or the connection that
    // closed.
    let _result = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn respond(request: &Request<Incoming>, running: &Running) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let mut response = text(StatusCode::OK, exposition::page(running));
            response.headers_mut().insert(
                CONTENT_TYPE,
                hyper::header::HeaderValue::from_static(exposition::CONTENT_TYPE),
            );
            response
        }
        "/" => text(StatusCode::OK, "bootstorm: the metrics are at /metrics\n".to_owned()),
        _ => text(StatusCode::NOT_FOUND, "not here; the metrics are at /metrics\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
