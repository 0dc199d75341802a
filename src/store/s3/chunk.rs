//! Fetches one chunk of an object, and goes on where it broke off.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;

use super::download::Source;
use super::error::{Verdict, causes, verdict};

/// How often a chunk is asked for, beside the client's own attempts to get an answer.
const ATTEMPTS: u32 = 6;
const BACKOFF: Duration = Duration::from_millis(200);

/// Fetches a chunk of the pinned content; `begun` is an answer that is there already.
pub(super) async fn fetch(source: Arc<Source>, range: Range<u64>, begun: Option<Body>) -> io::Result<Bytes> {
    let wanted = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let stall = source.session.patience().stall();
    let mut got = source.buffers.take(wanted);
    let mut body = begun;
    let mut attempt = 0;
    loop {
        let opened = match body.take() {
            Some(body) => Ok(body),
            None => match source.ask(range.start + got.len() as u64..range.end).await {
                Ok(answer) if !source.is_pinned(&answer) => return Err(io::Error::other(source.replaced())),
                answer => answer.map(|answer| answer.body),
            },
        };
        let failure = match opened {
            Ok(body) => match collect(body, &mut got, (wanted, stall)).await {
                Ok(()) => return Ok(source.buffers.lend(got)),
                Err(error) => source.broke(error),
            },
            Err(error) if verdict(&error) == Verdict::Passing => io::Error::other(source.failed(&error).await),
            Err(error) => return Err(io::Error::other(source.failed(&error).await)),
        };
        attempt += 1;
        if attempt == ATTEMPTS || got.len() > wanted {
            return Err(failure);
        }
        tokio::time::sleep(pause(attempt)).await;
    }
}

/// Appends a body until the chunk is whole.
async fn collect(mut body: Body, got: &mut Vec<u8>, (wanted, stall): (usize, Duration)) -> io::Result<()> {
    loop {
        match tokio::time::timeout(stall, body.next()).await {
            Ok(Some(Ok(bytes))) => got.extend_from_slice(&bytes),
            Ok(Some(Err(error))) => return Err(io::Error::new(io::ErrorKind::ConnectionReset, causes(&error))),
            Ok(None) if got.len() == wanted => return Ok(()),
            Ok(None) => {
                let words = format!("the body ended {} bytes short", wanted.saturating_sub(got.len()));
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
            }
            Err(_) => {
                let words = format!("no byte came for {} s", stall.as_secs_f64());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
        }
        if got.len() > wanted {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the body has more bytes than were asked for"));
        }
    }
}

/// How long to wait before the next attempt: twice as long each time, spread at random.
fn pause(attempt: u32) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1000;
    let longest = BACKOFF * 2_u32.pow(attempt.min(6));
    longest.mul_f64(0.5 + random_share(random))
}

fn random_share(thousandths: u64) -> f64 {
    f64::from(u32::try_from(thousandths).unwrap_or_default()) / 2000.0
}
