//! The objects of one backup that are under way: while a store still makes one durable, the next one is begun already.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::delivery::{Arrivals, Brought};

/// Objects on their way. They go on only while something is waited for here.
#[derive(Default)]
pub(crate) struct Uploads<'a> {
    bringing: FuturesUnordered<BoxFuture<'a, (usize, Brought)>>,
    brought: BTreeMap<usize, Brought>,
    sent: usize,
    kept: usize,
}

impl<'a> Uploads<'a> {
    /// Sends another object after the others.
    pub(crate) fn send(&mut self, object: impl Future<Output = Brought> + Send + 'a) {
        let number = self.sent;
        self.sent += 1;
        self.bringing.push(Box::pin(async move { (number, object.await) }));
    }

    /// Does some work while the objects go on.
    pub(crate) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some((number, brought)) = self.bringing.next() => drop(self.brought.insert(number, brought)),
            }
        }
    }

    /// Keeps what has come of the objects so far, in the order in which they were sent.
    pub(crate) fn keep(&mut self, arrivals: &mut Arrivals) {
        while let Some(brought) = self.brought.remove(&self.kept) {
            arrivals.keep(brought);
            self.kept += 1;
        }
    }

    /// Waits for all of them and keeps what came of them.
    pub(crate) async fn arrive(&mut self, arrivals: &mut Arrivals) {
        while let Some((number, brought)) = self.bringing.next().await {
            self.brought.insert(number, brought);
        }
        self.keep(arrivals);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_second_arrives_while_the_first_waits_and_both_are_kept_in_order() {
        let (mut uploads, mut arrivals) = (Uploads::default(), Arrivals::new(&[]));
        let (tell, told) = oneshot::channel::<()>();
        uploads.send(async move {
            assert!(told.await.is_ok(), "told");
            Vec::new()
        });
        let (arrived, seen) = oneshot::channel::<()>();
        uploads.send(async move {
            assert!(arrived.send(()).is_ok(), "waited for");
            Vec::new()
        });
        uploads.meanwhile(seen).await.expect("the second has come");
        uploads.keep(&mut arrivals);
        assert_eq!(
            (uploads.kept, uploads.bringing.len() + uploads.brought.len()),
            (0, 2),
            "the first is still under way"
        );
        tell.send(()).expect("somebody waits");
        uploads.arrive(&mut arrivals).await;
        assert_eq!(uploads.kept, 2);
    }
}
