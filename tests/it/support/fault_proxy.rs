//! A proxy between a store and its server that spoils chosen requests. HTTP/1.1, one request per connection.

use std::io::{self, BufRead, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut before the server saw anything.
    Reset,
    /// The server did what was asked, and the answer is lost.
    LostAnswer,
    /// Nothing comes, for longer than anybody should wait.
    Stall,
    /// 500 with S3's words.
    InternalError,
    /// 503 SlowDown with S3's words.
    SlowDown,
    /// The answer's body breaks off in the middle.
    Truncate,
    /// The answer's body comes in its full length, with a byte changed.
    Flip,
    /// A range is answered with the whole object, as servers do that ignore ranges.
    WrongRange,
    /// The answer comes a few bytes at a time.
    Trickle,
    /// 412, as from a server that heeds the condition of a request. No fault of the way: not among `ALL`.
    Condition,
    /// 501, as from a server that knows no conditions. Not among `ALL`.
    NotImplemented,
    /// 403, as for a key that is not there where the role may not list (facts 2.10.9). Not among `ALL`.
    Forbidden,
}

impl Fault {
    pub const ALL: [Self; 9] = [
        Self::Reset,
        Self::LostAnswer,
        Self::Stall,
        Self::InternalError,
        Self::SlowDown,
        Self::Truncate,
        Self::Flip,
        Self::WrongRange,
        Self::Trickle,
    ];
}

/// The first line of a request and its number, counted from 0.
#[derive(Debug, Clone)]
pub struct Seen {
    pub number: usize,
    pub method: String,
    pub target: String,
    /// Its `If-None-Match`.
    pub condition: Option<String>,
}

type Script = Box<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;

struct Shared {
    upstream: SocketAddr,
    script: Mutex<Script>,
    count: AtomicUsize,
    log: Mutex<Vec<(Seen, Option<Fault>)>>,
    stopped: AtomicBool,
}

/// The proxy; it ends when it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl FaultProxy {
    /// A proxy in front of a server of this machine; it spoils nothing yet.
    pub fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            script: Mutex::new(Box::new(|_| None)),
            count: AtomicUsize::new(0),
            log: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if theirs.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&theirs);
                thread::spawn(move || drop(client.and_then(|client| serve(&client, &shared))));
            }
        });
        Self { address, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Decides, from now on and counting from 0 again, what happens to each request.
    pub fn script(&self, script: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
        self.shared.count.store(0, Ordering::SeqCst);
        self.shared.log.lock().unwrap().clear();
    }

    /// The requests since the last script, and what happened to them.
    pub fn log(&self) -> Vec<(Seen, Option<Fault>)> {
        self.shared.log.lock().unwrap().clone()
    }

    /// How many of them were spoilt.
    pub fn spoilt(&self) -> usize {
        self.log().iter().filter(|(_, fault)| fault.is_some()).count()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// A request or an answer as it came.
struct Message {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn read_head(reader: &mut impl BufRead) -> io::Result<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut lines = lines.into_iter();
        let first = lines.next().unwrap_or_default();
        let headers =
            lines.filter_map(|line| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned())));
        Ok(Self { first, headers: headers.collect(), body: Vec::new() })
    }

    fn read_body(&mut self, reader: &mut impl BufRead, ends_with_connection: bool) -> io::Result<()> {
        if self.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case("transfer-encoding"));
            return self.read_chunks(reader);
        }
        match self.header("content-length").and_then(|text| text.parse::<usize>().ok()) {
            Some(length) => {
                self.body = vec![0; length];
                reader.read_exact(&mut self.body)
            }
            None if ends_with_connection => reader.read_to_end(&mut self.body).map(drop),
            None => Ok(()),
        }
    }

    fn read_chunks(&mut self, reader: &mut impl BufRead) -> io::Result<()> {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            self.body.extend_from_slice(&chunk[..size]);
        }
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case("content-length"));
        self.headers.push(("content-length".to_owned(), self.body.len().to_string()));
        Ok(())
    }

    /// Writes it for one connection, its head as it came but for `Connection`.
    fn head(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (key, value) in &self.headers {
            if !key.eq_ignore_ascii_case("connection") && !key.eq_ignore_ascii_case("expect") {
                text.push_str(&format!("{key}: {value}\r\n"));
            }
        }
        text.push_str("connection: close\r\n\r\n");
        text.into_bytes()
    }
}

fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut request = Message::read_head(&mut reader)?;
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        (&mut &*client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.read_body(&mut reader, false)?;
    let mut words = request.first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let condition = request.header("if-none-match").map(str::to_owned);
    let seen = Seen { number: shared.count.fetch_add(1, Ordering::SeqCst), method, target, condition };
    let fault = (shared.script.lock().unwrap())(&seen);
    shared.log.lock().unwrap().push((seen, fault));
    match fault {
        Some(Fault::Reset) => client.shutdown(Shutdown::Both),
        Some(Fault::Stall) => stall(shared),
        Some(Fault::InternalError) => refuse(client, "500 Internal Server Error", "InternalError"),
        Some(Fault::SlowDown) => refuse(client, "503 Slow Down", "SlowDown"),
        Some(Fault::Condition) => refuse(client, "412 Precondition Failed", "PreconditionFailed"),
        Some(Fault::Forbidden) => refuse(client, "403 Forbidden", "AccessDenied"),
        Some(Fault::NotImplemented) => refuse(client, "501 Not Implemented", "NotImplemented"),
        Some(Fault::LostAnswer) => forward(&request, shared).and_then(|_| client.shutdown(Shutdown::Both)),
        Some(Fault::WrongRange) => answer(client, &without_range(forward(&request, shared)?), None),
        Some(Fault::Truncate | Fault::Flip | Fault::Trickle) | None => {
            answer(client, &forward(&request, shared)?, fault)
        }
    }
}

fn stall(shared: &Shared) -> io::Result<()> {
    while !shared.stopped.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn refuse(mut client: &TcpStream, status: &str, code: &str) -> io::Result<()> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>spoilt</Message></Error>");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}

/// Gives the request to the server and reads the whole answer.
fn forward(request: &Message, shared: &Shared) -> io::Result<Message> {
    let mut server = TcpStream::connect(shared.upstream)?;
    server.write_all(&request.head())?;
    server.write_all(&request.body)?;
    let mut reader = BufReader::new(server);
    let mut answer = Message::read_head(&mut reader)?;
    let bodiless =
        request.first.starts_with("HEAD ") || answer.first.contains(" 204 ") || answer.first.contains(" 304 ");
    if !bodiless {
        answer.read_body(&mut reader, true)?;
    }
    Ok(answer)
}

/// The answer of a server that knows no ranges. The range is signed, so that it cannot be taken out of the request: the
/// rest of the object is zeros.
fn without_range(mut answer: Message) -> Message {
    let told = answer.header("content-range").and_then(|text| text.strip_prefix("bytes ")?.split_once('/'));
    let Some((range, total)) = told else { return answer };
    let (start, total) = (range.split('-').next().unwrap_or_default().parse::<usize>(), total.parse::<usize>());
    let (Ok(start), Ok(total)) = (start, total) else { return answer };
    let mut whole = vec![0; total];
    whole[start..start + answer.body.len()].copy_from_slice(&answer.body);
    answer.first = "HTTP/1.1 200 OK".to_owned();
    answer.headers.retain(|(key, _)| !["content-range", "content-length"].contains(&key.to_lowercase().as_str()));
    answer.headers.push(("content-length".to_owned(), total.to_string()));
    answer.body = whole;
    answer
}

fn answer(mut client: &TcpStream, answer: &Message, fault: Option<Fault>) -> io::Result<()> {
    client.write_all(&answer.head())?;
    let mut body = answer.body.clone();
    match fault {
        Some(Fault::Truncate) => {
            client.write_all(&body[..body.len() / 2])?;
            return client.shutdown(Shutdown::Both);
        }
        Some(Fault::Flip) => {
            let middle = body.len() / 2;
            if let Some(byte) = body.get_mut(middle) {
                *byte ^= 1;
            }
        }
        Some(Fault::Trickle) => {
            let piece = body.len().div_ceil(20).max(1);
            for part in body.chunks(piece) {
                client.write_all(part)?;
                thread::sleep(Duration::from_millis(5));
            }
            return Ok(());
        }
        Some(
            Fault::Reset
            | Fault::LostAnswer
            | Fault::Stall
            | Fault::InternalError
            | Fault::SlowDown
            | Fault::WrongRange
            | Fault::Condition
            | Fault::NotImplemented
            | Fault::Forbidden,
        )
        | None => {}
    }
    client.write_all(&body)
}
