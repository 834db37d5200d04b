//! Bug class: one client's crowd holds up another, or a turn is lost with who waited for it.

use std::{collections::VecDeque, net::IpAddr};

use futures_util::{FutureExt as _, future::BoxFuture};
use proptest::prelude::*;

use super::*;

fn turns_of(count: usize) -> Turns {
    Turns::new(count, "download", &Metrics::new())
}

fn client(number: u32) -> Whose {
    Whose::Client(IpAddr::from(number.to_be_bytes()))
}

fn wait(turns: &Turns, crowd: &Arc<Crowd>) -> BoxFuture<'static, Turn> {
    let (turns, crowd) = (turns.clone(), Arc::clone(crowd));
    let mut waiting = async move { turns.turn(&crowd).await }.boxed();
    // To stand in line is to have been polled.
    assert!((&mut waiting).now_or_never().is_none(), "none is free");
    waiting
}

fn wait_for(turns: &Turns, number: u32) -> BoxFuture<'static, Turn> {
    wait(turns, &Arc::new(Crowd::of(client(number))))
}

fn take(turns: &Turns) -> Turn {
    turns.turn(&Crowd::of(client(0))).now_or_never().expect("one is free")
}

/// How many are free, which is all when nobody has one; and that nobody waits.
fn free(turns: &Turns) -> usize {
    let state = turns.lock();
    assert!(state.round.is_empty() && state.lines.is_empty());
    state.free
}

#[test]
fn who_comes_behind_a_thousand_of_another_client_is_next_but_one() {
    let turns = turns_of(2);
    let mut held = VecDeque::from([take(&turns), take(&turns)]);
    let mut crowd: VecDeque<_> = (0..1000).map(|_| wait_for(&turns, 1)).collect();
    let mut newcomer = wait_for(&turns, 2);
    held.pop_front();
    held.extend(crowd.pop_front().expect("a thousand").now_or_never());
    assert_eq!(held.len(), 2, "the first of the thousand");
    assert!((&mut newcomer).now_or_never().is_none());
    held.pop_front();
    held.push_back((&mut newcomer).now_or_never().expect("its turn"));
    // And within one client, who came first is first.
    while let Some(first) = crowd.pop_front() {
        held.pop_front();
        held.push_back(first.now_or_never().expect("its turn"));
        assert!(crowd.front_mut().is_none_or(|next| next.now_or_never().is_none()));
    }
    drop(held);
    assert_eq!(free(&turns), 2);
}

#[test]
fn who_leaves_takes_no_turn_along_called_or_not() {
    let turns = turns_of(1);
    let held = take(&turns);
    let [first, second, mut third] = [1, 1, 2].map(|number| wait_for(&turns, number));
    drop(second);
    drop(held);
    // It has been called, and never looks.
    drop(first);
    let held = (&mut third).now_or_never().expect("it went on to the next");
    let fourth = wait_for(&turns, 3);
    drop(fourth);
    assert_eq!(turns.lock().lines.len(), 0, "nothing stays of who left");
    drop(held);
    assert_eq!(free(&turns), 1);
}

#[test]
fn who_joins_what_another_waits_for_brings_its_own_place_in_the_round() {
    let turns = turns_of(1);
    let held = take(&turns);
    let _crowd: Vec<_> = (0..100).map(|_| wait_for(&turns, 1)).collect();
    let shared = Arc::new(Crowd::of(client(1)));
    let mut waiting = wait(&turns, &shared);
    shared.join(client(2));
    assert!((&mut waiting).now_or_never().is_none());
    drop(held);
    // The first of the hundred was called: it leaves, and the newcomer's place is next.
    drop(_crowd);
    let turn = (&mut waiting).now_or_never().expect("its turn");
    assert_eq!(turns.lock().lines.len(), 0, "it waits in no other line");
    drop(turn);
    assert_eq!(free(&turns), 1);
}

