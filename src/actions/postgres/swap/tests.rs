#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
use super::There::{No, Yes};
use super::*;

fn seen(live: There, kept: There, staged: There) -> Seen {
    Seen { live, kept, staged }
}

#[test]
fn a_swap_passes_through_aside_and_in_to_done() {
    assert_eq!(next(seen(Yes, No, Yes)), Ok(Move::Aside));
    assert_eq!(next(seen(No, Yes, Yes)), Ok(Move::In));
    assert_eq!(next(seen(Yes, Yes, No)), Ok(Move::Done));
}

#[test]
fn a_destroyed_data_directory_needs_no_move_aside() {
    assert_eq!(next(seen(No, No, Yes)), Ok(Move::In));
    assert_eq!(next(seen(Yes, No, No)), Ok(Move::Done));
}

#[test]
fn a_folder_that_appeared_meanwhile_is_never_overwritten() {
    assert_eq!(next(seen(Yes, Yes, Yes)), Err(SwapError::Intruder));
}

#[test]
fn nothing_to_put_in_is_said_and_not_done() {
    assert_eq!(next(seen(No, Yes, No)), Err(SwapError::Lost));
    assert_eq!(next(seen(No, No, No)), Err(SwapError::Lost));
}

#[test]
fn every_state_after_a_move_leads_on_and_none_back() {
    for kept in [No, Yes] {
        let mut state = seen(if kept == No { Yes } else { No }, kept, Yes);
        let mut moves = Vec::new();
        loop {
            let step = next(state).unwrap();
            moves.push(step);
            match step {
                Move::Aside => state = seen(No, Yes, state.staged),
                Move::In => state = seen(Yes, state.kept, No),
                Move::Done => break,
            }
        }
        assert_eq!(moves.last(), Some(&Move::Done));
        assert!(moves.len() <= 3);
    }
}
