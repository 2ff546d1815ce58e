//! What tests in the lab's machines share: the disks that their init makes, and what makes a host one of multipath maps.

mod commands;
mod disks;
mod faulty;
mod map;
mod multipath;

pub use commands::*;
pub use disks::Disk;
pub use faulty::Faulty;
pub use map::{Map, State, clean};
pub use multipath::{Multipath, hide_library, set_recorded_key, take_away, wait_for};
