//! Who is told what of the helper's coming and going.

use std::{
    sync::{
        Arc, Barrier, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use pr_client::{Client, Error, State};

use crate::{
    Kind,
    helper::{Answer, Helper, Plan, Stage},
    options,
};

use State::{Connected, Disconnected};

fn connect(helper: &Helper) -> (Client, mpsc::Receiver<State>) {
    let (sender, states) = mpsc::channel();
    let options = options().attempts(3).on_state_change(move |state| sender.send(state).unwrap());
    (options.connect(helper.path()).unwrap(), states)
}

fn told(states: &mpsc::Receiver<State>) -> Vec<State> {
    states.try_iter().collect()
}

#[test]
fn each_change_is_told_once() {
    let mut helper = Helper::start(&[]);
    let (client, states) = connect(&helper);
    let device = helper.device();
    assert_eq!(told(&states), [Connected]);
    for _ in 0..3 {
        Kind::In.succeed(&client, &device);
        assert_eq!(told(&states), []);
        helper.stop();
        assert_eq!(client.state(), Connected, "nobody has looked");
        Kind::In.run(&client, &device).unwrap_err();
        assert_eq!(told(&states), [Disconnected], "once, for all attempts");
        Kind::In.run(&client, &device).unwrap_err();
        assert_eq!((told(&states), client.state()), (vec![], Disconnected));
        helper.start_again();
        Kind::In.succeed(&client, &device);
        assert_eq!((told(&states), client.state()), (vec![Connected], Connected));
    }
}

#[test]
fn a_helper_that_was_replaced_meanwhile_is_two_changes() {
    let mut helper = Helper::start(&[]);
    let (client, states) = connect(&helper);
    helper.stop();
    helper.start_again();
    Kind::In.succeed(&client, &helper.device());
    assert_eq!(told(&states), [Connected, Disconnected, Connected]);
}

#[test]
fn connections_that_end_together_are_one_change() {
    // Four commands are under way when the helper ends, and four connections idle.
    let plans = [Plan::HangAt(Stage::Reply(0)); 4];
    let mut helper = Helper::start(&plans);
    let (client, states) = connect(&helper);
    let device = helper.device();
    thread::scope(|scope| {
        let hung: Vec<_> = (0..4).map(|_| scope.spawn(|| Kind::Out.run(&client, &device))).collect();
        crate::helper::eventually(|| helper.begun() == 4);
        Kind::In.succeed(&client, &device);
        assert_eq!(told(&states), [Connected]);
        helper.stop();
        for thread in hung {
            assert!(matches!(thread.join().unwrap(), Err(Error::Lost(_))));
        }
        assert_eq!(told(&states), [Disconnected]);
        helper.start_again();
        Kind::In.succeed(&client, &device);
        assert_eq!(told(&states), [Connected]);
    });
}

#[test]
fn idle_connections_of_a_helper_that_was_replaced_are_no_news_later() {
    const AT_ONCE: usize = 3;
    let barrier = Barrier::new(AT_ONCE);
    let mut helper = Helper::answering(&[], move |arrived| {
        if arrived.cdb[0] == 0x5f {
            barrier.wait();
        }
        Answer::default()
    });
    let (client, states) = connect(&helper);
    let device = helper.device();
    let at_once = || {
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| Kind::Out.succeed(&client, &device));
            }
        });
    };
    at_once();
    assert_eq!((told(&states), helper.accepted()), (vec![Connected], AT_ONCE));
    helper.stop();
    helper.start_again();
    Kind::In.succeed(&client, &device);
    assert_eq!(told(&states), [Disconnected, Connected]);
    at_once();
    assert_eq!((told(&states), helper.accepted()), (vec![], 2 * AT_ONCE));
}

#[test]
fn a_connection_that_outlived_a_change_is_not_kept() {
    let (done, wait) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(true));
    let helper = Helper::answering(&[Plan::Serve, Plan::CloseAt(Stage::Reply(0))], {
        let done = Arc::clone(&done);
        move |_| {
            if wait.swap(false, Ordering::SeqCst) {
                crate::helper::eventually(|| done.load(Ordering::SeqCst));
            }
            Answer::default()
        }
    });
    let (client, states) = connect(&helper);
    let device = helper.device();
    thread::scope(|scope| {
        let slow = scope.spawn(|| Kind::Out.succeed(&client, &device));
        crate::helper::eventually(|| helper.begun() == 1);
        assert!(matches!(Kind::Out.run(&client, &device), Err(Error::Lost(_))));
        Kind::Out.succeed(&client, &device);
        done.store(true, Ordering::SeqCst);
        slow.join().unwrap();
    });
    helper.wait_until_closed(2);
    Kind::Out.succeed(&client, &device);
    assert_eq!((told(&states), helper.accepted()), (vec![Connected, Disconnected, Connected], 3));
}

#[test]
fn what_happens_to_an_old_connection_is_no_news() {
    let helper = Helper::start(&[Plan::HangAt(Stage::Reply(0)), Plan::CloseAt(Stage::Reply(0))]);
    let (client, states) = connect(&helper);
    let device = helper.device();
    thread::scope(|scope| {
        let hung = scope.spawn(|| Kind::Out.run(&client, &device));
        crate::helper::eventually(|| helper.begun() == 1);
        Kind::Out.run(&client, &device).unwrap_err();
        Kind::Out.succeed(&client, &device);
        assert_eq!(told(&states), [Connected, Disconnected, Connected]);
        // The first connection ends now, which the client has taken for granted since the second one did.
        helper.close_hung();
        assert!(matches!(hung.join().unwrap(), Err(Error::Lost(_))));
        assert_eq!((told(&states), client.state()), (vec![], Connected));
    });
    Kind::Out.succeed(&client, &device);
    assert_eq!(helper.accepted(), 3, "the third one is in use still");
}

#[test]
fn a_listener_may_use_the_client_and_is_told_of_one_change_at_a_time() {
    let slot: Arc<OnceLock<Client>> = Arc::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let helper = Helper::start(&[Plan::CloseAt(Stage::Reply(0))]);
    let listener = {
        let (slot, seen, device) = (Arc::clone(&slot), Arc::clone(&seen), helper.device());
        move |state| {
            seen.lock().unwrap().push(format!("{state}"));
            if let Some(client) = slot.get() {
                // The first time this is what connects anew.
                Kind::In.succeed(client, &device);
            }
            seen.lock().unwrap().push(format!("{state}, seen"));
        }
    };
    let client = slot.get_or_init(|| options().on_state_change(listener).connect(helper.path()).unwrap());
    assert!(matches!(Kind::In.run(client, &helper.device()), Err(Error::Lost(_))));
    let told = ["connected", "connected, seen", "disconnected", "disconnected, seen"];
    assert_eq!(seen.lock().unwrap()[..], [&told[..], &told[..2]].concat());
}

#[test]
fn a_listener_that_panics_is_told_of_the_next_change_all_the_same() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut helper = Helper::start(&[]);
    let listener = {
        let seen = Arc::clone(&seen);
        move |state| {
            seen.lock().unwrap().push(state);
            assert_ne!(state, Disconnected);
        }
    };
    let client = options().attempts(1).on_state_change(listener).connect(helper.path()).unwrap();
    let device = helper.device();
    helper.stop();
    thread::scope(|scope| assert!(scope.spawn(|| Kind::In.run(&client, &device)).join().is_err()));
    helper.start_again();
    for _ in 0..20 {
        // No place is lost with it, either.
        Kind::In.succeed(&client, &device);
    }
    assert_eq!(*seen.lock().unwrap(), [Connected, Disconnected, Connected]);
}
