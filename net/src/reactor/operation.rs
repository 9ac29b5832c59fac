//! The reactor's operations on the shard's ring, and the names that their completions carry.
//!
//! Owns the layout of the 56 bits: 4 of kind, 14 of the connection's generation, 18 of its slot (or the listener).
#![expect(
    unsafe_code,
    reason = "entries that carry a raw pointer, and a system call"
)]

use std::os::fd::{AsRawFd, RawFd};

use gramme_engine::ring::{Owner, Ring, user_data};
use io_uring::{opcode, types};

use super::address::RawAddress;
use super::buffers::GROUP;
use super::session::{CONNECTIONS_A_SHARD_MAX, ConnectionId};

const SLOT_BITS: u32 = 18;
const GENERATION_BITS: u32 = 14;
const KIND_SHIFT: u32 = SLOT_BITS + GENERATION_BITS;

const _: () = assert!(CONNECTIONS_A_SHARD_MAX == 1 << SLOT_BITS);

/// What finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// An accept of this listener.
    Accept(u32),
    /// A receive.
    Receive(ConnectionId),
    /// A send.
    Send(ConnectionId),
    /// A connect.
    Connect(ConnectionId),
    /// A cancellation; what it cancelled completes by itself.
    Cancel,
}

impl Operation {
    pub(super) fn of(own: u64) -> Option<Self> {
        let slot = (own & ((1 << SLOT_BITS) - 1)) as u32;
        let connection = ConnectionId {
            slot,
            generation: ((own >> SLOT_BITS) & ((1 << GENERATION_BITS) - 1)) as u16,
        };
        match own >> KIND_SHIFT {
            1 => Some(Self::Accept(slot)),
            2 => Some(Self::Receive(connection)),
            3 => Some(Self::Send(connection)),
            4 => Some(Self::Cancel),
            5 => Some(Self::Connect(connection)),
            _ => None,
        }
    }

    fn user_data(self) -> u64 {
        let at = |kind: u64, connection: ConnectionId| {
            (kind << KIND_SHIFT)
                | (u64::from(connection.generation) << SLOT_BITS)
                | u64::from(connection.slot)
        };
        let own = match self {
            Self::Accept(listener) => (1 << KIND_SHIFT) | u64::from(listener),
            Self::Receive(connection) => at(2, connection),
            Self::Send(connection) => at(3, connection),
            Self::Cancel => 4 << KIND_SHIFT,
            Self::Connect(connection) => at(5, connection),
        };
        user_data(Owner::Edge, own)
    }
}

/// Clients that may wait to be accepted: the standard library's 128 are too few for a burst, and one that finds no
/// place tries again only after a second.
const BACKLOG: i32 = 4096;

/// Lets more clients wait to be accepted.
pub(super) fn widen_backlog(socket: &impl AsRawFd) -> std::io::Result<()> {
    // SAFETY: it takes no pointers, and the descriptor is open.
    match unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Accepts until it fails or is cancelled.
pub(super) fn accept(ring: &mut Ring, listener: u32, socket: &impl AsRawFd) {
    let entry = opcode::AcceptMulti::new(types::Fd(socket.as_raw_fd()))
        .flags(libc::SOCK_CLOEXEC)
        .build()
        .user_data(Operation::Accept(listener).user_data());
    // SAFETY: it points to nothing.
    unsafe { ring.push(entry) };
}

/// Receives into lent buffers until it fails, is cancelled or none are left.
pub(super) fn receive(ring: &mut Ring, connection: ConnectionId, socket: RawFd) {
    let entry = opcode::RecvMulti::new(types::Fd(socket), GROUP)
        .build()
        .user_data(Operation::Receive(connection).user_data());
    // SAFETY: it points to nothing; the group's buffers outlive the ring's use of them.
    unsafe { ring.push(entry) };
}

/// Sends.
///
/// # Safety
/// The bytes must stay where they are, unchanged, until the completion.
pub(super) unsafe fn send(
    ring: &mut Ring,
    connection: ConnectionId,
    socket: RawFd,
    bytes: *const [u8],
) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let entry = opcode::Send::new(types::Fd(socket), bytes.cast(), length)
        .flags(libc::MSG_NOSIGNAL)
        .build()
        .user_data(Operation::Send(connection).user_data());
    // SAFETY: promised by the caller.
    unsafe { ring.push(entry) };
}

/// Connects.
///
/// # Safety
/// The address must be kept until the completion.
pub(super) unsafe fn connect(
    ring: &mut Ring,
    connection: ConnectionId,
    socket: RawFd,
    address: &RawAddress,
) {
    let (address, length) = address.raw();
    let entry = opcode::Connect::new(types::Fd(socket), address, length)
        .build()
        .user_data(Operation::Connect(connection).user_data());
    // SAFETY: promised by the caller.
    unsafe { ring.push(entry) };
}

/// Cancels an accept, a receive or a connect.
pub(super) fn cancel(ring: &mut Ring, operation: Operation) {
    let entry = opcode::AsyncCancel::new(operation.user_data())
        .build()
        .user_data(Operation::Cancel.user_data());
    // SAFETY: it points to nothing.
    unsafe { ring.push(entry) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_names_its_operation() {
        let connection = ConnectionId {
            slot: (CONNECTIONS_A_SHARD_MAX - 1) as u32,
            generation: (1 << GENERATION_BITS) - 1,
        };
        for operation in [
            Operation::Accept(7),
            Operation::Receive(connection),
            Operation::Send(connection),
            Operation::Connect(connection),
            Operation::Cancel,
        ] {
            let own = operation.user_data() & ((1 << 56) - 1);
            assert_eq!(Operation::of(own), Some(operation));
        }
        assert_eq!(Operation::of(0), None);
    }
}
