//! The threads of a journey. They end when their work is done, and when those they work for are gone.

use std::io;
use std::sync::Arc;

use super::broken::Broken;
use super::flow::{Inflow, Outflow};
use super::meter::{Meter, Stage};
use crate::base::clock;

/// Starts a thread; nobody waits for it: it tells its end through what it sends.
pub(super) fn start(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

/// Starts a thread that turns one stream into another. It must read to the end: what is left over is damage.
pub(super) fn turn(
    (mut from, mut to): (Inflow, Outflow),
    (meter, stage): (Arc<Meter>, Stage),
    body: impl FnOnce(&mut Inflow, &mut Outflow) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    start("transfer-stage", move || {
        let (began, failure) = (clock::monotonic(), from.failure());
        let turned = body(&mut from, &mut to);
        let ended = turned.and_then(|()| match from.next()? {
            None => Ok(()),
            Some(_) => Err(Broken::damaged("more bytes follow after its end").into()),
        });
        let waited = from.waited() + to.waited();
        meter.worked_at_least(stage, began.elapsed().saturating_sub(waited));
        // What the sender failed with, not what a decoder made of it.
        to.finish(failure.take().map_or(ended, Err));
    })
}
