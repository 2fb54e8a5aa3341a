//! The socket between an old process and a new one, and their messages. It preserves message boundaries and carries
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

/// The most bytes of a connection's input in one message.
const PIECE_BYTES: usize = 32 * 1024;

/// One end of the socket.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

/// A message between the two processes.
#[derive(Debug)]
pub(super) enum Message {
    /// Old to new: a listening socket.
    Listener(Listener),
    /// Old to new: all listening sockets were sent.
    AllListeners,
    /// New to old: all checks have passed.
    Ready,
    /// Old to new: a connection. What was read of it follows as `Input`.
    Connection(PassedConnection),
    /// Old to new: a piece of what was read of the last connection.
    Input(Vec<u8>),
    /// Old to new: the store is closed.
    TakeOver,
    /// New to old: the new server is running.
    Serving,
}

/// A message in the form in which it is sent.
#[derive(Debug)]
pub(super) struct Letter<'l> {
    bytes: Vec<u8>,
    descriptor: Option<BorrowedFd<'l>>,
}

impl<'l> Letter<'l> {
    pub(super) fn listener(listener: &'l Listener) -> Self {
        let origin = if listener.origin() == Origin::Given { b'g' } else { b'c' };
        Self { bytes: vec![b'L', key_to_byte(listener.key()), origin], descriptor: Some(listener.as_fd()) }
    }

    /// The messages that pass on a connection and what was read of it.
    pub(super) fn of_connection(connection: &'l PassedConnection) -> impl Iterator<Item = Self> {
        let bytes = vec![b'C', door_to_byte(connection.door())];
        let pieces = connection.input().chunks(PIECE_BYTES);
        let input = pieces.map(|piece| Self { bytes: [b"I", piece].concat(), descriptor: None });
        std::iter::once(Self { bytes, descriptor: Some(connection.as_fd()) }).chain(input)
    }

    /// A message without data.
    pub(super) fn saying(message: &Message) -> Self {
        let byte = match message {
            Message::AllListeners => b'A',
            Message::Ready => b'R',
            Message::TakeOver => b'T',
            Message::Serving => b'S',
            Message::Listener(_) | Message::Connection(_) | Message::Input(_) => {
                unreachable!("sent by their own calls")
            }
        };
        Self { bytes: vec![byte], descriptor: None }
    }
}

impl Line {
    /// Creates both ends. `patience` is how long a send from this end waits for the other side.
    ///
    /// # Errors
    /// If the process may open no more descriptors.
    pub(super) fn pair(patience: Duration) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Self::at(ours, patience).map(|ours| (ours, theirs))
    }

    /// Uses this descriptor as one end.
    ///
    /// # Errors
    /// If it is not a socket.
    pub(super) fn at(end: OwnedFd, patience: Duration) -> io::Result<Self> {
        set_socket_timeout(&end, Timeout::Send, Some(patience))?;
        Ok(Self(end))
    }

    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the other side does not take the message in time; it may be sent
    /// again. Any other error means that the other side is gone.
    pub(super) fn send(&self, letter: &Letter) -> io::Result<()> {
        let descriptors: Vec<_> = letter.descriptor.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        // With a timeout set, the kernel never restarts the call after a signal, whatever flags the handler has.
        retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(&letter.bytes)], &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Receives the next message, within `patience` if it is set. Returns `None` if the other side is gone.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if no message comes in time; another error if a message is invalid.
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
        let soon = Duration::from_millis(1);
        let (ours, theirs) = Line::pair(soon).expect("sockets");
        let theirs = Line::at(theirs, soon).expect("a socket");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).expect("it listens");
        let input: Vec<u8> = (0..=255).cycle().take(PIECE_BYTES + 7).collect();
        let listener = Listener::from(listener).for_metrics();
        let connection = PassedConnection::new(client.into(), Door::Main, input.clone());
        let all = [Letter::listener(&listener)].into_iter().chain(Letter::of_connection(&connection));
        for letter in all.chain([Letter::saying(&Message::TakeOver)]) {
            ours.send(&letter).expect("room");
        }
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

    #[test]
    fn a_side_that_takes_nothing_is_not_waited_for_without_end() {
        let (ours, _theirs) = Line::pair(Duration::from_millis(1)).expect("sockets");
        let refusal = (0..).find_map(|_| ours.send(&Letter::saying(&Message::TakeOver)).err()).expect("it is full");
        assert_eq!(refusal.kind(), io::ErrorKind::WouldBlock);
    }
}
