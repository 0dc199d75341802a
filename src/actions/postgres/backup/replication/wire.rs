//! A connection that speaks the replication protocol: messages in order, warnings kept apart.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect as _};

use super::login::Identity;
use super::message::{self, Complaint, Message};
use crate::action::ActionError;
use crate::actions::postgres::session::connect::{Endpoint, KEPT_ALIVE, KeptAlive};
use crate::language::inventory::SslMode;

/// How much is asked of the system at once.
const READ_BYTES: usize = 256 << 10;
/// How much goes to the server in one message.
const SEND_BYTES: usize = 256 << 10;
/// No message is longer: the server sends its data in pieces of 32 KiB.
const MOST_BYTES: usize = 64 << 20;
/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection. Dropping it ends whatever it asked for.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
    shown: String,
    warnings: Vec<Complaint>,
}

/// What the server answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// A row.
    Row(Vec<Option<String>>),
    /// A result, or one part of it, is complete.
    Complete,
    /// Data follow.
    CopyBegins,
    /// It waits for data.
    CopyWanted,
    /// Data.
    Copy(Bytes),
    /// No more data.
    CopyEnds,
    /// It refuses.
    Refused(Complaint),
    /// It is ready for another command.
    Ready,
}

impl Wire {
    /// Connects as a client of physical replication.
    ///
    /// # Errors
    /// Retryable when nobody answers, fatal when the server refuses us.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, ActionError> {
        let shown = endpoint.shown().to_owned();
        let late = ActionError::retryable(format!("{shown} does not answer within 10s"));
        let connected = tokio::time::timeout(CONNECT_WITHIN, stream(endpoint)).await.map_err(|_| late)?;
        let mut wire = Self { stream: connected?, incoming: BytesMut::new(), shown, warnings: Vec::new() };
        let config = endpoint.config();
        let user = config.get_user().unwrap_or("postgres");
        let parameters =
            [("user", user), ("replication", "true"), ("application_name", "runbook"), ("client_encoding", "UTF8")];
        let mut start = BytesMut::new();
        frontend::startup_message(parameters, &mut start).map_err(|error| wire.lost(&error))?;
        wire.send(&start).await?;
        Identity { user, password: config.get_password() }.prove(&mut wire).await?;
        Ok(wire)
    }

    /// What is connected, for messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The warnings so far.
    pub(super) fn warnings(&self) -> &[Complaint] {
        &self.warnings
    }

    /// Sends a command.
    pub(super) async fn ask(&mut self, command: &str) -> Result<(), ActionError> {
        let mut bytes = BytesMut::new();
        frontend::query(command, &mut bytes).map_err(|error| self.lost(&error))?;
        self.send(&bytes).await
    }

    /// Runs a command that answers with rows.
    ///
    /// # Errors
    /// Fails as the server does.
    pub(crate) async fn rows(&mut self, command: &str) -> Result<Vec<Vec<Option<String>>>, ActionError> {
        self.ask(command).await?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            match self.reply().await? {
                Reply::Row(row) => rows.push(row),
                Reply::Complete => {}
                Reply::Refused(complaint) => refused = Some(complaint),
                Reply::Ready => return refused.map_or(Ok(rows), |complaint| Err(complaint.into_error(&self.shown))),
                Reply::CopyBegins | Reply::CopyWanted | Reply::Copy(_) | Reply::CopyEnds => {
                    return Err(self.nonsense("data"));
                }
            }
        }
    }

    /// Gives the server the manifest of the backup that the next one is an increment to.
    ///
    /// # Errors
    /// Fails as the server does: before PostgreSQL 17 it knows no such command.
    pub(crate) async fn upload_manifest(&mut self, manifest: &[u8]) -> Result<(), ActionError> {
        self.ask("UPLOAD_MANIFEST").await?;
        let mut refused = None;
        loop {
            match self.reply().await? {
                Reply::CopyWanted => self.give(manifest).await?,
                Reply::Complete => {}
                Reply::Refused(complaint) => refused = Some(complaint),
                Reply::Ready => return refused.map_or(Ok(()), |complaint| Err(complaint.into_error(&self.shown))),
                Reply::Row(_) | Reply::CopyBegins | Reply::Copy(_) | Reply::CopyEnds => {
                    return Err(self.nonsense("data"));
                }
            }
        }
    }

    /// Sends data that the server waits for.
    async fn give(&mut self, data: &[u8]) -> Result<(), ActionError> {
        let mut bytes = BytesMut::new();
        for piece in data.chunks(SEND_BYTES) {
            let piece = frontend::CopyData::new(piece).map_err(|error| self.lost(&error))?;
            piece.write(&mut bytes);
            self.send(&bytes).await?;
            bytes.clear();
        }
        frontend::copy_done(&mut bytes);
        self.send(&bytes).await
    }

    /// The next answer.
    pub(super) async fn reply(&mut self) -> Result<Reply, ActionError> {
        loop {
            let Message { tag, body } = self.message().await?;
            return Ok(match tag {
                b'd' => Reply::Copy(body),
                b'D' => Reply::Row(message::row(body).ok_or_else(|| self.nonsense("a row that breaks off"))?),
                b'C' => Reply::Complete,
                b'H' => Reply::CopyBegins,
                b'G' => Reply::CopyWanted,
                b'c' => Reply::CopyEnds,
                b'E' => Reply::Refused(Complaint::parse(body)),
                b'Z' => Reply::Ready,
                b'N' => {
                    self.warnings.push(Complaint::parse(body));
                    continue;
                }
                // What describes columns and parameters tells nothing new here.
                b'T' | b'S' | b'K' | b'A' => continue,
                other => return Err(self.nonsense(&format!("a message of the kind `{}`", char::from(other)))),
            });
        }
    }

    /// The next message.
    pub(super) async fn message(&mut self) -> Result<Message, ActionError> {
        loop {
            if let Some(header) = self.incoming.first_chunk::<5>() {
                let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
                if !(4..=MOST_BYTES).contains(&length) {
                    return Err(self.nonsense(&format!("a message of {length} bytes")));
                }
                if self.incoming.len() > length {
                    let tag = self.incoming.get_u8();
                    let mut body = self.incoming.split_to(length).freeze();
                    body.advance(4);
                    return Ok(Message { tag, body });
                }
            }
            self.incoming.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.incoming).await;
            if read.map_err(|error| self.lost(&error))? == 0 {
                return Err(self.lost(&io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Sends bytes.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), ActionError> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| self.lost(&error))
    }

    /// The connection broke.
    pub(super) fn lost(&self, error: &io::Error) -> ActionError {
        ActionError::retryable(format!("the connection to {} is lost, or it does not answer", self.shown))
            .because(error)
    }

    /// The server says what the protocol does not know.
    pub(super) fn nonsense(&self, what: &str) -> ActionError {
        ActionError::fatal(format!("{} sent {what} where the replication protocol has none", self.shown))
            .help("see that PostgreSQL itself answers there, and no pooler")
    }
}

