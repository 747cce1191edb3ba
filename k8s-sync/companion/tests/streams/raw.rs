//! A client that sends what no agent sends.

use crate::bed::{Companion, TOKEN};
use bytes::Bytes;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use join::message::{FromAgent, FromCompanion, Part, Says};
use join::{Me, Reason, Token, grpc};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;

pub async fn tls(companion: &Companion) -> TlsStream<TcpStream> {
    let ticket = companion.ca.ticket(companion.address, TOKEN);
    let tcp = TcpStream::connect(companion.address).await.unwrap();
    TlsConnector::from(ticket.tls).connect(ticket.server_name, tcp).await.unwrap()
}

/// Sends these messages on a call of its own; what the companion answers to the first, and how it
/// ends.
pub async fn says(companion: &Companion, messages: Vec<FromAgent>) -> (Option<FromCompanion>, Option<Status>) {
    let io = TokioIo::new(tls(companion).await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection: JoinHandle<()> = tokio::spawn(async move { drop(connection.await) });
    let service = tower::service_fn(move |request: Request<tonic::body::Body>| sender.clone().send_request(request));
    let mut call = tonic::client::Grpc::with_origin(service, "https://companion".parse().unwrap());
    let mut request = tonic::Request::new(futures_util::stream::iter(messages));
    let bearer = Token::new(TOKEN).unwrap().bearer().parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let path = hyper::http::uri::PathAndQuery::from_static(grpc::PUSH);
    let mut answers = call.streaming(request, path, grpc::agent_codec()).await.unwrap().into_inner();
    let mut first = None;
    let ended = loop {
        match answers.message().await {
            Ok(Some(answer)) => drop(first.get_or_insert(answer)),
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    connection.abort();
    (first, ended)
}

fn hello() -> FromAgent {
    Says::Hello(Me::new("0.2.0", 77).hello("n1")).into()
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_its_stream_and_no_other() {
    let companion = Companion::new().await;
    let long = Part { generation: 1, last: true, entries: Bytes::from(vec![0; 2 << 20]), ..Part::default() };
    let (welcome, ended) = says(&companion, vec![hello(), Says::Part(long).into()]).await;
    assert!(welcome.is_some());
    let ended = ended.expect("an error");
    assert!(ended.message().contains("too large"), "{ended:?}");
    assert_eq!(companion.counts().refused[Reason::Protocol.index()], 1);
    assert_eq!(companion.agents().len(), 1);
}

#[tokio::test]
async fn a_stream_that_does_not_greet_or_greets_twice_is_ended() {
    let companion = Companion::new().await;
    let part = || FromAgent::from(Says::Part(Part { generation: 1, last: true, ..Part::default() }));
    for messages in [vec![part()], vec![hello(), hello()]] {
        let ended = says(&companion, messages).await.1.expect("an error");
        assert_eq!(ended.message(), "a stream begins with one greeting");
    }
    let damaged = Part { entries: Bytes::from_static(b"\xff\xff"), generation: 1, last: true, ..Part::default() };
    let ended = says(&companion, vec![hello(), Says::Part(damaged).into()]).await.1.expect("an error");
    assert_eq!(ended.message(), "the part is damaged");
    assert_eq!(companion.counts().refused[Reason::Protocol.index()], 3);
}

#[tokio::test]
async fn a_message_of_a_later_version_is_passed_over() {
    let companion = Companion::new().await;
    let part = FromAgent::from(Says::Part(Part { generation: 1, last: true, ..Part::default() }));
    let (welcome, ended) = says(&companion, vec![hello(), FromAgent::default(), part]).await;
    assert!(welcome.is_some() && ended.is_none(), "{ended:?}");
    assert_eq!(companion.counts().pushes, 1);
}
