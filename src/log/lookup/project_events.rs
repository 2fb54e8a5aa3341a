//! The messages of a project as JSON, page by page, of all types or of selected ones.
//!
//! A page is read in several short lookups. It ends when it has the requested number of messages or has read as much as
//! it may, so a rare type costs no more than a common one. If there may be more, the page says how far it has read,
//! however few messages it holds.

use super::events::write_with_id;
use crate::auth::IdSigner;
use crate::log::protocol::{Answer, WantedEvents};
use crate::log::store::{Flow, History, Look, StoreError, StoredMessage};
use crate::model::{ProjectId, decimal};

/// What is read for a page at most, whether it holds it or not.
const PAGE: Budget = Budget { messages: 16 * 1024, bytes: 4 * 1024 * 1024 };

/// What is read in one look at most.
const LOOK: Budget = Budget { messages: 1024, bytes: 256 * 1024 };

/// A page, as [`Query::Events`](crate::log::Query::Events) asks for it.
pub(in crate::log) fn project_events(
    look: Look<'_>,
    signer: &IdSigner,
    project: &ProjectId,
    wanted: &WantedEvents,
) -> Result<Answer, StoreError> {
    let mut page = Page::begin(signer, project, wanted);
    while page.end == End::Open {
        look(&mut |history| page.read(history))?;
    }
    Ok(Answer::Json(page.finish()))
}

/// A page that is being written.
struct Page<'a> {
    signer: &'a IdSigner,
    project: &'a ProjectId,
    wanted: &'a WantedEvents,
    body: Vec<u8>,
    shown: usize,
    left: Budget,
    /// Behind this message it goes on, or before it.
    at: Option<u64>,
    /// From this message on history is whole.
    floor: u64,
    /// Behind where it was to begin something was let go.
    has_lost: bool,
    end: End,
}

/// Does a page end here?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not yet.
    Open,
    /// It is as long as it may be.
    Full,
    /// There is no more.
    Last,
}

impl<'a> Page<'a> {
    fn begin(signer: &'a IdSigner, project: &'a ProjectId, wanted: &'a WantedEvents) -> Self {
        Self {
            signer,
            project,
            wanted,
            body: b"{\"events\":[".to_vec(),
            shown: 0,
            left: PAGE,
            at: if wanted.newest_first { wanted.before } else { wanted.after },
            floor: 1,
            has_lost: false,
            end: End::Open,
        }
    }

    /// Reads on, for one look.
    fn read(&mut self, history: &dyn History) -> Result<(), StoreError> {
        self.floor = history.floor(self.project)?;
        let (mut look, mut flow) = (LOOK, Flow::More);
        let (project, at, newest_first) = (self.project, self.at, self.wanted.newest_first);
        self.has_lost |= !newest_first && at.is_some_and(|at| at + 1 < self.floor);
        let mut each = |message: &StoredMessage| {
            flow = self.take(message, &mut look);
            flow
        };
        match newest_first {
            true => history.messages_before(project, at.unwrap_or(u64::MAX), &mut each)?,
            false => history.messages(project, at.unwrap_or_default(), None, &mut each)?,
        }
        if flow == Flow::More {
            self.end = End::Last;
        }
        Ok(())
    }

    /// Takes a message in, where it is meant. Is another one to come in this look?
    fn take(&mut self, message: &StoredMessage, look: &mut Budget) -> Flow {
        let bytes = message.json.len();
        if self.is_beyond(message.seq) {
            self.end = End::Last;
        } else if self.shown == self.wanted.limit || !self.left.has(bytes, PAGE) {
            self.end = End::Full;
        } else if look.has(bytes, LOOK) {
            self.left.spend(bytes);
            look.spend(bytes);
            self.at = Some(message.seq);
            if self.wanted.types.takes(&message.json) {
                self.show(message);
            }
            return Flow::More;
        }
        Flow::Stop
    }

    fn is_beyond(&self, seq: u64) -> bool {
        match self.wanted.newest_first {
            true => self.wanted.after.is_some_and(|after| seq <= after),
            false => self.wanted.before.is_some_and(|before| seq >= before),
        }
    }

    fn show(&mut self, message: &StoredMessage) {
        if self.shown > 0 {
            self.body.push(b',');
        }
        self.shown += 1;
        write_with_id(&mut self.body, &self.signer.text(self.project, message.seq), message);
    }

    fn finish(mut self) -> Vec<u8> {
        self.body.extend_from_slice(b"],\"oldest\":");
        self.body.extend_from_slice(decimal(self.floor, &mut [0; 20]));
        if self.has_lost {
            self.body.extend_from_slice(b",\"lost\":true");
        }
        if let (End::Full, Some(at)) = (self.end, self.at) {
            let next = self.signer.text(self.project, at);
            self.body.extend_from_slice(format!(",\"next\":\"{next}\"").as_bytes());
        }
        self.body.push(b'}');
        self.body
    }
}

/// How much may be read. One message always may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Budget {
    messages: usize,
    bytes: usize,
}

impl Budget {
    /// Is there room for a message of so many bytes in what is left of `whole`?
    fn has(&self, bytes: usize, whole: Self) -> bool {
        *self == whole || (self.messages > 0 && bytes <= self.bytes)
    }

