use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// Yields the numbers below `total`, one per turn; each plays for `plays`.
struct Count {
    next: usize,
    total: usize,
    plays: Duration,
    /// The total number of turns.
    turns: Arc<AtomicUsize>,
    /// Set when the stream is dropped.
    gone: Arc<AtomicBool>,
}

impl Count {
    fn new(total: usize) -> Self {
        let plays = Duration::from_millis(100);
        Self { next: 0, total, plays, turns: Arc::default(), gone: Arc::default() }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

impl Work for Count {
    type Item = usize;

    fn turn(&mut self, _: &Stop) -> Result<Turn<usize>> {
        self.turns.fetch_add(1, Ordering::SeqCst);
        if self.next == self.total {
            return Ok(Turn::End);
        }
        self.next += 1;
        Ok(Turn::Item { item: self.next - 1, plays: self.plays })
    }
}

fn scheduler(change: impl FnOnce(&mut Options)) -> Scheduler {
    // However slow this machine is, only excess requests are refused.
    let hold = Duration::from_secs(60);
    let mut options = Options { workers: 2, hold, ..Options::default() };
    change(&mut options);
    Scheduler::new(options).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn start<W: Work>(scheduler: &Scheduler, work: W) -> Listener<W::Item> {
    let ticket = runtime().block_on(scheduler.admit(0.0)).unwrap();
    scheduler.start(ticket, work)
}

fn all<T>(mut listener: Listener<T>) -> Vec<T> {
    std::iter::from_fn(|| listener.blocking_next()).map(Result::unwrap).collect()
}

/// Waits for a condition that is certain to occur, and names it in the panic if it does not.
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: not after ten seconds");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whenever listeners read or leave, everyone gets their own items in order.
    #[test]
    fn streams_do_not_mix(
        workers in 1_usize..4,
        channel in 1_usize..5,
        totals in prop::collection::vec(0_usize..40, 1..12),
        reads in prop::collection::vec((0_usize..12, 0_u8..20), 0..300),
    ) {
        let scheduler = scheduler(|options| {
            options.workers = workers;
            options.channel = channel;
            options.starting = 100;
        });
        let mut listeners: Vec<_> =
            totals.iter().map(|&total| Some((start(&scheduler, Count::new(total)), 0))).collect();
        for (index, what) in reads {
            let index = index % listeners.len();
            if what == 0 {
                listeners[index] = None;
            }
            let Some((listener, read)) = &mut listeners[index] else { continue };
            match listener.blocking_next() {
                Some(item) => {
                    prop_assert_eq!(item.unwrap(), *read);
                    *read += 1;
                }
                None => prop_assert_eq!(*read, totals[index]),
            }
        }
        for (slot, total) in listeners.into_iter().zip(totals) {
            if let Some((listener, read)) = slot {
                prop_assert_eq!(all(listener), (read..total).collect::<Vec<_>>());
            }
        }
        runtime().block_on(scheduler.idle());
        prop_assert_eq!(scheduler.now().active, 0);
        prop_assert_eq!(scheduler.now().load, 0.0);
    }
}

#[test]
fn a_listener_who_does_not_read_costs_nothing() {
    let scheduler = scheduler(|options| options.channel = 3);
    let work = Count::new(1_000);
    let turns = work.turns.clone();
    let mut slow = start(&scheduler, work);
    wait_for("the stream is parked", || scheduler.now().parked == 1);
    assert_eq!(turns.load(Ordering::SeqCst), 3);
    // It does not delay other streams.
    assert_eq!(all(start(&scheduler, Count::new(50))).len(), 50);
    assert_eq!(turns.load(Ordering::SeqCst), 3);
    assert_eq!(slow.blocking_next().unwrap().unwrap(), 0);
    wait_for("one more is computed", || turns.load(Ordering::SeqCst) == 4);
    wait_for("and it is parked again", || scheduler.now().parked == 1);
    assert_eq!(all(slow), (1..1_000).collect::<Vec<_>>());
}

#[test]
fn what_a_listener_leaves_lying_is_no_gap_of_ours() {
    let scheduler = scheduler(|options| options.channel = 3);
    // Each item has been played as soon as it arrives, so the next one is late.
    let mut work = Count::new(20);
    work.plays = Duration::ZERO;
    let mut slow = start(&scheduler, work);
    let parked = || wait_for("it is parked", || scheduler.now().parked == 1);
    parked();
    let before = scheduler.now().counts.underruns;
    for _ in 0..16 {
        slow.blocking_next().unwrap().unwrap();
        parked();
    }
    assert_eq!(scheduler.now().counts.underruns, before);
}

#[test]
fn a_listener_who_leaves_ends_the_work() {
    let scheduler = scheduler(|_| {});
    let work = Count::new(usize::MAX);
    let gone = work.gone.clone();
    let mut listener = start(&scheduler, work);
    assert_eq!(listener.blocking_next().unwrap().unwrap(), 0);
    drop(listener);
    wait_for("the stream is gone", || gone.load(Ordering::SeqCst));
    let now = scheduler.now();
    assert_eq!((now.active, now.counts.cancelled, now.counts.accepted), (0, 1, 1));
}

#[test]
fn a_turn_is_told_that_nobody_listens() {
    struct Long(std::sync::mpsc::Sender<()>);
    impl Work for Long {
        type Item = ();
        fn turn(&mut self, stop: &Stop) -> Result<Turn<()>> {
            let cancel = vitstream::Cancel::new();
            stop.ends(cancel.clone());
            self.0.send(()).unwrap();
            // As an encoder does between its layers.
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            assert!(stop.is_stopped());
            Ok(Turn::End)
        }
    }
    let scheduler = scheduler(|_| {});
    let (sender, began) = std::sync::mpsc::channel();
    let listener = start(&scheduler, Long(sender));
    began.recv().unwrap();
    drop(listener);
    // The sender is dropped with the work.
    assert!(began.recv().is_err());
    runtime().block_on(scheduler.idle());
}

#[test]
fn the_one_who_runs_dry_first_is_computed_first() {
    /// Records the order of turns; the first turn waits until both streams are present.
    struct Turns {
        name: &'static str,
        plays: VecDeque<Duration>,
        order: Arc<Mutex<Vec<&'static str>>>,
        gate: Option<std::sync::mpsc::Receiver<()>>,
    }
    impl Work for Turns {
        type Item = ();
        fn turn(&mut self, _: &Stop) -> Result<Turn<()>> {
            if let Some(gate) = self.gate.take() {
                gate.recv().unwrap();
            }
            let Some(plays) = self.plays.pop_front() else { return Ok(Turn::End) };
            self.order.lock().unwrap().push(self.name);
            Ok(Turn::Item { item: (), plays })
        }
    }
    let scheduler = scheduler(|options| {
        options.workers = 1;
        options.channel = 100;
        options.starting = 100;
    });
    let order = Arc::new(Mutex::new(Vec::new()));
    let (open, gate) = std::sync::mpsc::channel();
    let turns = |name, seconds: &[u64], gate| {
        let plays = seconds.iter().map(|&seconds| Duration::from_secs(seconds)).collect();
        start(&scheduler, Turns { name, plays, order: order.clone(), gate })
    };
    // Both begin at almost the same moment; chunks of hours keep the order certain.
    let far = turns("far", &[36_000, 36_000, 36_000], Some(gate));
    let near = turns("near", &[3_600, 3_600, 3_600], None);
    let late = turns("late", &[72_000, 1], None);
    open.send(()).unwrap();
    for listener in [far, near, late] {
        all(listener);
    }
    assert_eq!(*order.lock().unwrap(), ["far", "near", "late", "near", "near", "far", "far", "late"]);
}

/// A stream that computes nothing.
struct Nothing;

impl AnyTask for Nothing {
    fn turn(&mut self) -> Next {
        Next::End
    }

    fn has_room(&self) -> bool {
        true
    }

    fn fail(&mut self, _: Error) {}
}

#[test]
fn who_has_begun_comes_before_newcomers_while_it_may_run_dry() {
    let (mut queue, now, ms) = (Queue::default(), Instant::now(), Duration::from_millis);
    let said = |at| Next::Begun { plays: ms(50), deadline: now + ms(at), late: false };
    let [begun, newcomer] = [(); 2].map(|()| queue.admit(0.0));
    queue.start(begun, Box::new(Nothing), Stop::default(), now);
    let (_, task) = queue.take(now).unwrap();
    queue.start(newcomer, Box::new(Nothing), Stop::default(), now + ms(10));
    // A new stream is never short: its listener has nothing to run out of.
    assert!(!queue.is_short(now + ms(300)));
    queue.put_back(begun, task, said(150), Duration::ZERO);
    assert!(!queue.is_short(now) && queue.is_short(now + ms(50)));
    let (id, task) = queue.take(now + ms(50)).unwrap();
    assert_eq!(id, begun);
    // While it is being computed, nothing more can be done for it.
    assert!(!queue.is_short(now + ms(50)));
    queue.put_back(begun, task, said(500), Duration::ZERO);
    let (id, task) = queue.take(now + ms(50)).unwrap();
    assert_eq!(id, newcomer);
    // It came so long ago that it is not kept waiting, however short of audio others are.
    queue.put_back(newcomer, task, Next::Again, Duration::ZERO);
    assert_eq!(queue.take(now + ms(505)).unwrap().0, begun);
    queue.put_back(begun, Box::new(Nothing), said(600), Duration::ZERO);
    assert_eq!(queue.take(now + ms(515)).unwrap().0, newcomer);
}

#[test]
fn weights_count_more_when_turns_take_longer() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    // The weight is half a core: one second of audio should take half a second of computing.
    let id = queue.admit(0.5);
    queue.start(id, Box::new(Nothing), Stop::default(), now);
    let second = Duration::from_secs(1);
    let mut turn = |taken, next| {
        let (id, task) = queue.take(now).unwrap();
        assert!(queue.put_back(id, task, next, taken).is_none());
        queue.slowness()
    };
    let said = Next::Begun { plays: second, deadline: now + second, late: false };
    assert_eq!(turn(Duration::from_millis(250), said), 1.0);
    // An encoder, with no audio yet.
    assert_eq!(turn(Duration::from_millis(750), Next::Again), 1.5);
    // Old turns no longer count, in either direction.
    assert!(turn(Duration::from_secs(100), said) > 10.0);
    for _ in 0..40 {
        turn(second / 2, said);
    }
    assert!(turn(second / 2, said) < 1.01);
}

/// The computing time and playing time of turns, in milliseconds: an encoder with a small chunk, then larger
/// chunks, as in a voice of medium quality.
const TURNS: [(u64, u64); 12] = [
    (20, 46),
    (4, 93),
    (6, 186),
    (6, 186),
    (6, 186),
    (6, 186),
    (6, 186),
    (6, 186),
    (6, 186),
    (6, 186),
    (6, 186),
    (6, 186),
];

/// Simulates two workers with a clock of its own, while a listener comes every `every` milliseconds for 20
/// seconds. A turn takes as many times as long as expected as `slower` says for the second in which it begins.
/// Returns the number of admitted listeners, the number of late chunks, and the longest time to a first chunk.
fn simulated(every: u64, slower: impl Fn(f64) -> f64) -> (usize, usize, Duration) {
    let (options, begin, ms) = (Options::default(), Instant::now(), Duration::from_millis);
    let (cost, audio) = TURNS.iter().fold((0, 0), |(cost, audio), (c, a)| (cost + c, audio + a));
    let weight = cost as f64 / audio as f64;
    let mut queue = Queue::default();
    // For each stream: the time when it came, its next turn, and the time when its listener runs dry.
    let mut streams: std::collections::HashMap<u64, (Instant, usize, Option<Instant>)> = Default::default();
    let mut running: Vec<(Instant, u64, Box<dyn AnyTask>, Duration)> = Vec::new();
    let (mut late, mut longest, mut coming) = (0, Duration::ZERO, begin);
    loop {
        let ends = running.iter().map(|(end, ..)| *end).min();
        let now = match ends {
            Some(end) if end <= coming || coming > begin + ms(20_000) => end,
            None if coming > begin + ms(20_000) => break,
            _ => coming,
        };
        if now == coming && coming <= begin + ms(20_000) {
            coming += ms(every);
            if admission::has_room(&queue, weight, &options, 2, now) {
                let id = queue.admit(weight);
                streams.insert(id, (now, 0, None));
                queue.start(id, Box::new(Nothing), Stop::default(), now);
            }
        }
        while let Some(index) = running.iter().position(|(end, ..)| *end <= now) {
            let (_, id, task, taken) = running.remove(index);
            let (came, turn, due) = streams.get_mut(&id).unwrap();
            if *turn == TURNS.len() {
                queue.put_back(id, task, Next::End, taken);
                continue;
            }
            let plays = ms(TURNS[*turn].1);
            late += usize::from(due.is_some_and(|due| now > due));
            longest = longest.max(if due.is_none() { now - *came } else { Duration::ZERO });
            let deadline = due.unwrap_or(now).max(now) + plays;
            (*turn, *due) = (*turn + 1, Some(deadline));
            queue.put_back(id, task, Next::Begun { plays, deadline, late: false }, taken);
        }
        while running.len() < 2
            && let Some((id, task)) = queue.take(now)
        {
            let (_, turn, _) = streams[&id];
            let slower = slower(now.duration_since(begin).as_secs_f64());
            let taken = ms(TURNS.get(turn).map_or(0, |(cost, _)| *cost)).mul_f64(slower);
            running.push((now + taken, id, task, taken));
        }
    }
    (streams.len(), late, longest)
}

#[test]
fn whoever_is_let_in_hears_no_gap_however_many_come() {
    // Two workers can speak to about 25 listeners per second; weights are for two workers alone in the world.
    for every in [80, 40, 20, 6] {
        for slower in [1.0, 1.2, 1.5, 2.0, 3.0] {
            let (accepted, late, longest) = simulated(every, |_| slower);
            let case = format!("one in {every} ms, {slower} times as slow: {accepted}, {longest:?}");
            assert_eq!(late, 0, "{case}");
            assert!(longest < Duration::from_millis(200), "{case}");
            let possible = (490.0 / slower).min(20_000.0 / every as f64);
            assert!(accepted as f64 > 0.9 * possible, "{case}");
        }
    }
}

#[test]
fn whoever_is_let_in_hears_no_gap_when_other_programs_come_and_go() {
    for seconds in [0.3, 1.0, 3.0] {
        for (quiet, busy) in [(1.0, 1.3), (1.0, 1.5), (1.2, 1.6), (1.0, 2.0)] {
            let slower =
                |second: f64| if ((second / seconds) as u64).is_multiple_of(2) { quiet } else { busy };
            let (accepted, late, longest) = simulated(6, slower);
            let case = format!("{quiet} to {busy} for {seconds} s: {accepted}, {longest:?}");
            assert_eq!(late, 0, "{case}");
            assert!(longest < Duration::from_millis(200), "{case}");
            assert!(accepted as f64 > 0.9 * 490.0 / busy, "{case}");
        }
    }
}

#[test]
fn who_has_no_text_waits_and_weighs_nothing() {
    struct Typed(std::sync::mpsc::Receiver<usize>);
    impl Work for Typed {
        type Item = usize;
        fn turn(&mut self, _: &Stop) -> Result<Turn<usize>> {
            Ok(match self.0.try_recv() {
                Ok(item) => Turn::Item { item, plays: Duration::from_millis(1) },
                Err(std::sync::mpsc::TryRecvError::Empty) => Turn::Wait,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => Turn::End,
            })
        }
    }
    let scheduler = scheduler(|_| {});
    let (sender, receiver) = std::sync::mpsc::channel();
    let ticket = runtime().block_on(scheduler.admit(0.5)).unwrap();
    let mut listener = scheduler.start(ticket, Typed(receiver));
    let waker = listener.waker();
    wait_for("it waits", || scheduler.now().waiting == 1);
    assert_eq!(scheduler.now().load, 0.0);
    for number in 0..100 {
        sender.send(number).unwrap();
        waker.wake();
        assert_eq!(listener.blocking_next().unwrap().unwrap(), number);
    }
    drop(sender);
    waker.wake();
    assert!(listener.blocking_next().is_none());
    // A pause of the text's writer is not an underrun.
    assert_eq!(scheduler.now().counts.underruns, 0);
    waker.wake();
}

#[test]
fn who_finds_no_room_is_held_and_then_refused() {
    let scheduler = scheduler(|options| {
        options.load = 0.5;
        options.starting = 100;
        options.hold = Duration::from_millis(50);
        options.held = 2;
    });
    let runtime = runtime();
    // Two workers at one half: room for one core.
    let first = runtime.block_on(scheduler.admit(0.6)).unwrap();
    let second = runtime.block_on(scheduler.admit(0.3)).unwrap();
    assert!((scheduler.now().load - 0.45).abs() < 1e-9);
    assert!(matches!(runtime.block_on(scheduler.admit(0.2)), Err(Error::Overloaded(_))));
    assert_eq!(scheduler.now().counts.refused, 1);
    // A listener who leaves makes room for those who came first.
    let (third, (fourth, ())) = runtime.block_on(async {
        let leave = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(scheduler.now().held, 2);
            // There is no third place in the queue.
            assert!(matches!(scheduler.admit(0.0).await, Err(Error::Overloaded(_))));
            drop(second);
        };
        futures_util::future::join(
            scheduler.admit(0.4),
            futures_util::future::join(scheduler.admit(0.4), leave),
        )
        .await
    });
    assert!(third.is_ok() && matches!(fourth, Err(Error::Overloaded(_))));
    drop((first, third));
    assert_eq!((scheduler.now().load, scheduler.now().active), (0.0, 0));
    // A voice that is slower than real time is admitted alone.
    let slow = runtime.block_on(scheduler.admit(7.0)).unwrap();
    assert!(runtime.block_on(scheduler.admit(0.0)).is_err());
    drop(slow);
}

