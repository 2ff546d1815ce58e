//! Sends each PERSISTENT RESERVE service action that LIO supports from two I_T nexuses: through the helper, on the block device
//! and on the generic device, and without the helper. The answers must be the same, byte for byte.

use std::fs::{self, File};

use fixtures::{
    CLEAR, Disk, PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTER_AND_IGNORE, REGISTER_AND_MOVE, RELEASE,
    RESERVE, basic, direct, in_cdb, open, out_cdb,
};
use scsi_sense::{
    Status,
    pr::{FullStatus, InServiceAction, OutServiceAction, PersistentReserveIn, PersistentReserveOut},
};
use test_support::{Client, Daemon, Options, Reply};

const KEY_A: u64 = 0xa11c_e000_0000_0001;
const KEY_B: u64 = 0xb0b0_0000_0000_0002;

const APTPL: u8 = 0x01;
const SPEC_I_PT: u8 = 0x08;

/// The nexus that sends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    A,
    B,
}

/// A command of a story.
#[derive(Debug, Clone)]
enum Step {
    Out(Sender, [u8; 10], Vec<u8>),
    In(Sender, [u8; 10]),
}

/// The route by which the commands of a story reach the disk.
enum Route<'a> {
    Direct { a: &'a File, b: &'a File },
    Helper { a: (&'a File, Client), b: (&'a File, Client) },
}

impl Route<'_> {
    fn send(&mut self, step: &Step) -> Reply {
        match self {
            Self::Direct { a, b } => match step {
                Step::Out(sender, cdb, parameters) => {
                    direct(if *sender == Sender::A { a } else { b }, cdb, Some(parameters))
                }
                Step::In(sender, cdb) => direct(if *sender == Sender::A { a } else { b }, cdb, None),
            },
            Self::Helper { a, b } => {
                let sender = match step {
                    Step::Out(sender, ..) | Step::In(sender, _) => *sender,
                };
                let (disk, client) = if sender == Sender::A { a } else { b };
                match step {
                    Step::Out(_, cdb, parameters) => client.write(disk, cdb, parameters),
                    Step::In(_, cdb) => client.read(disk, cdb),
                }
                .expect("a reply")
            }
        }
    }
}

/// Returns an OUT command with a basic parameter list.
fn out(sender: Sender, action: u8, kind: u8, key: u64, new_key: u64, flags: u8) -> Step {
    let mut parameters = basic(key, new_key);
    parameters[20] = flags;
    raw(sender, action, kind, parameters)
}

/// Returns an OUT command with any parameter list. `kind` is scope and type.
fn raw(sender: Sender, action: u8, kind: u8, parameters: Vec<u8>) -> Step {
    Step::Out(sender, out_cdb(action, kind, &parameters), parameters)
}

fn read(sender: Sender, action: u8, allocation_length: u16) -> Step {
    Step::In(sender, in_cdb(action, allocation_length))
}

/// Returns commands that read all four kinds of data through both nexuses.
fn read_all() -> Vec<Step> {
    (0..4).flat_map(|action| [read(Sender::A, action, 8192), read(Sender::B, action, 512)]).collect()
}

/// Returns commands that register both nexuses and make a reservation of nexus A.
fn held_by_a(kind: u8) -> Vec<Step> {
    vec![
        out(Sender::A, REGISTER, 0, 0, KEY_A, 0),
        out(Sender::B, REGISTER, 0, 0, KEY_B, 0),
        out(Sender::A, RESERVE, kind, KEY_A, 0, 0),
    ]
}

/// Returns the parameter list of a REGISTER with SPEC_I_PT. `ids` are its TransportIDs, or any bytes, and `stated`
/// is the length that it states for them.
pub(crate) fn with_transport_ids(key: u64, new_key: u64, stated: u32, ids: &[u8]) -> Vec<u8> {
    let mut parameters = basic(key, new_key);
    parameters[20] = SPEC_I_PT;
    parameters.extend(stated.to_be_bytes());
    parameters.extend(ids);
    parameters
}

