use proptest::prelude::*;

use super::*;

/// Builds the data of a report, as a controller does.
fn build(report: &Report, format: Format) -> Vec<u8> {
    let (header, size) = format.sizes();
    let mut bytes = vec![0; header];
    bytes[..4].copy_from_slice(&report.generation.to_le_bytes());
    bytes[4] = report.reservation_type.map_or(0, ReservationType::code);
    bytes[5..7].copy_from_slice(&report.total.to_le_bytes());
    bytes[9] = report.persists.into();
    for registrant in &report.registrants {
        let mut entry = vec![0; size];
        entry[..2].copy_from_slice(&registrant.controller.to_le_bytes());
        entry[2] = registrant.holds.into();
        match registrant.host {
            HostIdentifier::Extended(host) => {
                entry[8..16].copy_from_slice(&registrant.key.to_le_bytes());
                entry[16..32].copy_from_slice(&host);
            }
            HostIdentifier::Short(host) => {
                entry[8..16].copy_from_slice(&host);
                entry[16..24].copy_from_slice(&registrant.key.to_le_bytes());
            }
        }
        bytes.extend(entry);
    }
    bytes
}

/// Returns a report of this many registrants, the first of which holds a reservation.
fn report(format: Format, count: u16) -> Report {
    let registrants = (0..count)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let host = match format {
                Format::Extended => {
                    HostIdentifier::Extended([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, high, low])
                }
                Format::Short => HostIdentifier::Short([1, 0, 0, 0, 0, 9, high, low]),
            };
            Registrant { controller: number, holds: number == 0, key: 0xa0_0000 + u64::from(number), host }
        })
        .collect();
    let reservation_type = (count > 0).then_some(ReservationType::WriteExclusiveRegistrantsOnly);
    Report { generation: 0x0102_0304, reservation_type, total: count, persists: count % 2 == 1, registrants }
}

#[test]
fn report_of_1500_registrants_is_read() {
    for format in [Format::Extended, Format::Short] {
        for count in [0, 1, 2, 16, 17, 300, 1500, u16::MAX] {
            let report = report(format, count);
            let bytes = build(&report, format);
            assert_eq!(bytes.len(), format.length(count.into()));
            assert_eq!(Report::parse(&bytes, format), Ok(report));
        }
    }
}

