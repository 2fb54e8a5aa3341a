//! The socket between an old process and a new one, and their messages. It preserves message boundaries, and carries
//! descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::api::Door;
use crate::server::{ListenKey, Listener, Origin, PassedConnection};

/// Bytes of a connection's input that go in one message.
const PIECE_BYTES: usize = 32 * 1024;

/// How long the other side may take to take a message.
const SEND_PATIENCE: Duration = Duration::from_secs(10);

/// One end of it.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

/// What is said.
#[derive(Debug)]
pub(super) enum Message {
    /// Old to new: a socket that listens.
    Listener(Listener),
    /// Old to new: those were all.
    AllListeners,
    /// New to old: everything is checked.
    Ready,
    /// Old to new: a connection, and the first of what was read of it.
    Connection(PassedConnection),
    /// Old to new: more of what was read of the connection before.
    Input(Vec<u8>),
    /// Old to new: the store is closed.
    TakeOver,
    /// New to old: it serves.
    Serving,
}

impl Line {
    /// Both ends of a new one.
    ///
    /// # Errors
    /// Where the process may have no descriptor more.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Self::at(ours).map(|ours| (ours, theirs))
    }

    /// The end behind this descriptor.
    ///
    /// # Errors
    /// Where it is no socket.
    pub(super) fn at(end: OwnedFd) -> io::Result<Self> {
        set_socket_timeout(&end, Timeout::Send, Some(SEND_PATIENCE))?;
        Ok(Self(end))
    }

    /// # Errors
    /// The other side is gone, or takes nothing.
    pub(super) fn send_listener(&self, listener: &Listener) -> io::Result<()> {
        let origin = if listener.origin() == Origin::Given { b'g' } else { b'c' };
        self.send(&[b'L', key_to_byte(listener.key()), origin], Some(listener.as_fd()))
    }

    /// # Errors
    /// As [`send_listener`](Self::send_listener).
    pub(super) fn send_connection(&self, connection: &PassedConnection) -> io::Result<()> {
        self.send(&[b'C', door_to_byte(connection.door())], Some(connection.as_fd()))?;
        connection.input().chunks(PIECE_BYTES).try_for_each(|piece| self.send(&[b"I", piece].concat(), None))
    }

    /// Says something without more to it.
    ///
    /// # Errors
    /// As [`send_listener`](Self::send_listener).
    pub(super) fn say(&self, message: &Message) -> io::Result<()> {
        let byte = match message {
            Message::AllListeners => b'A',
            Message::Ready => b'R',
            Message::TakeOver => b'T',
            Message::Serving => b'S',
            Message::Listener(_) | Message::Connection(_) | Message::Input(_) => {
                unreachable!("sent by their own calls")
            }
        };
        self.send(&[byte], None)
    }

    fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        // With a timeout it is never begun again by itself, whatever the signal's handler was installed with.
        retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// What the other side says next, within `patience` where there is one; nothing where it is gone.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) where it says nothing in time, and what is no message.
    pub(super) fn receive(&self, patience: Option<Duration>) -> io::Result<Option<Message>> {
        set_socket_timeout(&self.0, Timeout::Recv, patience)?;
        let mut bytes = vec![0; 1 + PIECE_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let into = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let message = match (&bytes[..received.bytes], descriptor) {
            ([], None) => return Ok(None),
            ([b'L', key, origin], Some(socket)) => {
                let origin = if *origin == b'g' { Origin::Given } else { Origin::Configured };
                Message::Listener(Listener::received(socket, key_of_byte(*key), origin)?)
            }
            ([b'C', door], Some(socket)) => {
                Message::Connection(PassedConnection::new(socket, door_of_byte(*door), Vec::new()))
            }
            ([b'I', input @ ..], None) => Message::Input(input.to_vec()),
            ([b'A'], None) => Message::AllListeners,
            ([b'R'], None) => Message::Ready,
            ([b'T'], None) => Message::TakeOver,
            ([b'S'], None) => Message::Serving,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the other process sent an invalid message")),
        };
        Ok(Some(message))
    }
}

fn key_to_byte(key: ListenKey) -> u8 {
    match key {
        ListenKey::Main => b'm',
        ListenKey::Tls => b't',
        ListenKey::Metrics => b'x',
    }
}

fn key_of_byte(byte: u8) -> ListenKey {
    match byte {
        b't' => ListenKey::Tls,
        b'x' => ListenKey::Metrics,
        _ => ListenKey::Main,
    }
}

fn door_to_byte(door: Door) -> u8 {
    match door {
        Door::Main => b'm',
        Door::Metrics => b'x',
    }
}

fn door_of_byte(byte: u8) -> Door {
    if byte == b'x' { Door::Metrics } else { Door::Main }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_arrive_with_what_they_are_for_and_what_was_read_of_them() {
        let (ours, theirs) = Line::pair().expect("sockets");
        let theirs = Line::at(theirs).expect("a socket");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).expect("it listens");
        let input: Vec<u8> = (0..=255).cycle().take(PIECE_BYTES + 7).collect();
        ours.send_listener(&Listener::from(listener).for_metrics()).expect("room");
        ours.send_connection(&PassedConnection::new(client.into(), Door::Main, input.clone())).expect("room");
        ours.say(&Message::TakeOver).expect("room");
        let next = || theirs.receive(None).expect("a message").expect("not gone");
        let Message::Listener(listener) = next() else { panic!("a listener is first") };
        assert_eq!((listener.key(), listener.address()), (ListenKey::Metrics, Some(address)));
        assert_eq!(listener.origin(), Origin::Given);
        let Message::Connection(mut connection) = next() else { panic!("then the connection") };
        for _ in 0..2 {
            let Message::Input(piece) = next() else { panic!("then what was read of it") };
            connection.extend(&piece);
        }
        assert_eq!((connection.door(), connection.input()), (Door::Main, input.as_slice()));
        assert!(matches!(next(), Message::TakeOver));
        let late = theirs.receive(Some(Duration::from_millis(1))).expect_err("nothing more is said");
        assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
        drop(ours);
        assert!(theirs.receive(None).expect("its end").is_none());
    }
}
