//! PERSISTENT RESERVE IN: the state as data (SPC-4 clause 6.15).

use scsi_sense::pr::{
    Capabilities, FullStatus, InServiceAction, Keys, Registration, Reservation, ReservationData,
    ReservationType, Scope, TypeMask,
};
use scsi_sense::{BuildError, SenseCode};

use crate::answer::Refusal;
use crate::state::State;

/// ALLOW COMMANDS 100b (SPC-4 table 208): all reservations allow TEST UNIT READY and RECEIVE COPY RESULTS; write
/// exclusive ones also allow MODE SENSE, READ ATTRIBUTE, READ BUFFER, RECEIVE DIAGNOSTIC RESULTS, REPORT SUPPORTED
/// OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS and READ DEFECT DATA. See access.rs.
const ALLOW_COMMANDS: u8 = 0b100;

/// Writes the data of this service action to `buffer`, truncated to its length. Returns the number of bytes written.
pub(crate) fn report(
    action: InServiceAction,
    state: &State,
    generation: u32,
    is_persistent: bool,
    buffer: &mut [u8],
) -> Result<usize, Refusal> {
    // `MAX_REGISTRATIONS` registrations have far less than 2^32 bytes, so this does not happen.
    let too_long = |_: BuildError| Refusal::Check(SenseCode::INTERNAL_TARGET_FAILURE);
    match action {
        InServiceAction::ReadKeys => {
            let keys = state.registrations().iter().map(|one| one.key);
            Keys::build(generation, keys, buffer).map_err(too_long)
        }
        InServiceAction::ReadReservation => {
            let reservation = state.reservation().map(|held| Reservation {
                key: state.holders_key(),
                scope: Scope::LogicalUnit,
                kind: held.kind,
            });
            Ok(ReservationData::build(generation, reservation, buffer))
        }
        InServiceAction::ReportCapabilities => {
            let bytes = capabilities(state, is_persistent).to_bytes();
            let length = bytes.len().min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(bytes) {
                *to = from;
            }
            Ok(length)
        }
        InServiceAction::ReadFullStatus => {
            FullStatus::build(generation, descriptors(state), buffer).map_err(too_long)
        }
        _ => Err(Refusal::Check(SenseCode::INVALID_FIELD_IN_CDB)),
    }
}

fn capabilities(state: &State, is_persistent: bool) -> Capabilities {
    Capabilities {
        // Reservations can only be lost if they are kept.
        replace_lost_reservation: is_persistent,
        compatible_reservation_handling: false,
        specify_initiator_ports: true,
        all_target_ports: true,
        persist_through_power_loss_capable: is_persistent,
        persist_through_power_loss_activated: state.aptpl,
        allow_commands: ALLOW_COMMANDS,
        types: Some(TypeMask::new(ReservationType::ALL)),
    }
}

/// Returns one descriptor for each I_T nexus. A device may do so even where one descriptor with ALL_TG_PT could stand
/// for several (SPC-4 clause 6.15.5).
fn descriptors(state: &State) -> impl Iterator<Item = Registration<&'_ [u8]>> {
    state.registrations().iter().map(|one| {
        let held = state.reservation().filter(|_| state.is_holder(&one.nexus));
        Registration {
            key: one.key,
            all_target_ports: false,
            reservation_holder: held.is_some(),
            scope: Scope::LogicalUnit,
            kind: held.map_or(ReservationType::Other(0), |held| held.kind),
            relative_port: one.nexus.relative_port(),
            transport_id_bytes: one.nexus.initiator().as_bytes(),
        }
    })
}