/// Removes all registrations and unit attentions.
fn reset(a: &File, b: &File) {
    let mut route = Route::Direct { a, b };
    for sender in [Sender::A, Sender::B] {
        // Each may find a unit attention first.
        for _ in 0..3 {
            route.send(&read(sender, 0, 8192));
        }
    }
    let ignore = out(Sender::A, REGISTER_AND_IGNORE, 0, 0, KEY_A, 0);
    assert_eq!(route.send(&ignore).status, Status::GOOD);
    assert_eq!(route.send(&out(Sender::A, CLEAR, 0, KEY_A, 0, 0)).status, Status::GOOD);
    for sender in [Sender::A, Sender::B] {
        for _ in 0..3 {
            route.send(&read(sender, 0, 8192));
        }
        assert_eq!(route.send(&read(sender, 0, 8192)).payload[4..], [0; 4], "no keys are left");
    }
}

/// Returns the PRGENERATION of a reply. It increases from story to story, so stories compare the increase.
fn generation_of(reply: &Reply) -> Option<u32> {
    reply.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Runs a story on a clean disk; returns the replies, with generations counted from its beginning.
fn run(story: &[Step], route: &mut Route, clean: (&File, &File)) -> Vec<Reply> {
    reset(clean.0, clean.1);
    let base = generation_of(&direct(clean.0, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], None)).unwrap();
    story
        .iter()
        .map(|step| {
            let mut reply = route.send(step);
            let has_generation = matches!(step, Step::In(_, cdb) if cdb[1] != 2);
            if let (true, Some(generation)) = (has_generation, generation_of(&reply)) {
                reply.payload[..4].copy_from_slice(&(generation - base).to_be_bytes());
            }
            reply
        })
        .collect()
}

pub(crate) fn daemon() -> Daemon {
    Daemon::with(Options::default())
}

/// Runs a story by all routes, and checks that the replies are the same; returns the replies.
fn compare_routes(name: &str, story: &[Step]) -> Vec<Reply> {
    compare_routes_on(&Disk::nexus_a(), &Disk::nexus_b(), name, story)
}

fn compare_routes_on(a: &Disk, b: &Disk, name: &str, story: &[Step]) -> Vec<Reply> {
    let daemon = daemon();
    let (block_a, block_b) = (open(&a.block), open(&b.block));
    let (generic_a, generic_b) = (open(&a.generic), open(&b.generic));
    let clean = (&block_a, &block_b);
    let expected = run(story, &mut Route::Direct { a: &block_a, b: &block_b }, clean);
    for (kind, disk_a, disk_b) in [("block", &block_a, &block_b), ("generic", &generic_a, &generic_b)] {
        let mut route = Route::Helper { a: (disk_a, daemon.client()), b: (disk_b, daemon.client()) };
        let replies = run(story, &mut route, clean);
        for (index, (reply, expected)) in replies.iter().zip(&expected).enumerate() {
            assert_eq!(reply, expected, "{name}, {kind} device, step {index}: {:02x?}", story[index]);
        }
    }
    reset(clean.0, clean.1);
    daemon.stop();
    expected
}

#[test]
fn each_reservation_type_from_two_nexuses() {
    for kind in [1, 3, 5, 6, 7, 8] {
        let mut story = held_by_a(kind);
        story.extend(read_all());
        let conflict_at = story.len();
        story.push(out(Sender::B, RESERVE, kind % 8 + 1, KEY_B, 0, 0));
        story.push(out(Sender::A, RESERVE, kind, KEY_A, 0, 0));
        story.push(out(Sender::A, RELEASE, kind, KEY_B, 0, 0));
        story.push(out(Sender::A, RELEASE, kind % 8 + 1, KEY_A, 0, 0));
        story.push(out(Sender::A, RELEASE, kind, KEY_A, 0, 0));
        story.extend(read_all());
        story.push(out(Sender::B, REGISTER, 0, KEY_B, 0, 0));
        story.push(out(Sender::A, REGISTER, 0, KEY_A, 0, 0));
        story.extend(read_all());
        let replies = compare_routes(&format!("type {kind}"), &story);
        assert!(replies[..3].iter().all(|reply| reply.status == Status::GOOD), "type {kind}: {replies:02x?}");
        assert_eq!(replies[conflict_at].status, Status::RESERVATION_CONFLICT, "type {kind}");
        // READ RESERVATION, the third command of read_all: type at byte 21, key at byte 8 unless all registrants hold.
        let reservation = &replies[5].payload;
        assert_eq!(reservation[21], kind, "type {kind}: {reservation:02x?}");
        let holder = if kind > 6 { [0; 8] } else { KEY_A.to_be_bytes() };
        assert_eq!(reservation[8..16], holder, "type {kind}");
    }
}

