//! The answers of the disk. It has eight registrations with the keys 1 to 8; the first holds a reservation.
//! Commands change nothing.
//!
//! - PERSISTENT RESERVE IN: READ KEYS, READ RESERVATION, REPORT CAPABILITIES; others are INVALID FIELD IN CDB.
//! - PERSISTENT RESERVE OUT: GOOD if the parameter list has a registered key, else RESERVATION CONFLICT; PARAMETER LIST
//!   LENGTH ERROR below 24 bytes.
//! - TEST UNIT READY: GOOD. Everything else is INVALID COMMAND OPERATION CODE.

/// PRGENERATION in all answers.
const GENERATION: u32 = 7;

/// The highest registered key; the lowest is 1.
const KEYS: u8 = 8;

/// The length of the longest answer, that to READ KEYS.
pub(crate) const DATA_MAX: usize = 8 + 8 * KEYS as usize;

/// Length of the sense data, fixed format.
pub(crate) const SENSE_LEN: usize = 18;

/// Statuses of SAM-5 5.3.1.
pub(crate) const GOOD: u8 = 0x00;
pub(crate) const CHECK_CONDITION: u8 = 0x02;
const RESERVATION_CONFLICT: u8 = 0x18;

/// Additional sense codes of ILLEGAL REQUEST, all with qualifier 00h (SPC-4 annex F.2).
const PARAMETER_LIST_LENGTH_ERROR: u8 = 0x1a;
const INVALID_COMMAND_OPERATION_CODE: u8 = 0x20;
const INVALID_FIELD_IN_CDB: u8 = 0x24;

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u8,
    data: [u8; DATA_MAX],
    length: usize,
    /// Valid with CHECK CONDITION.
    pub(crate) sense: [u8; SENSE_LEN],
}

impl Answer {
    fn with_status(status: u8) -> Self {
        Self { status, data: [0; DATA_MAX], length: 0, sense: [0; SENSE_LEN] }
    }

    /// Returns CHECK CONDITION, ILLEGAL REQUEST with this additional sense code.
    fn illegal_request(code: u8) -> Self {
        let mut answer = Self::with_status(CHECK_CONDITION);
        // Fixed format, current (SPC-4 4.5.3).
        answer.sense = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, 0, 0, 0, 0, 0];
        answer
    }

    /// Returns GOOD with data, cut to the allocation length.
    fn with_data<'a>(parts: impl IntoIterator<Item = &'a [u8]>, allocation_length: usize) -> Self {
        let mut answer = Self::with_status(GOOD);
        let bytes = parts.into_iter().flatten();
        for (to, from) in answer.data.iter_mut().zip(bytes).take(allocation_length) {
            *to = *from;
            answer.length += 1;
        }
        answer
    }

    /// Returns the data that the device sends.
    pub(crate) fn data(&self) -> &[u8] {
        self.data.get(..self.length).unwrap_or_default()
    }
}

/// Executes a command. `parameters` is the data sent with it.
pub(crate) fn answer(cdb: &[u8], parameters: &[u8]) -> Answer {
    match *cdb {
        [0x00, ..] => Answer::with_status(GOOD),
        [0x5e, action, _, _, _, _, _, high, low, ..] => {
            read(action & 0x1f, u16::from_be_bytes([high, low]).into())
        }
        [0x5f, _, _, _, _, a, b, c, d, ..] => {
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            // The buffer may be longer than the parameter list.
            write(parameters.get(..length).unwrap_or(parameters))
        }
        _ => Answer::illegal_request(INVALID_COMMAND_OPERATION_CODE),
    }
}

/// Executes PERSISTENT RESERVE IN (SPC-4 6.15).
fn read(action: u8, allocation_length: usize) -> Answer {
    let generation = GENERATION.to_be_bytes();
    match action {
        0 => {
            let mut keys = [0; DATA_MAX - 8];
            for (key, number) in keys.chunks_exact_mut(8).zip(1..=KEYS) {
                key.copy_from_slice(&u64::from(number).to_be_bytes());
            }
            Answer::with_data([&generation[..], &[0, 0, 0, 8 * KEYS], &keys], allocation_length)
        }
        1 => {
            // Key 1, scope LU_SCOPE, type 5h: Write Exclusive, Registrants Only.
            let reservation = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x05, 0, 0];
            Answer::with_data([&generation[..], &[0, 0, 0, 16], &reservation], allocation_length)
        }
        // LENGTH 8, PTPL_C, TMV, all types.
        2 => Answer::with_data([&[0, 8, 0x01, 0x80, 0xea, 0x01, 0, 0][..]], allocation_length),
        _ => Answer::illegal_request(INVALID_FIELD_IN_CDB),
    }
}

/// Executes PERSISTENT RESERVE OUT (SPC-4 6.16).
fn write(parameters: &[u8]) -> Answer {
    if parameters.len() < 24 {
        return Answer::illegal_request(PARAMETER_LIST_LENGTH_ERROR);
    }
    let key = parameters.first_chunk().copied().map(u64::from_be_bytes);
    let registered = key.is_some_and(|key| (1..=u64::from(KEYS)).contains(&key));
    Answer::with_status(if registered { GOOD } else { RESERVATION_CONFLICT })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cdb(opcode: u8, action: u8, length: u8) -> [u8; 10] {
        [opcode, action, 0, 0, 0, 0, 0, 0, length, 0]
    }

    #[test]
    fn answer_is_cut_to_allocation_length() {
        let whole = answer(&cdb(0x5e, 0, 255), &[]);
        assert_eq!((whole.status, whole.data().len()), (GOOD, 72));
        assert_eq!(whole.data()[..16], [0, 0, 0, 7, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 1]);
        for length in 0..=72 {
            assert_eq!(answer(&cdb(0x5e, 0, length), &[]).data(), &whole.data()[..usize::from(length)]);
        }
        assert_eq!(answer(&cdb(0x5e, 1, 255), &[]).data().len(), 24);
        assert_eq!(answer(&cdb(0x5e, 2, 255), &[]).data().len(), 8);
    }

    #[test]
    fn change_needs_registered_key() {
        let mut parameters = [0; 8192];
        for (key, status) in [(0, 0x18), (1, GOOD), (8, GOOD), (9, 0x18), (u8::MAX, 0x18)] {
            parameters[7] = key;
            assert_eq!(answer(&cdb(0x5f, 0, 24), &parameters[..24]).status, status, "key {key}");
            assert_eq!(answer(&cdb(0x5f, 0, 24), &parameters).status, status, "a longer buffer, key {key}");
        }
    }

    #[test]
    fn unknown_commands_are_illegal_requests() {
        let cases = [
            (cdb(0x5e, 3, 8), &[][..], 0x24),
            (cdb(0x5f, 0, 24), &[0; 23], 0x1a),
            (cdb(0x5f, 0, 23), &[0; 24], 0x1a),
            (cdb(0x12, 0, 36), &[], 0x20),
        ];
        for (cdb, parameters, code) in cases {
            let answer = answer(&cdb, parameters);
            assert_eq!((answer.status, answer.sense[2], answer.sense[12]), (2, 5, code), "{cdb:02x?}");
            assert_eq!(answer.data(), []);
        }
        assert_eq!(answer(&[], &[]).sense[12], 0x20);
    }
}
