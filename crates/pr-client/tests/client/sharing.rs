//! One client shared by many threads.

use std::{
    collections::HashMap,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use pr_client::{Client, Data, Error, State};
use scsi_sense::Status;

use crate::{
    Kind,
    helper::{Answer, Helper, Plan, Stage},
    options,
};

const THREADS: u16 = 8;

/// Returns READ KEYS with an allocation length of ten bytes, with thread and number in reserved bytes of the CDB.
fn marked(thread: u16, number: u16) -> [u8; 10] {
    let ([t0, t1], [n0, n1]) = (thread.to_be_bytes(), number.to_be_bytes());
    [0x5e, 0, t0, t1, n0, n1, 0, 0, 10, 0]
}

/// Eight threads share three connections, and each gets the answers to its own commands.
#[test]
fn threads_share_connections() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // The first three wait for each other, so three commands are in flight at once.
    let (barrier, first) = (Barrier::new(3), AtomicUsize::new(0));
    let helper = Helper::answering(&[], {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |arrived| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if first.fetch_add(1, Ordering::SeqCst) < 3 {
                barrier.wait();
            }
            thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Answer::good(&arrived.cdb)
        }
    });
    let client = options().connections(3).connect(helper.path()).unwrap();
    let device = helper.device();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (client, device) = (&client, &device);
            scope.spawn(move || {
                for number in 0..200 {
                    let cdb = marked(thread, number);
                    let mut data = [0; 10];
                    let completion = client.execute(device, &cdb, Data::In(&mut data)).unwrap();
                    assert_eq!((completion.status, data), (Status::GOOD, cdb));
                }
            });
        }
    });
    assert_eq!((most.load(Ordering::SeqCst), helper.accepted()), (3, 3));
    assert_eq!(helper.begun(), usize::from(THREADS) * 200);
}

/// Nothing was sent.
#[test]
fn no_free_connection_is_busy() {
    let helper = Helper::start(&[Plan::HangAt(Stage::Reply(0))]);
    let client = options().connections(0).connect(helper.path()).unwrap();
    let device = helper.device();
    thread::scope(|scope| {
        let hung = scope.spawn(|| Kind::Out.run(&client, &device));
        crate::helper::eventually(|| helper.begun() == 1);
        let short = Duration::from_millis(20);
        let error = client.execute_within(&device, &marked(0, 0), Data::In(&mut [0; 10]), short).unwrap_err();
        assert!(matches!(error, Error::Busy), "{error:?}");
        assert!(!error.may_have_run());
        assert_eq!((helper.begun(), helper.accepted()), (1, 1));

        let waiting = scope.spawn(|| Kind::In.run(&client, &device));
        helper.close_hung();
        assert!(matches!(hung.join().unwrap(), Err(Error::Lost(_))));
        assert_eq!(waiting.join().unwrap().unwrap().status, Status::GOOD, "the connection became free");
    });
    assert_eq!((helper.begun(), helper.accepted()), (2, 2));
}

/// The invariant under load, while the helper restarts: an answered command arrived once, a lost one at most once, any
/// other not at all.
#[test]
fn no_command_arrives_twice() {
    let mut helper = Helper::answering(&[], |arrived| Answer::good(&arrived.cdb));
    let states = Arc::new(std::sync::Mutex::new(Vec::new()));
    let client = {
        let states = Arc::clone(&states);
        options().attempts(3).on_state_change(move |state| states.lock().unwrap().push(state))
    }
    .connect(helper.path())
    .unwrap();
    let device = helper.device();
    let over = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (client, device, over) = (&client, &device, &over);
                scope.spawn(move || hammer(client, device, thread, over))
            })
            .collect();
        for _ in 0..30 {
            let before = helper.begun();
            crate::helper::eventually(|| helper.begun() > before + 50);
            helper.stop();
            helper.start_again();
        }
        over.store(true, Ordering::SeqCst);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut arrived: HashMap<[u8; 10], usize> = HashMap::new();
    for command in helper.arrived() {
        *arrived.entry(command.cdb).or_default() += 1;
    }
    let mut lost = 0;
    for (cdb, outcome) in outcomes {
        let times = arrived.get(&cdb).copied().unwrap_or(0);
        match outcome {
            Ok(()) => assert_eq!(times, 1),
            Err(Error::Lost(_)) => {
                lost += 1;
                assert!(times <= 1);
            }
            Err(Error::Unreachable { .. }) => assert_eq!(times, 0),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(lost > 0, "no command was in flight when the helper ended");
    let states = states.lock().unwrap();
    assert_eq!(states.first(), Some(&State::Connected));
    assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "each change is reported once");
}

type Outcomes = Vec<([u8; 10], Result<(), Error>)>;

fn hammer(client: &Client, device: &std::fs::File, thread: u16, over: &AtomicBool) -> Outcomes {
    let mut outcomes = Vec::new();
    for number in 0..u16::MAX {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let cdb = marked(thread, number);
        let mut data = [0; 10];
        let outcome = client.execute(device, &cdb, Data::In(&mut data));
        outcomes.push((cdb, outcome.map(|_| assert_eq!(data, cdb))));
    }
    outcomes
}
