//! The types of a reservation in SCSI and in NVMe.

use block_pr::ReservationType as NvmeType;
use scsi_sense::{SenseCode, pr::ReservationType};

use super::answer::Stop;

/// Returns the type of NVMe for a TYPE that the CDB must have, or INVALID FIELD IN CDB if it is not one of six.
pub(super) fn to_nvme(kind: ReservationType) -> Result<NvmeType, Stop> {
    Ok(match kind {
        ReservationType::WriteExclusive => NvmeType::WriteExclusive,
        ReservationType::ExclusiveAccess => NvmeType::ExclusiveAccess,
        ReservationType::WriteExclusiveRegistrantsOnly => NvmeType::WriteExclusiveRegistrantsOnly,
        ReservationType::ExclusiveAccessRegistrantsOnly => NvmeType::ExclusiveAccessRegistrantsOnly,
        ReservationType::WriteExclusiveAllRegistrants => NvmeType::WriteExclusiveAllRegistrants,
        ReservationType::ExclusiveAccessAllRegistrants => NvmeType::ExclusiveAccessAllRegistrants,
        _ => return Err(Stop::Rejected(SenseCode::INVALID_FIELD_IN_CDB)),
    })
}

/// Returns the type of SCSI.
pub(super) fn to_scsi(kind: NvmeType) -> ReservationType {
    match kind {
        NvmeType::WriteExclusive => ReservationType::WriteExclusive,
        NvmeType::ExclusiveAccess => ReservationType::ExclusiveAccess,
        NvmeType::WriteExclusiveRegistrantsOnly => ReservationType::WriteExclusiveRegistrantsOnly,
        NvmeType::ExclusiveAccessRegistrantsOnly => ReservationType::ExclusiveAccessRegistrantsOnly,
        NvmeType::WriteExclusiveAllRegistrants => ReservationType::WriteExclusiveAllRegistrants,
        NvmeType::ExclusiveAccessAllRegistrants => ReservationType::ExclusiveAccessAllRegistrants,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvme_types_are_translated_both_ways() {
        for (scsi, nvme) in [(1, 1), (3, 2), (5, 3), (6, 4), (7, 5), (8, 6)] {
            let (scsi, nvme) = (ReservationType::new(scsi), NvmeType::new(nvme).unwrap());
            assert_eq!(to_nvme(scsi).unwrap(), nvme);
            assert_eq!(to_scsi(nvme), scsi);
            assert_eq!(scsi.is_all_registrants(), nvme.is_all_registrants());
        }
        for code in [0, 2, 4, 9, 0xf] {
            assert!(matches!(
                to_nvme(ReservationType::new(code)),
                Err(Stop::Rejected(SenseCode::INVALID_FIELD_IN_CDB))
            ));
        }
    }
}