#[test]
fn wrong_key_changes_nothing() {
    let story = [
        out(Sender::A, RESERVE, 5, KEY_A, 0, 0),
        out(Sender::A, REGISTER, 0, KEY_A, KEY_B, 0),
        out(Sender::A, REGISTER, 0, 0, KEY_A, 0),
        out(Sender::A, REGISTER, 0, KEY_B, KEY_A, 0),
        out(Sender::A, RESERVE, 5, KEY_B, 0, 0),
        out(Sender::B, CLEAR, 0, KEY_A, 0, 0),
        out(Sender::B, PREEMPT, 5, KEY_B, KEY_A, 0),
        out(Sender::B, PREEMPT_AND_ABORT, 5, KEY_B, KEY_A, 0),
    ];
    let statuses: Vec<Status> =
        compare_routes("conflicts", &story).iter().map(|reply| reply.status).collect();
    for (index, status) in statuses.into_iter().enumerate() {
        // LIO answers CHECK CONDITION for some of the conflicts of SPC-4 5.13. The status must not be GOOD.
        assert_eq!(status == Status::GOOD, index == 2, "step {index}: {status}");
    }
}

#[test]
fn preempt_takes_reservation_and_reports_it() {
    let mut story = held_by_a(5);
    story.push(out(Sender::B, PREEMPT, 6, KEY_B, KEY_A, 0));
    let reported_at = story.len();
    story.push(read(Sender::A, 0, 512));
    story.extend(read_all());
    story.push(out(Sender::A, RESERVE, 5, KEY_A, 0, 0));
    let replies = compare_routes("preempt", &story);
    assert!(replies[..4].iter().all(|reply| reply.status == Status::GOOD), "{replies:02x?}");
    // 06/2A/03 (RESERVATIONS PREEMPTED) or 06/2A/05 (REGISTRATIONS PREEMPTED).
    assert!(
        matches!(replies[reported_at].sense_code(), Some((6, 0x2a, 3 | 5))),
        "the unit attention is passed on: {:02x?}",
        replies[reported_at]
    );
    assert_eq!(replies.last().unwrap().status, Status::RESERVATION_CONFLICT, "fenced");
}

/// Over iSCSI, because LIO over `tcm_loop` hangs forever in PREEMPT AND ABORT, also without the helper (kernels 6.12 and 7.2).
#[test]
fn preempt_and_abort_over_iscsi() {
    let [a, b] = fixtures::iscsi::nexuses();
    let mut story = held_by_a(5);
    story.extend(read_all());
    let preempted_at = story.len();
    story.push(out(Sender::B, PREEMPT_AND_ABORT, 5, KEY_B, KEY_A, 0));
    story.push(read(Sender::A, 0, 512));
    story.extend(read_all());
    let replies = compare_routes_on(&a, &b, "preempt and abort", &story);
    assert!(replies[..3].iter().all(|reply| reply.status == Status::GOOD), "{replies:02x?}");
    assert_eq!(replies[preempted_at].status, Status::GOOD);
    assert!(
        matches!(replies[preempted_at + 1].sense_code(), Some((6, ..))),
        "the preempted nexus gets a unit attention"
    );
}

