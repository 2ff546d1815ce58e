//! State changes of the helper, and the listener that is called for them.

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
fn each_state_change_is_reported_once() {
    let mut helper = Helper::start(&[]);
    let (client, states) = connect(&helper);
    let device = helper.device();
    assert_eq!(told(&states), [Connected]);
    for _ in 0..3 {
        Kind::In.succeed(&client, &device);
        assert_eq!(told(&states), []);
        helper.stop();
        assert_eq!(client.state(), Connected, "no command was sent since");
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
fn replaced_helper_is_two_changes() {
    let mut helper = Helper::start(&[]);
    let (client, states) = connect(&helper);
    helper.stop();
    helper.start_again();
    Kind::In.succeed(&client, &helper.device());
    assert_eq!(told(&states), [Connected, Disconnected, Connected]);
}

#[test]
fn connections_that_end_together_are_one_change() {
    // When the helper ends, four commands are in flight and one connection is idle.
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
fn stale_idle_connections_are_no_change() {
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
fn connection_of_earlier_epoch_is_dropped() {
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
fn end_of_old_connection_is_no_change() {
    let helper = Helper::start(&[Plan::HangAt(Stage::Reply(0)), Plan::CloseAt(Stage::Reply(0))]);
    let (client, states) = connect(&helper);
    let device = helper.device();
    thread::scope(|scope| {
        let hung = scope.spawn(|| Kind::Out.run(&client, &device));
        crate::helper::eventually(|| helper.begun() == 1);
        Kind::Out.run(&client, &device).unwrap_err();
        Kind::Out.succeed(&client, &device);
        assert_eq!(told(&states), [Connected, Disconnected, Connected]);
        // The first connection ends now. It is of the epoch before the loss of the second one, so nothing changes.
        helper.close_hung();
        assert!(matches!(hung.join().unwrap(), Err(Error::Lost(_))));
        assert_eq!((told(&states), client.state()), (vec![], Connected));
    });
    Kind::Out.succeed(&client, &device);
    assert_eq!(helper.accepted(), 3, "the third connection is still in use");
}

/// It is called for one change at a time.
#[test]
fn listener_may_use_the_client() {
    let slot: Arc<OnceLock<Client>> = Arc::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let helper = Helper::start(&[Plan::CloseAt(Stage::Reply(0))]);
    let listener = {
        let (slot, seen, device) = (Arc::clone(&slot), Arc::clone(&seen), helper.device());
        move |state| {
            seen.lock().unwrap().push(format!("{state}"));
            if let Some(client) = slot.get() {
                // The first call of this reconnects.
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
fn panicking_listener_is_called_again() {
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
        // The panic has not leaked a slot, either.
        Kind::In.succeed(&client, &device);
    }
    assert_eq!(*seen.lock().unwrap(), [Connected, Disconnected, Connected]);
}
