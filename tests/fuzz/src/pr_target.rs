//! Reservations in software: three nexuses send any commands, power is lost, the store fails. Compared with a plain reading of
//! SPC-4 (`model`).

mod model;
mod view;

use arbitrary::{Result, Unstructured};
use model::{Expected, Model, Place};
use pr_target::{LogicalUnit, Nexus, test_utils::MemoryStore};
use scsi_sense::{SenseCode, Status, pr::TransportId};

const PORTS: [u16; 2] = [1, 2];

/// Keys that commands choose from, besides those of the sender.
const KEYS: [u64; 4] = [0, 0xa11c_e001, 0xb0b2, u64::MAX];

/// Most steps of an input.
const STEPS: usize = 32;

/// Each step takes a few bytes: the sender, the command and its parameters, or an event.
pub fn pr_target(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

/// Returns the nexuses: initiator ports A and B at target port 1, and A at port 2. The fourth, B at port 2, never sends.
fn cast() -> [Nexus; 4] {
    [(0xa, 1), (0xb, 1), (0xa, 2), (0xb, 2)].map(|(address, port)| {
        Nexus::new(TransportId::Sas { address }, port).expect("a SAS TransportID is short")
    })
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let cast = cast();
    let store = MemoryStore::default();
    let mut unit = LogicalUnit::open(&PORTS, store.clone()).expect("an empty store");
    let mut model = Model::default();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let tag: u8 = input.arbitrary()?;
        let sender = usize::from(tag & 3) % 3;
        match tag >> 2 & 7 {
            0 => {
                // Power is lost and comes back.
                unit = LogicalUnit::open(&PORTS, store.clone()).expect("its own state");
                model.lose_power();
                assert_eq!(view::of(&mut unit), model);
            }
            1 => {
                let cdb: [u8; 16] = input.arbitrary()?;
                let before = unit.clone();
                let access = unit.allows(&cast[sender], &cdb);
                assert_eq!(access, before.allows(&cast[sender], &cdb));
                let _ = unit.admit(&cast[sender], &cdb);
                assert_eq!(view::of(&mut unit), model, "no other command changes reservations");
            }
            kind => {
                let (cdb, parameters) =
                    if kind == 2 { raw(input)? } else { command(input, &model, &cast, sender)? };
                let fails = kind == 3 && tag >> 7 == 1;
                step(&mut unit, &mut model, &store, fails, &cast, sender, &cdb, &parameters);
            }
        }
    }
    Ok(())
}

/// Takes a CDB and a list of any bytes.
fn raw(input: &mut Unstructured<'_>) -> Result<([u8; 10], Vec<u8>)> {
    let mut cdb: [u8; 10] = input.arbitrary()?;
    cdb[0] = 0x5e | cdb[0] & 1;
    let length = usize::from(input.arbitrary::<u8>()? % 100).min(input.len());
    Ok((cdb, input.bytes(length)?.to_vec()))
}

/// Takes a command that is well-formed but for its keys and its type, and in some cases its TransportIDs.
fn command(
    input: &mut Unstructured<'_>,
    model: &Model,
    cast: &[Nexus; 4],
    sender: usize,
) -> Result<([u8; 10], Vec<u8>)> {
    let (action, kind, keys, flags): (u8, u8, u8, u8) = input.arbitrary()?;
    let own = model.key_of(&cast[sender].to_string());
    let key = |choice: u8| match choice & 7 {
        0..=3 => own.unwrap_or(0),
        index => KEYS[usize::from(index - 4)],
    };
    let mut list = [key(keys).to_be_bytes(), key(keys >> 4 ^ 4).to_be_bytes(), [0; 8]].concat();
    let other = cast[usize::from(flags >> 6)];
    let action = action % 8;
    if action == 7 {
        list[17] = flags & 3;
        list[18..20].copy_from_slice(&other.relative_port().to_be_bytes());
        list[20..24].copy_from_slice(&24_u32.to_be_bytes());
        list.extend(other.initiator().as_bytes());
    } else {
        list[20] = flags & 0x05;
        if action == 0 && flags & 0x30 == 0x30 {
            list[20] |= 0x08;
            list.extend(24_u32.to_be_bytes());
            list.extend(other.initiator().as_bytes());
        }
    }
    let kind = [1, 3, 5, 6, 7, 8, kind, 5][usize::from(kind & 7)];
    let length = u8::try_from(list.len()).expect("at most 52");
    Ok(([0x5f, action, kind, 0, 0, 0, 0, 0, length, 0], list))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one step")]
fn step(
    unit: &mut LogicalUnit<MemoryStore>,
    model: &mut Model,
    store: &MemoryStore,
    fails: bool,
    cast: &[Nexus; 4],
    sender: usize,
    cdb: &[u8; 10],
    parameters: &[u8],
) {
    let nexus = cast[sender];
    for one in cast {
        while unit.take_unit_attention(one).is_some() {}
    }
    let mut data = vec![0xee; 300];
    store.set_failing(fails);
    let answer = unit.execute(&nexus, cdb, parameters, &mut data);
    store.set_failing(false);

    let before = model.clone();
    let context = || format!("{nexus}: {cdb:02x?} {parameters:02x?}: {answer:?}, before: {before:?}");
    assert!(data[answer.length..].iter().all(|byte| *byte == 0xee), "{}", context());
    assert_eq!(answer.sense.is_some(), answer.status == Status::CHECK_CONDITION, "{}", context());
    let is_good = answer.status == Status::GOOD;
    assert!(is_good || (answer.length == 0 && answer.abort.is_empty()), "{}", context());
    let is_save_error = answer.sense == Some(SenseCode::INTERNAL_TARGET_FAILURE);
    assert_eq!(unit.take_save_error().is_some(), is_save_error, "{}", context());
    assert!(fails || !is_save_error, "{}", context());

    let (sender_name, all_ports) =
        view::names(nexus.initiator().as_bytes(), nexus.relative_port(), PORTS).expect("a nexus");
    let place = Place { sender: sender_name, all_ports };
    let after = view::of(unit);
    match model.expect(&place, cdb, parameters, |id, port| view::names(id, port, PORTS)) {
        _ if is_save_error => assert_eq!(after, *model, "{}", context()),
        Expected::Good(expected, told) => {
            assert!(is_good, "{}", context());
            assert_eq!(after, expected, "{}", context());
            for one in cast.iter().filter(|one| **one != nexus) {
                let found: Vec<_> = std::iter::from_fn(|| unit.take_unit_attention(one)).collect();
                let name = one.to_string();
                let expected: Vec<_> =
                    told.iter().filter(|(to, _)| *to == name).map(|(_, code)| *code).collect();
                assert_eq!(found, expected, "{name}: {}", context());
            }
        }
        Expected::Failure => {
            assert!(!is_good, "{}", context());
            assert_eq!(after, *model, "{}", context());
        }
        Expected::Unknown => assert!(is_good || after == *model, "{}", context()),
    }
    assert_eq!(unit.take_unit_attention(&nexus), None, "the sender is told nothing: {}", context());
    // What was reported as GOOD is saved.
    if is_good && after.aptpl {
        let mut again = LogicalUnit::open(&PORTS, store.clone()).expect("its own state");
        let mut saved = after.clone();
        saved.lose_power();
        assert_eq!(view::of(&mut again), saved, "{}", context());
    }
    *model = after;
}
