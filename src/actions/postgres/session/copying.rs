//! Rows from one session into another, or to us, as `COPY` text, without a copy on disk.

use std::fs::File;
use std::future::poll_fn;
use std::io::{BufWriter, Write as _};
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_postgres::Error;

use super::connect::{Driver, Session, refused};
use crate::action::ActionError;

/// What every session that gives or takes rows is set to, so that one text means one value in both.
pub(crate) const SAME_TEXT: &str = "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 3; \
 SET bytea_output = 'hex'; SET timezone = 'UTC'; SET client_encoding = 'UTF8'; SET xmloption = 'content'; SET lc_monetary = 'C'; \
 SET row_security = off";

/// Whose fault it was.
enum Failed {
    From(Error),
    Into(Error),
}

/// Copies what a `COPY … TO STDOUT` gives into a `COPY … FROM STDIN`. Gives the number of rows.
///
/// # Errors
/// Fails as either server says.
pub(crate) async fn copy(
    (from, give): (&mut Session, &str),
    (into, take): (&mut Session, &str),
) -> Result<u64, ActionError> {
    let (giver, taker) = (&from.client, &into.client);
    let work = async {
        let rows = giver.copy_out(give).await.map_err(Failed::From)?;
        let sink = taker.copy_in::<_, Bytes>(take).await.map_err(Failed::Into)?;
        tokio::pin!(rows, sink);
        while let Some(chunk) = rows.next().await {
            sink.send(chunk.map_err(Failed::From)?).await.map_err(Failed::Into)?;
        }
        sink.as_mut().finish().await.map_err(Failed::Into)
    };
    let done = with_drivers([&mut from.driver, &mut into.driver], work).await;
    done.map_err(|failed| match failed {
        Failed::From(error) => refused(&from.shown, &error),
        Failed::Into(error) => refused(&into.shown, &error),
    })
}

/// Writes what a `COPY … TO STDOUT` gives.
///
/// # Errors
/// Fails as the server says, or when it cannot be written.
pub(crate) async fn write(
    (from, give): (&mut Session, &str),
    to: &mut BufWriter<File>,
    unwritten: fn(std::io::Error) -> ActionError,
) -> Result<(), ActionError> {
    let (giver, shown) = (&from.client, from.shown.as_str());
    let work = async {
        let rows = giver.copy_out(give).await.map_err(|error| refused(shown, &error))?;
        tokio::pin!(rows);
        while let Some(chunk) = rows.next().await {
            to.write_all(&chunk.map_err(|error| refused(shown, &error))?).map_err(unwritten)?;
        }
        Ok(())
    };
    with_drivers([&mut from.driver], work).await
}

/// Waits for `work` while the connections it uses are driven.
async fn with_drivers<T, const N: usize>(mut drivers: [&mut Option<Driver>; N], work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    poll_fn(|cx| {
        for driver in &mut drivers {
            let ended = driver.as_mut().is_some_and(|running| Pin::new(running).poll(cx).is_ready());
            if ended {
                // The work sees a closed connection, and says so.
                **driver = None;
            }
        }
        work.as_mut().poll(cx)
    })
    .await
}