#[test]
fn who_gives_up_at_the_door_takes_no_place() {
    let scheduler = scheduler(|options| options.load = 0.5);
    let runtime = runtime();
    let first = runtime.block_on(scheduler.admit(1.0)).unwrap();
    runtime.block_on(async {
        let _ = tokio::time::timeout(Duration::from_millis(1), scheduler.admit(1.0)).await;
    });
    drop(first);
    assert_eq!((scheduler.now().active, scheduler.now().held), (0, 0));
    drop(runtime.block_on(scheduler.admit(1.0)).unwrap());
}

#[test]
fn only_so_many_begin_at_once() {
    let scheduler = scheduler(|options| {
        options.starting = 1;
        options.hold = Duration::from_millis(20);
    });
    let runtime = runtime();
    // Two workers.
    let tickets = [0, 1].map(|_| runtime.block_on(scheduler.admit(0.0)).unwrap());
    assert!(runtime.block_on(scheduler.admit(0.0)).is_err());
    let [begins, waits] = tickets;
    let mut work = Count::new(usize::MAX);
    // No stream is about to run dry.
    work.plays = Duration::from_secs(3_600);
    let mut begun = scheduler.start(begins, work);
    assert_eq!(begun.blocking_next().unwrap().unwrap(), 0);
    // It has begun, but has not ended.
    let third = runtime.block_on(scheduler.admit(0.0)).unwrap();
    drop((begun, waits, third));
}

