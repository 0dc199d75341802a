//! Several pieces of work at once, no more than a bound, without a task of their own.

use std::pin::Pin;
use std::task::Poll;

/// Works on all items, at most `width` at once, and gives the results in the order they were ready.
pub(in crate::actions) async fn each<I, T, F: Future<Output = T>>(
    width: usize,
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> F,
) -> Vec<T> {
    let mut waiting = items.into_iter();
    let mut at_work: Vec<Pin<Box<F>>> = waiting.by_ref().take(width.max(1)).map(|item| Box::pin(work(item))).collect();
    let mut done = Vec::new();
    std::future::poll_fn(move |cx| {
        let mut at = 0;
        while at < at_work.len() {
            match at_work[at].as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(result) => {
                    done.push(result);
                    match waiting.next() {
                        Some(item) => at_work[at] = Box::pin(work(item)),
                        None => drop(at_work.swap_remove(at)),
                    }
                }
            }
        }
        if at_work.is_empty() { Poll::Ready(std::mem::take(&mut done)) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::each;

    #[tokio::test]
    async fn everything_is_done_and_never_more_than_the_bound_at_once() {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let (now, most) = (&now, &most);
        let mut done = each(3, 0..20, |item| async move {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            tokio::task::yield_now().await;
            now.set(now.get() - 1);
            item
        })
        .await;
        done.sort_unstable();
        assert_eq!(done, (0..20).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
    }
}
