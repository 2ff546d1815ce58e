//! Persistent reservations: PERSISTENT RESERVE IN and PERSISTENT RESERVE OUT (SPC-4 clauses 6.15 and 6.16).
//!
//! | what | type |
//! |---|---|
//! | the commands | [`PersistentReserveIn`], [`PersistentReserveOut`] |
//! | parameter lists of OUT | [`OutParameters`], [`BasicParameters`], [`RegisterAndMoveParameters`] |
//! | data of READ KEYS | [`Keys`] |
//! | data of READ RESERVATION | [`ReservationData`], [`Reservation`] |
//! | data of REPORT CAPABILITIES | [`Capabilities`], [`TypeMask`] |
//! | data of READ FULL STATUS | [`FullStatus`], [`Registration`] |
//! | names of initiator ports | [`TransportId`], [`TransportIds`], [`TransportIdBuf`] |
//!
//! Data may come cut: a device returns as much as the allocation length allows and says in ADDITIONAL LENGTH how
//! much there would be. Both numbers are kept apart here, and the iterators give what is there in whole.

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
