//! The limit of open files, and what it is good for: every client takes some, and a hostile one as many as it can.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{connection::DESCRIPTORS_MAX, pool::Room};

/// What a connection takes: its own, and while a command runs that of the disk.
pub(crate) const PER_CLIENT: usize = 2;

/// For ourselves, and for the workers of multipath maps.
const OURS: usize = 400;

/// How much may be under way, if there are files enough.
const ROOM: Room = Room {
    // With four for each process it takes more than sixty that send what cannot be received to use these up.
    read: 256,
    read_of_one: 4,
    // Commands. It takes ten hung devices, each with hundreds of commands, to use them up.
    run: 1024,
    // Closes of descriptors that are not of disks, beside those.
    close: 128,
};

/// What the files that may be open are good for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// How many clients there may be.
    pub(crate) clients: usize,
    /// How much may be under way.
    pub(crate) room: Room,
    /// How many files may be open for clients when a thread is to wait for a message; `None` if there is no need to count.
    pub(crate) staying: Option<usize>,
    /// With how many descriptors that are still to be closed whoever has any has to wait.
    pub(crate) strays: usize,
}

impl Allowance {
    /// Raises the limit as far as is good for anything, and says what it is good for if `wanted` is the number of clients that
    /// are to be served.
    pub(crate) fn raise(wanted: u32) -> Self {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let all = needed(wanted).saturating_add(OURS);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // `None` is no limit at all.
        let enough = current.map(|current| current.max(all.try_into().unwrap_or(u64::MAX)));
        // The second takes privilege (CAP_SYS_RESOURCE).
        let tries = [(enough, maximum), (enough, enough), (maximum, maximum)];
        let raised = tries
            .into_iter()
            .find(|&(current, maximum)| setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok());
        let limit = raised.map_or(current, |(limit, _)| limit);
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let allowance = Self::new(limit.saturating_sub(OURS), wanted);
        let clients = allowance.clients;
        if clients < wanted {
            log::info!(
                "room for {clients} clients, not {wanted}: raise the limit of open files (RLIMIT_NOFILE, LimitNOFILE=) for more"
            );
        }
        if let Some(files) = allowance.staying {
            log::info!(
                "no more than {} threads will wait for their clients' next commands, so that these cannot use up the open files: raise that limit for more (RLIMIT_NOFILE, LimitNOFILE=)",
                files / DESCRIPTORS_MAX
            );
        }
        allowance
    }

    /// What so many files are good for, beside our own.
    fn new(files: usize, wanted: usize) -> Self {
        let strays = files / 4;
        if files >= needed(wanted) {
            return Self { clients: wanted, room: ROOM, staying: None, strays };
        }
        // For messages that are read, and what has come with others and is not closed yet: a process can bring two.
        let reserve = (files / 8).max(3 * DESCRIPTORS_MAX).min(files / 2);
        let rest = files.saturating_sub(reserve);
        let read_of_one = (files / (16 * DESCRIPTORS_MAX)).clamp(1, ROOM.read_of_one);
        Self {
            clients: (rest / PER_CLIENT).clamp(1, wanted.max(1)),
            room: Room { read_of_one, ..ROOM },
            staying: Some(rest),
            strays,
        }
    }
}

/// How many files so many clients and all the threads that there may be can have us open at once, each thread with a message of
/// as many descriptors as one can bring.
fn needed(clients: usize) -> usize {
    clients.saturating_mul(PER_CLIENT).saturating_add(ROOM.all().saturating_mul(DESCRIPTORS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_allows_is_enough_for_all_threads_to_stay() {
        let allowance = Allowance::new(524_288 - OURS, 4096);
        assert_eq!((allowance.clients, allowance.staying), (4096, None));
    }

    #[test]
    fn with_few_files_all_clients_and_what_one_process_can_bring_have_room() {
        for files in [0, 1, 10, 100, 1000, 3696, 10_000, 19_600, 100_000, 364_000] {
            let Allowance { clients, room, staying, .. } = Allowance::new(files, 4096);
            let staying = staying.expect("too few for all");
            assert!((1..=4096).contains(&clients));
            assert!(clients == 1 || clients * PER_CLIENT <= staying, "{files}");
            assert!(files < 3000 || files - staying >= (room.read_of_one + 1) * DESCRIPTORS_MAX, "{files}");
            assert_eq!((room.read, room.run, room.close), (ROOM.read, ROOM.run, ROOM.close));
        }
    }
}