/// Opens what the messages travel through.
async fn stream(endpoint: &Endpoint) -> Result<Box<dyn Stream>, ActionError> {
    let config = endpoint.config();
    let lost = |error: &io::Error| {
        ActionError::retryable(format!("the connection to {} is lost, or it does not answer", endpoint.shown()))
            .because(error)
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    if let Some(Host::Unix(folder)) = config.get_hosts().first() {
        let path = folder.join(format!(".s.PGSQL.{port}"));
        let stream = UnixStream::connect(path).await.map_err(|error| lost(&error))?;
        return Ok(Box::new(stream));
    }
    let name = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(_)) | None => "localhost".to_owned(),
    };
    let connected = match config.get_hostaddrs().first() {
        Some(address) => TcpStream::connect((*address, port)).await,
        None => TcpStream::connect((name.as_str(), port)).await,
    };
    let tcp = connected.and_then(kept_alive).map_err(|error| lost(&error))?;
    match endpoint.tls().mode() {
        SslMode::Disable => Ok(Box::new(tcp)),
        SslMode::Prefer | SslMode::Require | SslMode::VerifyFull => encrypted(endpoint, tcp, &name).await,
    }
}

/// Has the system find out when the server's machine is gone: its data would be waited for without an end.
fn kept_alive(tcp: TcpStream) -> io::Result<TcpStream> {
    let KeptAlive { idle, interval, probes } = KEPT_ALIVE;
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&tcp, true)?;
    sockopt::set_tcp_keepidle(&tcp, idle)?;
    sockopt::set_tcp_keepintvl(&tcp, interval)?;
    sockopt::set_tcp_keepcnt(&tcp, probes)?;
    Ok(tcp)
}

/// Asks for TLS, as libpq does.
async fn encrypted(endpoint: &Endpoint, mut tcp: TcpStream, name: &str) -> Result<Box<dyn Stream>, ActionError> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        ActionError::fatal(format!("no TLS with {}", endpoint.shown())).because(error)
    };
    let mut ask = BytesMut::new();
    frontend::ssl_request(&mut ask);
    tcp.write_all(&ask).await.map_err(|error| failed(&error))?;
    if tcp.read_u8().await.map_err(|error| failed(&error))? != b'S' {
        return match endpoint.tls().mode() {
            SslMode::Prefer => Ok(Box::new(tcp)),
            SslMode::Disable | SslMode::Require | SslMode::VerifyFull => {
                let fact = format!("{} speaks no TLS, and `sslmode` wants it", endpoint.shown());
                Err(ActionError::fatal(fact).help("set `ssl = on` in the server's configuration"))
            }
        };
    }
    let mut maker = endpoint.tls().connector()?;
    let connect = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut maker, name).map_err(|error| failed(&error))?;
    let stream = connect.connect(tcp).await.map_err(|error| failed(&error))?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt;
    use tokio::net::{TcpListener, TcpStream};

    use super::{KEPT_ALIVE, kept_alive};

    #[tokio::test]
    async fn the_system_asks_whether_a_silent_server_is_still_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        let plain = TcpStream::connect(address).await.expect("a connection");
        assert!(!sockopt::socket_keepalive(&plain).expect("the option"), "the system does not do so by itself");
        let kept = kept_alive(plain).expect("options");
        assert!(sockopt::socket_keepalive(&kept).expect("the option") && kept.nodelay().expect("the option"));
        let asked = (
            sockopt::tcp_keepidle(&kept).expect("the option"),
            sockopt::tcp_keepintvl(&kept).expect("the option"),
            sockopt::tcp_keepcnt(&kept).expect("the option"),
        );
        assert_eq!(asked, (KEPT_ALIVE.idle, KEPT_ALIVE.interval, KEPT_ALIVE.probes));
    }
}
