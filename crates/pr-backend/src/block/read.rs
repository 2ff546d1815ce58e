//! PERSISTENT RESERVE IN, from NVMe's Reservation Report and RESCAP.

use block_pr::{HostIdentifier, Namespace, Passthrough, Report, ReservationType as NvmeType};
use scsi_sense::{
    BuildError, SenseCode,
    pr::{
        Capabilities, FullStatus, InServiceAction, Keys, Registration, Reservation, ReservationData,
        ReservationKey, ReservationType, Scope, TransportId, TypeMask,
    },
};

use super::{
    answer::{Stop, Use, no_reservations},
    kinds::to_scsi,
};
use crate::outcome::Cause;

/// PROTOCOL IDENTIFIER of a registrant's TransportID. T10 defines no TransportID for NVMe; Bh is reserved in SPC-4 and
/// PCI Express architecture devices in SPC-5, which NVMe is part of there.
const PROTOCOL: u8 = 0x0b;

/// Writes the data to `buffer`, cut at its end. Returns the number of bytes written.
pub(super) fn run(
    namespace: &Namespace<impl Passthrough>,
    action: InServiceAction,
    buffer: &mut [u8],
) -> Result<usize, Stop> {
    let report = || namespace.report().map_err(|error| Stop::of(&error, Use::Read));
    match action {
        InServiceAction::ReadKeys => {
            let report = report()?;
            let keys = report.registrants.iter().map(|registrant| ReservationKey(registrant.key));
            Keys::build(report.generation, keys, buffer).map_err(too_long)
        }
        InServiceAction::ReadReservation => {
            let report = report()?;
            Ok(ReservationData::build(report.generation, reservation(&report)?, buffer))
        }
        InServiceAction::ReportCapabilities => {
            let bytes = capabilities(namespace)?.to_bytes();
            let length = bytes.len().min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(bytes) {
                *to = from;
            }
            Ok(length)
        }
        InServiceAction::ReadFullStatus => full_status(&report()?, buffer),
        _ => Err(Stop::Rejected(SenseCode::INVALID_FIELD_IN_CDB)),
    }
}

/// Returns the reservation. Its key is zero if all registrants hold it (SPC-4 clause 6.15.3.2).
fn reservation(report: &Report) -> Result<Option<Reservation>, Stop> {
    let Some(kind) = report.reservation_type else { return Ok(None) };
    let key = if kind.is_all_registrants() {
        ReservationKey::ZERO
    } else {
        let holder = report.registrants.iter().find(|registrant| registrant.holds);
        let missing =
            || Stop::terminated(Cause::new("malformed", "the report has a reservation without holder"));
        ReservationKey(holder.ok_or_else(missing)?.key)
    };
    Ok(Some(Reservation { key, scope: Scope::LogicalUnit, kind: to_scsi(kind) }))
}

/// Returns one descriptor for each registrant. A registration is of the host, through whatever controller: `ALL_TG_PT`.
fn full_status(report: &Report, buffer: &mut [u8]) -> Result<usize, Stop> {
    let transport_ids: Vec<_> =
        report.registrants.iter().map(|registrant| transport_id(&registrant.host)).collect();
    let descriptors = report.registrants.iter().zip(&transport_ids).map(|(registrant, transport_id)| {
        let held = report.reservation_type.filter(|kind| registrant.holds || kind.is_all_registrants());
        Registration {
            key: ReservationKey(registrant.key),
            all_target_ports: true,
            reservation_holder: held.is_some(),
            scope: Scope::LogicalUnit,
            kind: held.map_or(ReservationType::Other(0), to_scsi),
            relative_port: 0,
            transport_id_bytes: &transport_id[..],
        }
    });
    FullStatus::build(report.generation, descriptors, buffer).map_err(too_long)
}

/// Returns a TransportID with the host identifier in bytes 8 to 23; one of 64 bits is in bytes 8 to 15.
fn transport_id(host: &HostIdentifier) -> [u8; TransportId::LENGTH] {
    let host = match host {
        HostIdentifier::Extended(bytes) => &bytes[..],
        HostIdentifier::Short(bytes) => &bytes[..],
    };
    let mut id = [0; TransportId::LENGTH];
    let bytes = [PROTOCOL, 0, 0, 0, 0, 0, 0, 0].iter().chain(host);
    for (to, from) in id.iter_mut().zip(bytes) {
        *to = *from;
    }
    id
}

fn capabilities(namespace: &Namespace<impl Passthrough>) -> Result<Capabilities, Stop> {
    let found = namespace.capabilities().map_err(|error| Stop::of(&error, Use::Read))?;
    if !found.is_supported() {
        return Err(Stop::Refused(no_reservations("its RESCAP is 0")));
    }
    let can_persist = found.persists_through_power_loss();
    let report = namespace.report().map_err(|error| Stop::of(&error, Use::Read))?;
    let types = NvmeType::ALL.into_iter().filter(|kind| found.has_type(*kind)).map(to_scsi);
    Ok(Capabilities {
        all_target_ports: true,
        persist_through_power_loss_capable: can_persist,
        persist_through_power_loss_activated: can_persist && report.persists,
        types: Some(TypeMask::new(types)),
        ..Capabilities::default()
    })
}

/// 65,535 registrants have far less than 2^32 bytes, so this does not happen.
fn too_long(error: BuildError) -> Stop {
    Stop::terminated(Cause::new("malformed", error.to_string()))
}
