//! Waits for many small reads at once.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Runs the futures, at most `width` at a time, and gives what they gave in their order.
pub(super) async fn together<F: Future>(futures: Vec<F>, width: usize) -> Vec<F::Output> {
    let mut waiting = futures.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> =
        waiting.by_ref().take(width.max(1)).map(|(at, future)| (at, Box::pin(future))).collect();
    let mut done = BTreeMap::new();
    poll_fn(|cx| {
        let mut next = 0;
        while let Some((at, future)) = running.get_mut(next) {
            match future.as_mut().poll(cx) {
                Poll::Pending => next += 1,
                Poll::Ready(output) => {
                    done.insert(*at, output);
                    running.swap_remove(next);
                    running.extend(waiting.next().map(|(at, future)| (at, Box::pin(future))));
                }
            }
        }
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_values().collect()
}