#[test]
fn report_fields_have_their_standard_offsets() {
    let mut bytes = vec![0; 128];
    bytes[..10].copy_from_slice(&[5, 0, 0, 0, 3, 1, 0, 0, 0, 1]);
    bytes[64..67].copy_from_slice(&[0xff, 0xff, 1]);
    bytes[72..80].copy_from_slice(&[0xa1, 0, 0, 0, 0, 0, 0, 0]);
    bytes[80..96].copy_from_slice(b"0123456789abcdef");
    let report = Report::parse(&bytes, Format::Extended).unwrap();
    let host = HostIdentifier::Extended(*b"0123456789abcdef");
    let registrant = Registrant { controller: 0xffff, holds: true, key: 0xa1, host };
    assert_eq!((report.generation, report.persists, report.total), (5, true, 1));
    assert_eq!(report.reservation_type, Some(ReservationType::WriteExclusiveRegistrantsOnly));
    assert_eq!(report.of_host(host).collect::<Vec<_>>(), [&registrant]);

    bytes.truncate(48);
    bytes[24..48]
        .copy_from_slice(&[7, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0xb2, 0, 0, 0, 0, 0, 0, 0]);
    let report = Report::parse(&bytes, Format::Short).unwrap();
    let host = HostIdentifier::Short([1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(report.registrants, [Registrant { controller: 7, holds: true, key: 0xb2, host }]);
}

#[test]
fn report_cut_anywhere_says_so() {
    for format in [Format::Extended, Format::Short] {
        let (header, entry) = format.sizes();
        let whole = report(format, 5);
        let bytes = build(&whole, format);
        for length in 0..bytes.len() {
            let parsed = Report::parse(&bytes[..length], format);
            if length < header {
                assert_eq!(parsed, Err(Malformed::TooShort { needed: header, got: length }));
                continue;
            }
            let parsed = parsed.unwrap();
            let count = (length - header) / entry;
            assert_eq!(parsed.registrants, whole.registrants[..count]);
            assert!(!parsed.is_complete() && parsed.total == 5, "{length}");
        }
    }
}

#[test]
fn lying_counts_add_no_registrant() {
    let format = Format::Extended;
    let mut bytes = build(&report(format, 3), format);
    bytes[5] = 2;
    let fewer = Report::parse(&bytes, format).unwrap();
    assert_eq!((fewer.registrants.len(), fewer.is_complete()), (2, true));
    bytes[6] = 0xff;
    let more = Report::parse(&bytes, format).unwrap();
    assert_eq!((more.registrants.len(), more.is_complete()), (3, false));
    bytes[5..7].fill(0);
    assert_eq!(Report::parse(&bytes, format), Err(Malformed::NoRegistrant));
}

#[test]
fn contradictory_reports_are_malformed() {
    let format = Format::Extended;
    let broken = |change: &dyn Fn(&mut Report)| {
        let mut report = report(format, 3);
        change(&mut report);
        Report::parse(&build(&report, format), format)
    };
    assert_eq!(broken(&|report| report.registrants[0].holds = false), Err(Malformed::Holder));
    assert_eq!(broken(&|report| report.registrants[1].holds = true), Err(Malformed::Holder));
    assert_eq!(broken(&|report| report.reservation_type = None), Err(Malformed::NoReservation));
    let all = Some(ReservationType::WriteExclusiveAllRegistrants);
    assert!(broken(&|report| report.reservation_type = all).is_ok());
    // One host by two controllers is one holder.
    let twice = broken(&|report| {
        report.registrants[2] = Registrant { controller: 1, ..report.registrants[0] };
    });
    assert_eq!(twice.unwrap().registrants.len(), 3);
    for code in 7..=u8::MAX {
        let mut bytes = build(&report(format, 1), format);
        bytes[4] = code;
        assert_eq!(Report::parse(&bytes, format), Err(Malformed::ReservationType(code)));
    }
}

fn any_format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Extended), Just(Format::Short)]
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, format in any_format()) {
        if let Ok(report) = Report::parse(&bytes, format) {
            prop_assert!(report.registrants.len() <= usize::from(report.total));
            prop_assert!(format.length(report.registrants.len()) <= bytes.len());
        }
    }

    /// Bytes that pass the checks of the header reach the registrants.
    #[test]
    fn any_registrants_are_read_in_order(
        generation: u32,
        kind in prop_oneof![Just(0_u8), 5..=6_u8],
        total: u16,
        entries in prop::collection::vec(any::<[u8; 64]>(), 0..40),
        trailing in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = vec![0; 64];
        bytes[..4].copy_from_slice(&generation.to_le_bytes());
        bytes[4] = kind;
        bytes[5..7].copy_from_slice(&total.to_le_bytes());
        for mut entry in entries.iter().copied() {
            if kind == 0 {
                entry[2] &= 0xfe;
            }
            bytes.extend(entry);
        }
        bytes.extend(&trailing);
        let parsed = Report::parse(&bytes, Format::Extended);
        if kind != 0 && total == 0 {
            prop_assert_eq!(parsed, Err(Malformed::NoRegistrant));
        } else {
            let report = parsed.unwrap();
            prop_assert_eq!(report.generation, generation);
            prop_assert_eq!(report.registrants.len(), entries.len().min(total.into()));
            for (registrant, entry) in report.registrants.iter().zip(&entries) {
                prop_assert_eq!(&registrant.key.to_le_bytes()[..], &entry[8..16]);
                prop_assert_eq!(registrant.host, HostIdentifier::Extended(entry[16..32].try_into().unwrap()));
            }
        }
    }
}