#[test]
fn a_drained_scheduler_finishes_and_takes_nobody() {
    let scheduler = scheduler(|options| options.load = 0.1);
    let runtime = runtime();
    let ticket = runtime.block_on(scheduler.admit(1.0)).unwrap();
    let listener = scheduler.start(ticket, Count::new(100));
    let held = runtime.block_on(async {
        let drain = async { scheduler.drain() };
        futures_util::future::join(scheduler.admit(1.0), drain).await.0
    });
    assert!(matches!(held, Err(Error::Draining)));
    assert!(matches!(runtime.block_on(scheduler.admit(0.0)), Err(Error::Draining)));
    assert_eq!(all(listener).len(), 100);
    runtime.block_on(scheduler.idle());
}

#[test]
fn a_panic_ends_one_stream_and_no_worker() {
    struct Panics;
    impl Work for Panics {
        type Item = ();
        fn turn(&mut self, _: &Stop) -> Result<Turn<()>> {
            panic!("a bug, for this test");
        }
    }
    struct Fails;
    impl Work for Fails {
        type Item = ();
        fn turn(&mut self, _: &Stop) -> Result<Turn<()>> {
            Err(Error::Request("no".to_owned()))
        }
    }
    let scheduler = scheduler(|options| options.workers = 1);
    for _ in 0..3 {
        let mut listener = start(&scheduler, Panics);
        assert!(matches!(listener.blocking_next(), Some(Err(Error::Internal(_)))));
        assert!(listener.blocking_next().is_none());
        let mut listener = start(&scheduler, Fails);
        assert!(matches!(listener.blocking_next(), Some(Err(Error::Request(_)))));
        assert!(listener.blocking_next().is_none());
    }
    assert_eq!(all(start(&scheduler, Count::new(5))).len(), 5);
    assert_eq!(scheduler.now().counts.cancelled, 0);
}