#[test]
fn clear_and_register_and_ignore_existing_key() {
    let mut story = vec![
        out(Sender::A, REGISTER_AND_IGNORE, 0, 0x1234, KEY_A, 0),
        out(Sender::A, REGISTER_AND_IGNORE, 0, 0, KEY_B, 0),
        out(Sender::B, REGISTER_AND_IGNORE, 0, 0, KEY_B, 0),
        out(Sender::A, RESERVE, 1, KEY_B, 0, 0),
    ];
    story.extend(read_all());
    story.push(out(Sender::B, CLEAR, 0, KEY_B, 0, 0));
    story.extend(read_all());
    story.extend(read_all());
    let replies = compare_routes("clear", &story);
    assert!(replies[..4].iter().all(|reply| reply.status == Status::GOOD), "{replies:02x?}");
}

#[test]
fn registrations_survive_a_loss_of_power() {
    let mut story = vec![
        out(Sender::A, REGISTER, 0, 0, KEY_A, APTPL),
        out(Sender::B, REGISTER, 0, 0, KEY_B, APTPL),
        out(Sender::A, RESERVE, 3, KEY_A, 0, APTPL),
    ];
    story.extend(read_all());
    let replies = compare_routes("APTPL", &story);
    assert!(replies[..3].iter().all(|reply| reply.status == Status::GOOD), "{replies:02x?}");
    // REPORT CAPABILITIES, the fifth command of read_all: PTPL_C in byte 2, PTPL_A in byte 3.
    let capabilities = &replies[7].payload;
    assert_eq!((capabilities[2] & 1, capabilities[3] & 1), (1, 1), "{capabilities:02x?}");
    let written = ["/var/target/pr", "/etc/target/pr"]
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .count();
    assert!(written > 0, "LIO has written its state to a file");
}

/// Returns the TransportID of the second nexus's initiator port, as the disk reports it, and its relative target port.
fn transport_id_of_b() -> (Vec<u8>, u16) {
    let (a, b) = (open(&Disk::nexus_a().block), open(&Disk::nexus_b().block));
    reset(&a, &b);
    let mut route = Route::Direct { a: &a, b: &b };
    assert_eq!(route.send(&out(Sender::B, REGISTER, 0, 0, KEY_B, 0)).status, Status::GOOD);
    let reply = route.send(&read(Sender::A, 3, 8192));
    let status = FullStatus::parse(&reply.payload).unwrap();
    let registration = status.iter().next().expect("one registration");
    (registration.transport_id_bytes.to_vec(), registration.relative_port)
}

#[test]
fn register_and_move_and_spec_i_pt() {
    let (transport_id, relative_port) = transport_id_of_b();
    let length = u32::try_from(transport_id.len()).unwrap();

    let [high, low] = relative_port.to_be_bytes();
    let keys = &basic(KEY_A, KEY_B)[..16];
    let move_parameters = [keys, &[0, 0, high, low], &length.to_be_bytes(), &transport_id].concat();
    let spec_parameters = with_transport_ids(0, KEY_A, length, &transport_id);

    let mut story = vec![
        out(Sender::A, REGISTER, 0, 0, KEY_A, 0),
        out(Sender::A, RESERVE, 5, KEY_A, 0, 0),
        raw(Sender::A, REGISTER_AND_MOVE, 5, move_parameters),
    ];
    story.extend(read_all());
    let replies = compare_routes("register and move", &story);
    assert!(replies[..2].iter().all(|reply| reply.status == Status::GOOD), "{replies:02x?}");

    let mut story = vec![raw(Sender::A, REGISTER, 0, spec_parameters)];
    story.extend(read_all());
    compare_routes("SPEC_I_PT", &story);
}

