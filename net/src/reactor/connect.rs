//! A connection that this side opens, until it is connected.
//!
//! Owns the address while the kernel reads it.
#![expect(unsafe_code, reason = "the address of a connect stays until its end")]

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use gramme_engine::ring::Ring;

use super::address::RawAddress;
use super::connection::{Connection, Life};
use super::operation::{self, Operation};
use super::session::{ConnectionId, Session};

/// How far a connection of this side's has come.
pub(super) enum Connect {
    /// The kernel is to be asked.
    Asked(RawAddress),
    /// It was; it reads the address.
    UnderWay {
        _address: RawAddress,
        is_cancelled: bool,
    },
    /// It is connected, or failed and closed.
    Done,
}

impl Connection {
    /// A connection that this side opens; the socket is not connected yet.
    pub(super) fn connecting(
        id: ConnectionId,
        socket: TcpStream,
        (session, address): (Box<dyn Session>, RawAddress),
    ) -> Self {
        let mut connection = Self::new(id, socket, session);
        connection.connect = Connect::Asked(address);
        connection.is_watched = true;
        connection
    }

    /// Whether the other side has taken it; true also once it was lost again.
    pub(super) const fn is_connected(&self) -> bool {
        matches!(self.connect, Connect::Done)
    }

    /// The connect has ended.
    pub(super) fn connected(&mut self, result: i32) {
        self.connect = Connect::Done;
        if result < 0 {
            tracing::debug!(error = %std::io::Error::from_raw_os_error(-result), "a peer cannot be reached");
            self.close();
        }
    }

    /// Has the kernel connect it, or give that up; returns whether it is connected, or lost.
    pub(super) fn connect(&mut self, ring: &mut Ring) -> bool {
        match &mut self.connect {
            Connect::Done => return true,
            Connect::Asked(_) if self.life == Life::Closed => {
                self.connect = Connect::Done;
                return true;
            }
            Connect::Asked(address) => {
                // SAFETY: the address is on the heap, and is kept until the completion: the connection is not removed
                // before.
                unsafe { operation::connect(ring, self.id, self.socket.as_raw_fd(), address) };
                let asked = std::mem::replace(&mut self.connect, Connect::Done);
                if let Connect::Asked(address) = asked {
                    self.connect = Connect::UnderWay {
                        _address: address,
                        is_cancelled: false,
                    };
                }
            }
            Connect::UnderWay { is_cancelled, .. } => {
                if self.life == Life::Closed && !*is_cancelled {
                    *is_cancelled = true;
                    operation::cancel(ring, Operation::Connect(self.id));
                }
            }
        }
        false
    }
}