#[test]
fn what_is_left_when_the_scheduler_ends_is_told_so() {
    let scheduler = scheduler(|_| {});
    let work = Count::new(usize::MAX);
    let gone = work.gone.clone();
    let mut listener = start(&scheduler, work);
    drop(scheduler);
    assert!(gone.load(Ordering::SeqCst));
    while listener.blocking_next().is_some() {}
}

#[test]
fn a_newcomer_is_admitted_while_a_worker_is_free_however_slow_the_voice_is() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let (options, ms) = (Options::default(), Duration::from_millis);
    let admits = |queue: &Queue| admission::has_room(queue, 0.4, &options, 2, now);
    let begun = queue.admit(0.4);
    queue.start(begun, Box::new(Nothing), Stop::default(), now);
    let (_, task) = queue.take(now).unwrap();
    let said = Next::Begun { plays: ms(40), deadline: now + ms(40), late: false };
    queue.put_back(begun, task, said, Duration::ZERO);
    // It has little audio left, but the other worker is idle.
    assert!(admits(&queue));
    let other = queue.admit(0.4);
    queue.start(other, Box::new(Nothing), Stop::default(), now);
    assert!(!admits(&queue));
    // Both are being computed.
    let (first, task) = queue.take(now).unwrap();
    let (second, _) = queue.take(now).unwrap();
    assert!(first != second && admits(&queue));
    // One listener leaves during the turn; the worker is free only when the turn has ended.
    assert!(queue.remove(first).is_some());
    assert!(queue.put_back(first, task, Next::Again, Duration::ZERO).is_some());
    assert!(admits(&queue));
}