#[test]
fn refusals_of_the_disk_are_passed_on() {
    let mut story = vec![out(Sender::A, REGISTER, 0, 0, KEY_A, 0)];
    // Unknown types and scopes, unknown service actions, and lists that are too long.
    story.extend([0, 2, 4, 9, 15, 0x15, 0x25].map(|kind| out(Sender::A, RESERVE, kind, KEY_A, 0, 0)));
    story.extend([8, 9, 0x1f].map(|action| out(Sender::A, action, 0, KEY_A, 0, 0)));
    story.extend([25, 28, 100, 8192].map(|length| {
        let mut parameters = vec![0; length];
        parameters[..8].copy_from_slice(&KEY_A.to_be_bytes());
        raw(Sender::A, RESERVE, 5, parameters)
    }));
    // SPEC_I_PT with wrong lengths of the TransportIDs.
    story.extend(
        [0, 24, 4096, u32::MAX]
            .map(|stated| raw(Sender::A, REGISTER, 0, with_transport_ids(KEY_A, KEY_A, stated, &[0; 24]))),
    );
    story.extend([4, 5, 0x1f].map(|action| read(Sender::A, action, 512)));
    story.extend(read_all());
    compare_routes("refusals", &story);
}

#[test]
fn every_allocation_length_is_honoured() {
    let mut story = held_by_a(5);
    for length in [0, 1, 4, 7, 8, 9, 15, 16, 23, 24, 25, 31, 96, 255, 256, 511, 4096, 8191, 8192] {
        story.extend((0..4).map(|action| read(Sender::A, action, length)));
    }
    let replies = compare_routes("allocation lengths", &story);
    for (step, reply) in story.iter().zip(&replies) {
        if let Step::In(_, cdb) = step {
            assert!(reply.payload.len() <= usize::from(u16::from_be_bytes([cdb[7], cdb[8]])));
        }
    }
}

/// Shows why the session's buffer begins at an odd address.
#[test]
fn disk_cannot_write_beyond_the_buffer() {
    let (a, b) = (open(&Disk::nexus_a().block), open(&Disk::nexus_b().block));
    reset(&a, &b);
    let mut route = Route::Direct { a: &a, b: &b };
    route.send(&out(Sender::A, REGISTER, 0, 0, KEY_A, 0));
    // READ FULL STATUS with an allocation length of 24, which is less than one descriptor.
    let cdb = [0x5e, 3, 0, 0, 0, 0, 0, 0, 24, 0];
    for odd in [0, 1] {
        let mut memory = [0x55; 512];
        let to_aligned = memory.as_ptr().align_offset(8);
        let (buffer, behind) = memory[to_aligned + odd..].split_at_mut(24);
        let mut sense = [0; 96];
        let done =
            sg_io::Command::new(&cdb).read(buffer).sense(&mut sense).execute(std::os::fd::AsFd::as_fd(&a));
        assert!(done.is_ok_and(|done| done.transferred <= 24));
        let touched = behind.iter().filter(|&&byte| byte != 0x55).count();
        println!("{touched} bytes behind a buffer at an address of {odd} modulo 8");
        assert!(odd == 0 || touched == 0);
    }
    reset(&a, &b);
}

#[test]
fn disk_accepts_commands_of_scsi_sense() {
    let daemon = daemon();
    let (a, b) = (open(&Disk::nexus_a().block), open(&Disk::nexus_b().block));
    reset(&a, &b);
    let mut client = daemon.client();
    let register = PersistentReserveOut {
        action: OutServiceAction::Register,
        scope: scsi_sense::pr::Scope::LogicalUnit,
        kind: scsi_sense::pr::ReservationType::Other(0),
        parameter_list_length: 24,
    };
    let Step::Out(_, by_hand, parameters) = out(Sender::A, REGISTER, 0, 0, KEY_A, 0) else { unreachable!() };
    assert_eq!(register.to_cdb(), by_hand);
    assert_eq!(client.write(&a, &register.to_cdb(), &parameters).unwrap().status, Status::GOOD);
    let read_keys = PersistentReserveIn { action: InServiceAction::ReadKeys, allocation_length: 8192 };
    let reply = client.read(&a, &read_keys.to_cdb()).unwrap();
    let keys = scsi_sense::pr::Keys::parse(&reply.payload).unwrap();
    assert_eq!(keys.iter().map(|key| key.0).collect::<Vec<_>>(), [KEY_A]);
    reset(&a, &b);
    daemon.stop();
}