    fn spend(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::auth::{Instance, ServerKeys};
    use crate::log::MemoryStore;
    use crate::log::store::{PlaceInRun, Retention, Store, Write};
    use crate::log::testing::{KEEP_ALL, at, project};
    use crate::model::{Timestamp, TypeFilter, write_message};

    fn signer() -> IdSigner {
        ServerKeys::derive(&[1; 32]).id_signer(Instance::from_random([1; 6]))
    }

    /// As many messages as that, each `bytes` long; one in a thousand of the type `rare`, the others `dense`.
    fn store_of(count: u64, bytes: usize) -> MemoryStore {
        let mut store = MemoryStore::new();
        let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(bytes));
        let write = |seq| {
            let mut json = Vec::new();
            let kind = if seq % 1000 == 0 { "rare" } else { "dense" };
            write_message(&mut json, kind, &project(), seq, payload.as_bytes());
            let message = StoredMessage {
                seq,
                at: Timestamp::default(),
                run: None,
                place: PlaceInRun::Middle,
                json: json.into(),
            };
            Write::Message(message, project())
        };
        let writes: Vec<_> = (1..=count).map(write).collect();
        assert_eq!(store.append(&[], &writes, Timestamp::default()), Ok(()));
        store
    }

    fn wanted(types: &str, newest_first: bool) -> WantedEvents {
        let types = TypeFilter::parse(types.split_terminator(';')).expect("good types");
        WantedEvents { after: None, before: None, newest_first, types, limit: 1000 }
    }

    /// The page, and how many looks it took.
    fn page(store: &MemoryStore, wanted: &WantedEvents) -> (Value, usize) {
        let mut looks = 0;
        let mut look = |look: &mut dyn FnMut(&dyn History) -> Result<(), StoreError>| {
            looks += 1;
            look(store)
        };
        let Ok(Answer::Json(body)) = project_events(&mut look, &signer(), &project(), wanted) else { panic!("JSON") };
        (serde_json::from_slice(&body).expect("JSON"), looks)
    }

    fn seqs(page: &Value) -> Vec<u64> {
        page["events"].as_array().expect("a list").iter().filter_map(|event| event["seq"].as_u64()).collect()
    }

    /// What all pages hold, one after the other, and how many there are.
    fn all_pages(store: &MemoryStore, mut wanted: WantedEvents) -> (Vec<u64>, usize) {
        let (mut all, mut pages) = (Vec::new(), 0);
        loop {
            let (page, looks) = page(store, &wanted);
            assert!(looks <= PAGE.messages / LOOK.messages + 1 + PAGE.bytes / LOOK.bytes);
            (pages, all) = (pages + 1, [all, seqs(&page)].concat());
            let Some(next) = page["next"].as_str() else { return (all, pages) };
            let id = signer().read(next, &project()).expect("an id of the project");
            *(if wanted.newest_first { &mut wanted.before } else { &mut wanted.after }) = Some(id.seq());
        }
    }

    #[test]
    fn a_type_that_hardly_any_message_has_is_found_in_pages_that_each_read_a_bounded_part() {
        let store = store_of(40_000, 1);
        let rare: Vec<u64> = (1..=40).map(|n| n * 1000).collect();
        let backwards: Vec<u64> = rare.iter().rev().copied().collect();
        assert_eq!(all_pages(&store, wanted("rare", false)), (rare, 3));
        assert_eq!(all_pages(&store, wanted("rare", true)), (backwards, 3));
        assert_eq!(all_pages(&store, wanted("none", true)), (vec![], 3), "pages that hold nothing lead on");
    }

    #[test]
    fn large_messages_make_short_pages_and_one_always_fits() {
        let store = store_of(20, 1024 * 1024);
        for newest_first in [false, true] {
            let (all, pages) = all_pages(&store, wanted("", newest_first));
            assert_eq!((all.len(), pages), (20, 7), "three of four MiB");
        }
        let store = store_of(3, 2 * PAGE.bytes);
        assert_eq!(all_pages(&store, wanted("", false)), (vec![1, 2, 3], 3));
    }

    #[test]
    fn what_was_let_go_is_told() {
        let mut store = store_of(100, 1);
        store.trim(&Retention { messages: 40, ..KEEP_ALL }, at(0)).expect("it can");
        let ask = |after, before, newest_first| {
            let (page, _) = page(&store, &WantedEvents { after, before, limit: 5, ..wanted("", newest_first) });
            assert_eq!(page["oldest"], 61);
            (seqs(&page), page["lost"] == true, page["next"].is_string())
        };
        assert_eq!(ask(None, None, false), ((61..=65).collect(), false, true), "nobody had come to any place");
        assert_eq!(ask(Some(10), None, false), ((61..=65).collect(), true, true));
        assert_eq!(ask(Some(60), None, false), ((61..=65).collect(), false, true));
        assert_eq!(ask(Some(95), None, false), ((96..=100).collect(), false, false));
        assert_eq!(ask(Some(90), Some(93), false), ((91..=92).collect(), false, false));
        assert_eq!(ask(None, Some(64), true), (vec![63, 62, 61], false, false));
        assert_eq!(ask(Some(61), Some(64), true), (vec![63, 62], false, false));
        assert_eq!(ask(None, Some(10), true), (vec![], false, false));
    }
}
