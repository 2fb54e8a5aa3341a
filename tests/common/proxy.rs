//! A TCP proxy that fails on command: it cuts connections, stalls them, or lets nobody in.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What the proxy does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Forwarding,
    /// Nothing is accepted, nothing is forwarded, nothing is closed.
    Stalled,
    /// Whoever connects is cut off at once.
    Refusing,
    Ended,
}

/// A proxy until it is dropped; everyone is cut off then.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    target: SocketAddr,
}

struct State {
    mode: Mode,
    /// Both ends of each connection, to cut it.
    open: Vec<TcpStream>,
}

impl Proxy {
    /// One before `target`, which forwards.
    pub fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = Mutex::new(State { mode: Mode::Forwarding, open: Vec::new() });
        let shared = Arc::new(Shared { state, changed: Condvar::new(), target });
        let accepts = shared.clone();
        std::thread::spawn(move || accepts.accept(&listener));
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections; new ones are let in as before.
    pub fn cut(&self) {
        self.shared.cut(&mut self.shared.state());
    }

    /// From now on nothing goes through, and nobody is told.
    pub fn stall(&self) {
        self.shared.set(Mode::Stalled);
    }

    /// Ends all connections, and lets nobody in.
    pub fn refuse(&self) {
        self.shared.set(Mode::Refusing);
        self.cut();
    }

    /// Forwards again: what was stalled too, where its ends still want it.
    pub fn go_on(&self) {
        self.shared.set(Mode::Forwarding);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.set(Mode::Ended);
        self.cut();
        // So that it looks.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    fn set(&self, mode: Mode) {
        self.state().mode = mode;
        self.changed.notify_all();
    }

    fn cut(&self, state: &mut State) {
        for socket in state.open.drain(..) {
            // Fails where it has ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits while all is stalled; what is to be done then.
    fn mode(&self) -> Mode {
        let stalled = |state: &mut State| state.mode == Mode::Stalled;
        self.changed.wait_while(self.state(), stalled).expect("as above").mode
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let mode = self.mode();
            if mode == Mode::Ended {
                return;
            }
            let Ok((client, _)) = listener.accept() else { continue };
            // What it does may have changed meanwhile; whom it refuses is dropped here.
            if self.mode() == Mode::Forwarding
                && let Ok(server) = TcpStream::connect(self.target)
            {
                self.join(client, server);
            }
        }
    }

    /// Forwards between the two, both ways.
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        for socket in [&client, &server] {
            let _ = socket.set_nodelay(true);
        }
        let copy = |socket: &TcpStream| socket.try_clone().expect("a descriptor");
        let (to_server, to_client) = (copy(&server), copy(&client));
        self.state().open.extend([copy(&client), copy(&server)]);
        for (from, to) in [(client, to_server), (server, to_client)] {
            let shared = self.clone();
            std::thread::spawn(move || shared.forward(from, to));
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            self.mode();
            if to.write_all(&chunk[..length]).is_err() {
                break;
            }
        }
        // An end is held back like all else.
        self.mode();
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
