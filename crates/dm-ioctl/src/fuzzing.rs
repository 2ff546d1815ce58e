//! The parsers of the kernel's answers, for the fuzz targets of this repository.

use crate::{DeviceNumber, Error, Table, answer};

/// Reads a complete answer to `DM_TABLE_STATUS`.
pub fn table(bytes: &[u8]) -> Result<Table, Error> {
    answer::table(bytes)
}

/// Reads a complete answer to `DM_TABLE_DEPS`.
pub fn dependencies(bytes: &[u8]) -> Result<Vec<DeviceNumber>, Error> {
    answer::dependencies(bytes)
}
