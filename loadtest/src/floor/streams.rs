//! Who reads which project, and the frames that wait to be written to them.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};

use mio::net::TcpStream;

/// What may wait for a reader that does not keep up; it loses its connection then.
const REST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A reader.
pub struct Stream {
    socket: TcpStream,
    /// What the socket had no room for.
    rest: Vec<u8>,
    /// Its project, and where it stands there.
    pub place: (usize, usize),
}

impl Stream {
    /// A socket to which the head has been written.
    pub fn new(socket: TcpStream, place: (usize, usize)) -> Self {
        Self { socket, rest: Vec::new(), place }
    }

    /// One `send`, unless something waits already.
    pub fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        let taken = if self.rest.is_empty() { self.write_some(frames)? } else { 0 };
        if taken == frames.len() {
            return Ok(());
        }
        self.rest.extend_from_slice(&frames[taken..]);
        if self.rest.len() > REST_BYTES_MAX { Err(ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }

    /// The socket has room again.
    pub fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let taken = self.write_some(&rest)?;
            self.rest = rest;
            self.rest.drain(..taken);
            if taken == 0 {
                break;
            }
        }
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.write(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            done => done,
        }
    }
}

#[derive(Debug, Default)]
struct Project {
    name: Vec<u8>,
    seq: u64,
    /// Indexes of its readers' connections.
    readers: Vec<usize>,
    /// Frames that wait.
    frames: Vec<u8>,
}

/// All projects.
#[derive(Debug, Default)]
pub struct Streams {
    by_name: HashMap<Vec<u8>, usize>,
    projects: Vec<Project>,
    /// Those with frames that wait.
    dirty: Vec<usize>,
    waiting: usize,
}

impl Streams {
    /// A reader more; where it stands.
    pub fn add(&mut self, project: &[u8], index: usize) -> (usize, usize) {
        let number = self.number(project);
        let readers = &mut self.projects[number].readers;
        readers.push(index);
        (number, readers.len() - 1)
    }

    /// A reader less; whoever has been moved to its place, with that place.
    pub fn remove(&mut self, place: (usize, usize)) -> Option<(usize, (usize, usize))> {
        let readers = &mut self.projects.get_mut(place.0)?.readers;
        if place.1 < readers.len() {
            readers.swap_remove(place.1);
        }
        readers.get(place.1).map(|moved| (*moved, place))
    }

    /// An event for a project: `rest` is its JSON behind the type. It waits for [`Streams::deliver`].
    pub fn push(&mut self, project: &[u8], rest: &[u8]) {
        let number = self.number(project);
        let project = &mut self.projects[number];
        project.seq += 1;
        if project.frames.is_empty() {
            self.dirty.push(number);
        }
        // Writing to memory does not fail.
        let _ = write!(project.frames, "id: {}\ndata: {{\"type\":\"load\",\"projectId\":\"", project.seq);
        project.frames.extend_from_slice(&project.name);
        let _ = write!(project.frames, "\",\"seq\":{}", project.seq);
        project.frames.extend_from_slice(rest);
        project.frames.extend_from_slice(b"\n\n");
        self.waiting += 1;
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Gives what waits to `write`, with the index of each reader's connection.
    pub fn deliver(&mut self, mut write: impl FnMut(usize, &[u8])) {
        for number in self.dirty.drain(..) {
            let project = &mut self.projects[number];
            project.readers.iter().for_each(|index| write(*index, &project.frames));
            project.frames.clear();
        }
        self.waiting = 0;
    }

    fn number(&mut self, name: &[u8]) -> usize {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        self.projects.push(Project { name: name.to_vec(), ..Project::default() });
        self.by_name.insert(name.to_vec(), self.projects.len() - 1);
        self.projects.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_gets_the_frames_of_its_project_in_one_piece() {
        let mut streams = Streams::default();
        assert_eq!((streams.add(b"p", 7), streams.add(b"q", 8), streams.add(b"p", 9)), ((0, 0), (1, 0), (0, 1)));
        streams.push(b"p", b",\"payload\":{}}");
        streams.push(b"p", b",\"payload\":{}}");
        assert_eq!(streams.waiting(), 2);
        let mut seen = Vec::new();
        streams.deliver(|index, frames| seen.push((index, String::from_utf8_lossy(frames).into_owned())));
        let frame = |seq| {
            format!("id: {seq}\ndata: {{\"type\":\"load\",\"projectId\":\"p\",\"seq\":{seq},\"payload\":{{}}}}\n\n")
        };
        let frames = frame(1) + &frame(2);
        assert_eq!(seen, [(7, frames.clone()), (9, frames)]);
        assert_eq!(streams.waiting(), 0);
        streams.deliver(|_, _| panic!("nothing waits"));
    }

    #[test]
    fn whoever_takes_the_place_of_one_that_left_is_named() {
        let mut streams = Streams::default();
        for index in 0..3 {
            assert_eq!(streams.add(b"p", index), (0, index));
        }
        assert_eq!(streams.remove((0, 0)), Some((2, (0, 0))));
        assert_eq!(streams.remove((0, 1)), None);
        assert_eq!(streams.remove((0, 0)), None);
        assert_eq!(streams.remove((0, 5)), None);
    }
}
