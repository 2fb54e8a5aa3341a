//! The floor: what delivering costs at least, to compare servers with. One `send` of the frame per socket per event, and
//! next to nothing besides: it looks for the few bytes of a request that it needs, trusts them, and keeps nothing of what
//! passes but a number per project. `floor N` puts up to N events that wait together into one `send`.
//!
//! It is no server for anything else: whatever is not one of the load generator's own requests ends its connection.
//! It listens on 127.0.0.1, on the port in `PORT`.

mod request;
mod streams;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use request::Request;
use streams::{Stream, Streams};

/// The listener's token: beyond every connection's.
const LISTENER: Token = Token(usize::MAX);

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// Where requests are read to.
const SCRATCH_BYTES: usize = 64 * 1024;

/// A request longer than this is none of the load generator's.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n\
    retry: 2000\nid: 0\ndata: {\"type\":\"connected\",\"projectId\":\"-\",\"seq\":0,\"payload\":{\"resume\":\"fresh\"}}\n\n";

const PUBLISHED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

const HEALTHY: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";

fn main() -> ExitCode {
    let batch = std::env::args().nth(1).map_or(Ok(1), |text| text.parse::<usize>());
    let port = std::env::var("PORT").map(|text| text.parse::<u16>());
    let (Ok(batch @ 1..), Ok(Ok(port))) = (batch, port) else {
        eprintln!("usage: PORT=8080 floor [events in one write at most]");
        return ExitCode::FAILURE;
    };
    match Floor::listen(port, batch).and_then(Floor::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A listener whose queue holds everyone who comes at once: with the usual 128 the kernel turns most of them away, and
/// their retries, a second apart, would be what is measured.
fn listen(port: u16) -> io::Result<TcpListener> {
    const WAITING_MAX: i32 = 16 * 1024;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    net::listen(&socket, WAITING_MAX)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// A connection that is no stream yet, or never will be one.
struct Plain {
    socket: TcpStream,
    /// What has come of a request that is not complete.
    input: Vec<u8>,
}

enum Connection {
    Plain(Plain),
    Stream(Stream),
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    streams: Streams,
    /// Events that wait for each other, at most.
    batch: usize,
    scratch: Vec<u8>,
}

impl Floor {
    fn listen(port: u16, batch: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = listen(port)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (connections, free) = (Vec::new(), Vec::new());
        Ok(Self {
            poll,
            listener,
            connections,
            free,
            streams: Streams::default(),
            batch,
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                let Token(index) = event.token();
                if event.token() == LISTENER {
                    self.accept()?;
                } else if self.look_at(index, event).is_err() {
                    self.close(index);
                }
            }
            self.deliver();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            socket.set_nodelay(true)?;
            self.poll.registry().register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            self.connections[index] = Some(Connection::Plain(Plain { socket, input: Vec::new() }));
        }
    }

    /// Whatever goes wrong ends the connection.
    fn look_at(&mut self, index: usize, event: &mio::event::Event) -> io::Result<()> {
        match self.connections.get_mut(index).and_then(Option::as_mut) {
            None => Ok(()),
            Some(Connection::Stream(stream)) => {
                if event.is_writable() {
                    stream.write_rest()?;
                }
                // Nobody says anything on a stream but that it is over.
                if event.is_read_closed() || event.is_error() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
            }
            Some(Connection::Plain(_)) if event.is_readable() || event.is_read_closed() => self.read(index),
            Some(Connection::Plain(_)) => Ok(()),
        }
    }

    fn read(&mut self, index: usize) -> io::Result<()> {
        let Some(Some(Connection::Plain(plain))) = self.connections.get_mut(index) else { return Ok(()) };
        loop {
            match plain.socket.read(&mut self.scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    plain.input.extend_from_slice(&self.scratch[..n]);
                    if n < self.scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if plain.input.len() > REQUEST_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        match request::read(&plain.input) {
            None => return Ok(()),
            Some(Request::Other) => return Err(ErrorKind::InvalidData.into()),
            Some(Request::Health) => plain.socket.write_all(HEALTHY)?,
            Some(Request::Publish { project, rest }) => {
                self.streams.push(project, rest);
                plain.socket.write_all(PUBLISHED)?;
            }
            Some(Request::Subscribe { project }) => {
                plain.socket.write_all(STREAM_HEAD)?;
                let place = self.streams.add(project, index);
                return self.begin(index, place);
            }
        }
        plain.input.clear();
        if self.streams.waiting() >= self.batch {
            self.deliver();
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, place: (usize, usize)) -> io::Result<()> {
        if let Some(Connection::Plain(plain)) = self.connections[index].take() {
            self.connections[index] = Some(Connection::Stream(Stream::new(plain.socket, place)));
        }
        Ok(())
    }

    /// Writes what waits to everyone whom it concerns.
    fn deliver(&mut self) {
        let connections = &mut self.connections;
        let mut broken = Vec::new();
        self.streams.deliver(|index, frames| {
            if let Some(Some(Connection::Stream(stream))) = connections.get_mut(index)
                && stream.write(frames).is_err()
            {
                broken.push(index);
            }
        });
        broken.into_iter().for_each(|index| self.close(index));
    }

    fn close(&mut self, index: usize) {
        match self.connections.get_mut(index).and_then(Option::take) {
            None => return,
            Some(Connection::Plain(_)) => {}
            Some(Connection::Stream(stream)) => {
                if let Some((moved, place)) = self.streams.remove(stream.place)
                    && let Some(Some(Connection::Stream(stream))) = self.connections.get_mut(moved)
                {
                    stream.place = place;
                }
            }
        }
        self.free.push(index);
    }
}
