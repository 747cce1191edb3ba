//! Answers each stream: calls with the code that they ask for, other requests with the status.

use anyhow::Result;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("0.0.0.0:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A client that goes away is no matter of ours.
            let _ = connection(stream).await;
        });
    }
}

async fn connection(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(asked) = connection.accept().await {
        let (request, respond) = asked?;
        tokio::spawn(async move {
            let _ = answer(request, respond).await;
        });
    }
    Ok(())
}

/// `/wants.Code/<code>?<size>` is a call, `/status/<status>?<size>` another request.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
    let (parts, mut body) = request.into_parts();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let number: u16 = parts.uri.path().rsplit('/').next().unwrap_or_default().parse()?;
    let size: usize = parts.uri.query().unwrap_or_default().parse()?;
    if !parts.uri.path().starts_with("/wants.Code/") {
        let response = Response::builder().status(number).body(())?;
        respond.send_response(response, size == 0)?.send_data(vec![b'.'; size].into(), true).ok();
        return Ok(());
    }
    let response = Response::builder().header("content-type", "application/grpc+proto");
    if number != 0 {
        // As a server does that refuses: fields alone.
        respond.send_response(response.header("grpc-status", number).body(())?, true)?;
        return Ok(());
    }
    let mut stream = respond.send_response(response.body(())?, false)?;
    let message = [&[0][..], &u32::try_from(size)?.to_be_bytes(), &vec![b'.'; size]].concat();
    stream.send_data(message.into(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(number));
    stream.send_trailers(trailers)?;
    Ok(())
}