#[derive(Clone, Debug)]
enum Step {
    /// A client waits for something, alone or together with another.
    Come(u32, Option<u32>),
    /// One that waits leaves; some have been called by then.
    Leave(prop::sample::Index),
    /// One that has a turn gives it back.
    GiveBack(prop::sample::Index),
    /// All who wait look whether they were called.
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_u32, prop::option::weighted(0.2, 0..5_u32)).prop_map(|(a, b)| Step::Come(a, b)),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        3 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
        2 => Just(Step::Look),
    ]
}

/// Has all who were called take their turns, and those who are called by that: who has two takes one.
fn look(waiting: &mut Vec<BoxFuture<'static, Turn>>, held: &mut Vec<Turn>) {
    loop {
        let before = waiting.len();
        waiting.retain_mut(|one| match one.now_or_never() {
            Some(turn) => {
                held.push(turn);
                false
            }
            None => true,
        });
        if waiting.len() == before {
            return;
        }
    }
}

proptest! {
    #[test]
    fn no_turn_is_lost_or_given_twice(count in 1..4_usize, steps in prop::collection::vec(step(), 0..120)) {
        let turns = turns_of(count);
        let (mut waiting, mut held) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Come(one, other) => {
                    let (turns, crowd) = (turns.clone(), Crowd::of(client(one)));
                    other.into_iter().for_each(|other| crowd.join(client(other)));
                    let mut coming = async move { turns.turn(&crowd).await }.boxed();
                    match (&mut coming).now_or_never() {
                        Some(turn) => held.push(turn),
                        None => waiting.push(coming),
                    }
                }
                Step::Leave(which) if !waiting.is_empty() => {
                    drop(waiting.swap_remove(which.index(waiting.len())));
                }
                Step::GiveBack(which) if !held.is_empty() => {
                    drop(held.swap_remove(which.index(held.len())));
                }
                Step::Leave(_) | Step::GiveBack(_) => {}
                Step::Look => look(&mut waiting, &mut held),
            }
            prop_assert!(held.len() + turns.lock().free <= count);
            let state = turns.lock();
            prop_assert!(state.free == 0 || state.round.is_empty(), "one is free, and somebody waits");
            prop_assert_eq!(state.round.len(), state.lines.len());
            prop_assert!(state.lines.values().all(|line| !line.waiting.is_empty()));
        }
        // While somebody waits, none is idle.
        look(&mut waiting, &mut held);
        prop_assert!(waiting.is_empty() || held.len() == count);
        while !waiting.is_empty() {
            held.clear();
            let before = waiting.len();
            look(&mut waiting, &mut held);
            prop_assert!(waiting.len() < before, "all have their turn in the end");
        }
        drop(held);
        prop_assert_eq!(free(&turns), count);
    }

    #[test]
    fn a_client_waits_for_one_turn_of_each_other_at_most(
        lines in prop::collection::vec(1..20_usize, 1..6),
    ) {
        let turns = turns_of(1);
        let mut held = Some(take(&turns));
        let mut waiting = Vec::new();
        for (number, length) in lines.iter().enumerate() {
            let number = u32::try_from(number).expect("few") + 1;
            waiting.extend((0..*length).map(|_| (number, wait_for(&turns, number))));
        }
        let mut served = Vec::new();
        while !waiting.is_empty() {
            drop(held.take());
            let called = waiting.iter_mut().enumerate().find_map(|(at, (number, one))| {
                one.now_or_never().map(|turn| (at, *number, turn))
            });
            let (at, number, turn) = called.expect("somebody is called");
            drop(waiting.remove(at));
            held = Some(turn);
            served.push(number);
        }
        for (number, length) in lines.iter().enumerate() {
            let number = u32::try_from(number).expect("few") + 1;
            let times: Vec<_> = (0..served.len()).filter(|at| served[*at] == number).collect();
            prop_assert_eq!(times.len(), *length);
            let first = times[0] < lines.len();
            prop_assert!(first && times.windows(2).all(|pair| pair[1] - pair[0] <= lines.len()));
        }
    }
}
