//! What a program writes, as a stream, without a copy on disk.
//!
//! The program writes to a named pipe in the attempt's own folder and runs under a supervisor like any other: cancelled
//! with the attempt, ended with the engine. The stream ends only after the program has ended well. One that fails, or
//! is killed, makes the last read an error, so that nobody takes what came so far for the whole.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::pipe::fcntl_setpipe_size;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::action::{ActionError, ByteStream, CommandSpec, RunContext, Tie};
use crate::actions::postgres::cluster::program::failed;

/// What the system keeps in the pipe: fewer switches between the program and us.
const PIPE_BYTES: usize = 1 << 20;

/// The reading end.
struct NamedPipe {
    pipe: pipe::Receiver,
    ended: Option<oneshot::Receiver<()>>,
}

impl AsyncRead for NamedPipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buffer))?;
        if buffer.filled().len() > before || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // Nothing more comes; whether that was all, only the program's end can tell.
        let Some(ended) = &mut self.ended else { return Poll::Ready(Ok(())) };
        let well = ready!(Pin::new(ended).poll(cx));
        self.ended = None;
        Poll::Ready(well.map_err(|_| io::Error::other("the program that wrote it did not end well")))
    }
}

/// Runs a program that writes to a path, and gives what it writes to `take`. `command` is told the path.
///
/// # Errors
/// Fails as the program does, with its last lines, else as `take` does.
pub(crate) async fn pour<T, F>(
    cx: &RunContext,
    command: impl FnOnce(&Path) -> CommandSpec,
    take: impl FnOnce(ByteStream) -> F,
) -> Result<T, ActionError>
where
    F: Future<Output = Result<T, ActionError>>,
{
    let path = cx.attempt_dir.join("program.pipe");
    let piped = open(&path, cx);
    let (receiver, sender) =
        piped.map_err(|error| ActionError::retryable("the pipe to a program cannot be made").because(&error))?;
    let spec = command(&path);
    let program = spec.program.clone();
    let (tell, ended) = oneshot::channel();
    let mut taking = Box::pin(take(Box::new(NamedPipe { pipe: receiver, ended: Some(ended) })));
    let mut running = cx.host.run(spec, Tie::Engine);
    // While we hold a writing end ourselves, the program may open its own whenever it likes.
    let output = tokio::select! {
        output = &mut running => output,
        // Whoever takes gave up: dropping the program's session ends it.
        taken = &mut taking => return close(&path, cx, taken),
    };
    drop(sender);
    let result = match output {
        Ok(output) if output.success() => {
            // The other end may have given up by itself.
            let _ = tell.send(());
            taking.await
        }
        Ok(output) => {
            let error = ActionError::retryable(format!("`{program}` failed"));
            Err(error.process(output.exit_code, output.tail(20)))
        }
        Err(error) => Err(failed(&program, &error)),
    };
    close(&path, cx, result)
}

fn open(path: &Path, cx: &RunContext) -> io::Result<(pipe::Receiver, pipe::Sender)> {
    let files = cx.host.files();
    let made = files.facts(path).and_then(|found| match found {
        Some(_) => files.remove_file(path),
        None => Ok(()),
    });
    made.and_then(|()| files.make_pipe(path)).map_err(io::Error::other)?;
    let receiver = pipe::OpenOptions::new().open_receiver(path)?;
    // A system that refuses keeps its own size.
    let _ = fcntl_setpipe_size(&receiver, PIPE_BYTES);
    let sender = pipe::OpenOptions::new().open_sender(path)?;
    Ok((receiver, sender))
}

fn close<T>(path: &Path, cx: &RunContext, result: Result<T, ActionError>) -> Result<T, ActionError> {
    // It lies in a folder of the attempt's own; the next program makes it anew.
    let _ = cx.host.files().remove_file(path);
    result
}
