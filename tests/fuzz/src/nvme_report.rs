//! The registrants that an NVMe controller reports.

use std::collections::BTreeSet;

use block_pr::{Format, HostIdentifier, Report, ReservationType};

/// The first byte chooses the format, the rest are the data of Reservation Report.
pub fn nvme_report(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let format = if choice % 2 == 0 { Format::Extended } else { Format::Short };
    let (header, entry) = format.sizes();
    let Ok(report) = Report::parse(bytes, format) else { return };

    assert!(bytes.len() >= header);
    assert_eq!(report.generation.to_le_bytes(), bytes[..4]);
    assert_eq!(report.reservation_type.map_or(0, ReservationType::code), bytes[4]);
    assert_eq!(report.total.to_le_bytes(), bytes[5..7]);
    let room = (bytes.len() - header) / entry;
    assert_eq!(report.registrants.len(), room.min(report.total.into()));
    assert_eq!(report.is_complete(), room >= report.total.into());
    for (number, registrant) in report.registrants.iter().enumerate() {
        let entry = &bytes[header + number * entry..][..entry];
        assert_eq!(registrant.controller.to_le_bytes(), entry[..2]);
        assert_eq!(registrant.holds, entry[2] & 1 == 1);
        let (key, host) = match registrant.host {
            HostIdentifier::Extended(host) => (8, host == entry[16..32]),
            HostIdentifier::Short(host) => (16, host == entry[8..16]),
        };
        assert_eq!(registrant.key.to_le_bytes(), entry[key..key + 8]);
        assert!(host, "the host identifier is another");
    }
    // A report is used to tell which host holds the reservation, so it must not contradict itself. A host is listed once for
    // each of its controllers.
    let holders = report.registrants.iter().filter(|registrant| registrant.holds);
    let hosts: BTreeSet<_> = holders.map(|registrant| (registrant.host, registrant.key)).collect();
    match report.reservation_type {
        None => assert!(hosts.is_empty()),
        Some(kind) if kind.is_all_registrants() => assert!(report.total > 0),
        Some(_) => assert!(hosts.len() == 1 || (hosts.is_empty() && !report.is_complete())),
    }
}
