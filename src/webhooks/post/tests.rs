use super::*;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + ms)
}

fn post(retry_ms: &[u64]) -> Post {
    let delays: Vec<_> = retry_ms.iter().map(|ms| Duration::from_millis(*ms)).collect();
    Post::new("w".into(), Schedule::new(&delays), 1000)
}

fn due(ids: impl IntoIterator<Item = u64>, attempts: u32, next_at: Option<u64>) -> DuePage {
    let event = |id| DueEvent { id: DueId(id), attempts, message_id: format!("m{id}"), body: Vec::new() };
    DuePage { events: ids.into_iter().map(event).collect(), next_at: next_at.map(at), waiting: 9 }
}

fn answered(status: u16) -> Sent {
    Sent::Answered { status, retry_after: None }
}

/// How many events it wants, and which it does not.
fn wanted(post: &mut Post, ms: u64) -> Option<(usize, Vec<u64>)> {
    match post.wish(at(ms)) {
        Wish::Due(wanted) => Some((wanted.limit, wanted.except.iter().map(|id| id.0).collect())),
        Wish::Nothing => None,
        other => panic!("{other:?}"),
    }
}

fn end(post: &mut Post, id: u64, sent: Sent, ms: u64) -> Verdict {
    let verdict = post.ended(DueId(id), sent, at(ms), 0.0).expect("it was on its way");
    post.kept(&verdict.change);
    verdict
}

#[test]
fn what_is_on_its_way_is_bounded_and_is_not_sent_again() {
    let mut post = post(&[]);
    assert_eq!(wanted(&mut post, 0), Some((4, vec![])), "what an earlier process has left");
    post.take(&due([1, 2], 0, None));
    assert_eq!(wanted(&mut post, 0), None);
    post.ring();
    assert_eq!(wanted(&mut post, 0), Some((2, vec![1, 2])));
    post.take(&due([3, 4], 0, None));
    post.ring();
    assert_eq!((wanted(&mut post, 0), post.next_at()), (None, None), "a slow receiver has four at most");
    let verdict = post.ended(DueId(3), answered(204), at(0), 0.0).expect("it was on its way");
    assert_eq!((&verdict.change, verdict.fate), (&OutboxChange::Done(DueId(3)), Fate::Delivered));
    assert_eq!(wanted(&mut post, 0), None, "until that is kept it would be sent again");
    assert_eq!(post.ended(DueId(3), answered(204), at(0), 0.0), None, "it ends once");
    post.kept(&verdict.change);
    assert_eq!(wanted(&mut post, 0), Some((1, vec![1, 2, 4])), "there may be more");
}

#[test]
fn what_is_not_taken_is_tried_again_until_it_is_given_up() {
    for sent in [answered(500), answered(302), answered(404), answered(199), Sent::Failed("no route".to_owned())] {
        let mut post = post(&[100, 200]);
        for (attempts, ms, expected) in [(0, 0, 100), (1, 100, 300)] {
            assert_eq!(wanted(&mut post, ms), Some((4, vec![])));
            post.take(&due([1], attempts, None));
            let verdict = end(&mut post, 1, sent.clone(), ms);
            let change = OutboxChange::PutOff { id: DueId(1), attempts: attempts + 1, next_at: at(expected) };
            assert_eq!((verdict.change, verdict.fate, post.next_at()), (change, Fate::PutOff, Some(at(expected))));
            assert_eq!(verdict.news.is_some(), attempts == 0, "that it fails is news once");
            assert_eq!(wanted(&mut post, expected - 1), None);
        }
        post.take(&due([1], 2, None));
        let verdict = end(&mut post, 1, sent.clone(), 300);
        assert_eq!((verdict.change, verdict.fate), (OutboxChange::Done(DueId(1)), Fate::GivenUp));
        let expected = format!("webhook w: gave up on event m1 after 3 attempts: {sent}");
        assert_eq!(verdict.news, Some(expected));
        post.take(&due([2], 0, None));
        assert_eq!(
            end(&mut post, 2, answered(200), 300).news,
            Some("webhook w: the receiver accepts events again".to_owned())
        );
    }
}

#[test]
fn a_receiver_that_asks_to_be_left_alone_is() {
    let busy = Sent::Answered { status: 503, retry_after: Some(Duration::from_millis(5000)) };
    let mut post = post(&[100; 3]);
    post.take(&due([1, 2], 0, Some(50)));
    let change = OutboxChange::PutOff { id: DueId(1), attempts: 1, next_at: at(5000) };
    assert_eq!(end(&mut post, 1, busy, 0).change, change);
    end(&mut post, 2, answered(500), 0);
    post.ring();
    assert_eq!((wanted(&mut post, 4999), post.next_at()), (None, Some(at(5000))), "for none of its events");
    assert_eq!(wanted(&mut post, 5000), Some((4, vec![])));

    let for_ever = Sent::Answered { status: 429, retry_after: Some(Duration::MAX) };
    post.take(&due([1], 1, None));
    let day_ms = 24 * 60 * 60 * 1000;
    let change = OutboxChange::PutOff { id: DueId(1), attempts: 2, next_at: at(5000 + day_ms) };
    assert_eq!(end(&mut post, 1, for_ever, 5000).change, change, "for a day at most");
}

#[test]
fn a_receiver_that_is_gone_is_told_nothing_until_the_next_start() {
    let mut post = post(&[100]);
    post.take(&due([1, 2], 0, None));
    let let_go = OutboxChange::LetGo("w".into());
    let verdict = end(&mut post, 1, answered(410), 0);
    assert_eq!((&verdict.change, verdict.fate), (&let_go, Fate::Off));
    assert_eq!(post.on_their_way(), 1, "the other one is still being sent");
    assert_eq!(end(&mut post, 2, answered(500), 0).fate, Fate::PutOff);
    post.ring();
    assert_eq!(post.wish(at(1)), Wish::LetGo(let_go));
    assert_eq!(post.wish(at(1)), Wish::Nothing);
}
