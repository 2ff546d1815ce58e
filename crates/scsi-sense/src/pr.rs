//! Persistent reservations: PERSISTENT RESERVE IN and PERSISTENT RESERVE OUT (SPC-4 clauses 6.15 and 6.16).
//!
//! | item | type |
//! |---|---|
//! | the commands | [`PersistentReserveIn`], [`PersistentReserveOut`] |
//! | parameter lists of OUT | [`OutParameters`], [`BasicParameters`], [`RegisterAndMoveParameters`] |
//! | data of READ KEYS | [`Keys`] |
//! | data of READ RESERVATION | [`ReservationData`], [`Reservation`] |
//! | data of REPORT CAPABILITIES | [`Capabilities`], [`TypeMask`] |
//! | data of READ FULL STATUS | [`FullStatus`], [`Registration`] |
//! | names of initiator ports | [`TransportId`], [`TransportIds`], [`TransportIdBuf`] |
//!
//! Data may be truncated: a device returns at most the allocation length, and states the full length in ADDITIONAL
//! LENGTH. Both lengths are available here, and the iterators return only complete entries.

mod action;
mod capabilities;
mod command;
mod data;
mod full_status;
mod iscsi;
mod key;
mod keys;
mod kind;
mod parameters;
mod protocol;
mod reservation;
mod transport_id;
mod transport_id_error;
mod transport_ids;

pub use action::{InServiceAction, OutServiceAction};
pub use capabilities::{Capabilities, TypeMask};
pub use command::{PersistentReserveIn, PersistentReserveOut};
pub use data::InDataError;
pub use full_status::{FullStatus, FullStatusIter, Registration};
pub use iscsi::{IscsiName, IscsiSessionId};
pub use key::ReservationKey;
pub use keys::{KeyIter, Keys};
pub use kind::{ReservationType, Scope};
pub use parameters::{BasicParameters, OutParameters, ParameterError, RegisterAndMoveParameters};
pub use protocol::ProtocolIdentifier;
pub use reservation::{Reservation, ReservationData};
pub use transport_id::{RawTransportId, TransportId};
pub use transport_id_error::TransportIdError;
pub use transport_ids::{TransportIdBuf, TransportIdIter, TransportIds};
