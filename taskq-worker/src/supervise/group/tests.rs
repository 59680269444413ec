//! The decisions of the group, step by step, with a clock that the test moves.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(30);
const REFUSED: i32 = 7;

/// A group and a clock.
struct Play {
    group: Group,
    now: Instant,
}

impl Play {
    fn of(processes: usize) -> Self {
        Self::with(processes, Limits::default())
    }

    fn with(processes: usize, limits: Limits) -> Self {
        let now = Instant::now();
        let plan = Plan { processes, grace: GRACE, limits, refusals: [2, 3, 4, 5, 6, REFUSED] };
        Self { group: Group::new(plan, now, || 0.0), now }
    }

    /// Returns a group whose processes, 1 and so on, are all ready.
    fn ready(processes: usize) -> Self {
        Self::ready_with(processes, Limits::default())
    }

    fn ready_with(processes: usize, limits: Limits) -> Self {
        let mut play = Self::with(processes, limits);
        for id in play.starts() {
            play.group.ready(id, play.now);
        }
        assert_eq!(play.actions(), [Action::AllReady]);
        play
    }

    /// Returns the actions, and starts the children that are to be started. The process id of a child is its number
    /// plus 100.
    fn actions(&mut self) -> Vec<Action> {
        let actions: Vec<_> = std::iter::from_fn(|| self.group.next_action()).collect();
        for action in &actions {
            if let Action::Start(id, _) = action {
                self.group.started(*id, id + 100);
            }
        }
        actions
    }

    /// Returns the numbers of the children to be started, if nothing else is to be done.
    fn starts(&mut self) -> Vec<Id> {
        let started = |action: &Action| match action {
            Action::Start(id, _) => *id,
            other => panic!("{other:?}"),
        };
        self.actions().iter().map(started).collect()
    }

    /// Lets time pass in small steps, with heartbeats of all children, then returns the actions.
    fn after(&mut self, passed: Duration) -> Vec<Action> {
        let until = self.now + passed;
        while self.now < until {
            self.now = (self.now + SECOND).min(until);
            for id in self.group.ids() {
                self.group.heartbeat(id, 0, None, None, self.now);
            }
            self.group.look(self.now, |_| false);
        }
        self.actions()
    }

    fn dies(&mut self, id: Id) {
        self.group.gone(id, Some(ProcessEnd::Signal(6)), "was ended by signal 6", self.now);
    }

    fn ends(&mut self, id: Id) {
        self.group.ended(id, 0);
        self.group.gone(id, Some(ProcessEnd::Code(0)), "ended", self.now);
    }
}

fn start(id: Id, at: usize) -> Action {
    Action::Start(id, ChildRole::Worker(at))
}

fn drain(id: Id) -> Action {
    Action::Tell(id, SupervisorMessage::Drain)
}

fn over(interrupted: bool) -> Action {
    Action::Over(Outcome::Drained { interrupted })
}

#[test]
fn what_dies_is_replaced_after_a_pause_that_grows() {
    let mut play = Play::ready(2);
    let mut id = 1;
    for (pause, next) in [(100, 3), (200, 4), (400, 5), (800, 6)] {
        play.dies(id);
        assert_eq!(play.group.look_at(play.now), play.now + Duration::from_millis(pause.min(500)));
        assert_eq!(play.after(Duration::from_millis(pause - 1)), []);
        assert_eq!(play.after(Duration::from_millis(1)), [start(next, 0)]);
        play.group.ready(next, play.now);
        id = next;
    }
    // Once it has been well for a while, the count begins anew.
    assert_eq!(play.after(10 * SECOND), []);
    play.dies(id);
    assert_eq!(play.after(SECOND / 10), [start(7, 0)]);
}

#[test]
fn a_program_that_never_comes_up_is_given_up() {
    let mut play = Play::of(2);
    assert_eq!(play.starts(), [1, 2]);
    for id in [1, 3, 4, 5] {
        play.dies(id);
        assert_eq!(play.after(5 * SECOND).len(), 1);
    }
    play.dies(6);
    assert_eq!(play.actions(), [Action::Kill(102)], "the other one has not come up either");
    play.dies(2);
    assert_eq!(play.actions(), [Action::Over(Outcome::GaveUp("was ended by signal 6".to_owned()))]);
}

#[test]
fn one_that_came_up_once_is_never_given_up_but_is_not_healthy() {
    let mut play = Play::ready(2);
    assert_eq!(play.group.health(play.now), Ok(()));
    play.dies(1);
    for id in 3..20 {
        assert_eq!(play.after(31 * SECOND), [start(id, 0)]);
        assert_eq!(play.group.health(play.now).is_ok(), id < 7, "{id}");
        play.dies(id);
    }
    assert_eq!(play.after(31 * SECOND), [start(20, 0)]);
    play.group.ready(20, play.now);
    play.after(10 * SECOND);
    assert_eq!(play.group.health(play.now), Ok(()));
}

#[test]
fn what_no_start_can_mend_ends_it_unless_some_start_came_through() {
    let refuses = |play: &mut Play, id| play.group.gone(id, Some(ProcessEnd::Code(REFUSED)), "ended", play.now);
    let mut play = Play::of(2);
    play.starts();
    refuses(&mut play, 2);
    assert_eq!(play.actions(), [Action::Kill(101)]);
    play.dies(1);
    assert_eq!(play.actions(), [Action::Over(Outcome::Refused(REFUSED))]);

    let mut play = Play::ready(1);
    refuses(&mut play, 1);
    assert_eq!(play.after(SECOND), [start(2, 0)]);
    refuses(&mut play, 2);
    assert_eq!(play.after(SECOND), [start(3, 0)]);
}

#[test]
fn a_drain_ends_when_the_last_child_has() {
    let mut play = Play::ready(2);
    play.dies(1);
    play.group.drain(play.now);
    assert_eq!(play.actions(), [drain(2)], "no process is started any more");
    assert_eq!(play.after(SECOND), []);
    assert!(play.group.health(play.now).is_err());
    play.ends(2);
    assert_eq!(play.actions(), [over(false)]);
}

#[test]
fn what_is_left_behind_makes_a_drain_an_interruption() {
    for (given_back, dies, interrupted) in [(0, false, false), (3, false, true), (0, true, true)] {
        let mut play = Play::ready(1);
        play.group.drain(play.now);
        play.actions();
        if dies {
            play.dies(1);
        } else {
            play.group.ended(1, given_back);
            play.group.gone(1, Some(ProcessEnd::Code(8)), "ended", play.now);
        }
        assert_eq!(play.actions(), [over(interrupted)], "{given_back} {dies}");
    }
}

#[test]
fn a_process_that_ends_while_it_starts_leaves_nothing_behind() {
    let mut play = Play::of(1);
    play.starts();
    play.group.drain(play.now);
    play.actions();
    play.dies(1);
    assert_eq!(play.actions(), [over(false)]);
}

#[test]
fn who_does_not_end_in_time_is_ended() {
    let mut play = Play::ready(1);
    play.group.drain(play.now);
    play.actions();
    assert_eq!(play.after(GRACE + 9 * SECOND), []);
    assert!(!play.group.end_is_planned(1), "it would be a death");
    assert_eq!(play.after(SECOND), [Action::Kill(101)]);
    assert!(play.group.end_is_planned(1), "what it ran is not to blame");

    let mut play = Play::ready(1);
    play.group.drain(play.now);
    play.group.cancel(play.now);
    assert_eq!(play.actions(), [drain(1), Action::Tell(1, SupervisorMessage::Cancel)]);
    assert_eq!(play.after(15 * SECOND), [Action::Kill(101)]);

    let mut play = Play::ready(2);
    play.group.end_now();
    assert_eq!(play.actions(), [Action::Kill(101), Action::Kill(102)]);
    play.dies(1);
    play.dies(2);
    assert_eq!(play.actions(), [Action::Over(Outcome::AtOnce)]);
}

#[test]
fn a_rolling_restart_has_the_new_one_ready_before_the_old_one_goes() {
    let mut play = Play::ready(2);
    play.group.roll(play.now);
    assert_eq!(play.actions(), [Action::Rolling, start(3, 0)]);
    play.group.ready(3, play.now);
    assert_eq!(play.actions(), [drain(1), start(4, 1)]);
    // A request in the meantime starts another round.
    play.group.roll(play.now);
    play.group.ready(4, play.now);
    assert_eq!(play.actions(), [drain(2), start(5, 0)]);
    play.group.ready(5, play.now);
    assert_eq!(play.actions(), [drain(3), start(6, 1)]);
    play.group.ready(6, play.now);
    assert_eq!(play.actions(), [drain(4), Action::Rolled]);
    for id in 1..=4 {
        play.ends(id);
    }
    assert_eq!(play.after(SECOND), []);
    assert_eq!(play.group.health(play.now), Ok(()));
}

#[test]
fn a_build_that_does_not_come_up_replaces_no_process() {
    for is_slow in [false, true] {
        let mut play = Play::ready(2);
        play.group.roll(play.now);
        assert_eq!(play.actions(), [Action::Rolling, start(3, 0)]);
        if is_slow {
            assert_eq!(play.after(60 * SECOND), [Action::Kill(103)]);
        }
        play.dies(3);
        assert_eq!(play.actions(), [Action::Rolled]);
        assert_eq!(play.after(40 * SECOND), []);
        assert_eq!(play.group.health(play.now), Ok(()));
        play.group.roll(play.now);
        assert_eq!(play.actions(), [Action::Rolling, start(4, 0)]);
    }
}

#[test]
fn who_dies_while_its_successor_starts_is_not_replaced_twice() {
    let mut play = Play::ready(1);
    play.group.roll(play.now);
    play.actions();
    play.dies(1);
    assert_eq!(play.after(SECOND), []);
    play.group.ready(2, play.now);
    assert_eq!(play.actions(), [Action::Rolled]);
    // And in a pause, the one that comes is new.
    play.dies(2);
    play.group.roll(play.now);
    assert_eq!(play.actions(), [Action::Rolling, start(3, 0)]);
    play.group.ready(3, play.now);
    assert_eq!(play.actions(), [Action::Rolled]);
}

#[test]
fn who_has_had_enough_is_relieved() {
    let mut play = Play::ready_with(1, Limits { tasks_max: Some(10), memory_max: None });
    play.after(5 * SECOND);
    let beat = |play: &mut Play, done| {
        play.group.heartbeat(1, done, None, None, play.now);
        play.actions()
    };
    assert_eq!(beat(&mut play, 9), []);
    assert_eq!(beat(&mut play, 10), [start(2, 0)]);
    assert_eq!(beat(&mut play, 11), [], "once");
    play.dies(2);
    assert_eq!(beat(&mut play, 12), [], "not at once again");
    play.now += SECOND;
    assert_eq!(beat(&mut play, 13), [start(3, 0)]);
    play.group.ready(3, play.now);
    assert_eq!(play.actions(), [drain(1)]);
    assert_eq!(beat(&mut play, 14), []);
}

#[test]
fn who_is_stuck_is_replaced_and_finishes_the_rest() {
    let mut play = Play::ready(1);
    play.after(10 * SECOND);
    play.group.stuck(1, play.now);
    assert_eq!(play.actions(), [drain(1)]);
    assert_eq!(play.after(SECOND / 10), [start(2, 0)]);
    play.group.ready(2, play.now);
    play.group.stuck(1, play.now);
    assert_eq!(play.actions(), []);
    // Where a successor is on its way already, that is the one.
    play.group.roll(play.now);
    assert_eq!(play.actions(), [Action::Rolling, start(3, 0)]);
    play.group.stuck(2, play.now);
    assert_eq!(play.after(5 * SECOND), [drain(2)]);
    play.group.ready(3, play.now);
    assert_eq!(play.actions(), [Action::Rolled]);
}

#[test]
fn silence_is_looked_into() {
    let silent = |play: &mut Play, seconds: u32, stopped: bool| {
        for _ in 0..seconds {
            play.now += SECOND;
            play.group.look(play.now, |_| stopped);
        }
        play.actions()
    };
    let mut play = Play::ready(1);
    assert_eq!(silent(&mut play, 11, false), []);
    assert!(play.group.health(play.now).expect_err("it is silent").contains("sent nothing"));
    assert_eq!(silent(&mut play, 18, false), []);
    assert_eq!(silent(&mut play, 1, false), [Action::Kill(101)]);
    assert!(!play.group.end_is_planned(1));

    let mut play = Play::ready(1);
    assert_eq!(silent(&mut play, 1000, true), [], "somebody has stopped it");
    assert!(play.group.health(play.now).expect_err("it is stopped").contains("kill -CONT 101"));
    play.group.heartbeat(1, 0, None, None, play.now);
    assert_eq!(play.group.health(play.now), Ok(()));

    // The supervisor itself was stopped, and could not read.
    let mut play = Play::ready(1);
    play.now += 120 * SECOND;
    play.group.look(play.now, |_| false);
    assert_eq!(play.actions(), []);
    assert_eq!(silent(&mut play, 29, false), []);
}

#[test]
fn a_child_that_takes_nothing_turns_health_red() {
    let mut play = Play::ready(1);
    let red = Err("the process 101 is tired, since 10 s".to_owned());
    for (problem, seconds, health) in [
        (None, 1, Ok(())),
        (Some("is asleep"), 0, Ok(())),
        (Some("is asleep"), 9, Ok(())),
        (Some("is tired"), 1, red),
        (None, 0, Ok(())),
    ] {
        play.now += seconds * SECOND;
        play.group.heartbeat(1, 0, problem.map(str::to_owned), None, play.now);
        assert_eq!(play.group.health(play.now), health, "{problem:?} {seconds}");
    }
}

#[test]
fn quarantine_queues_have_one_process_at_a_time() {
    let quarantine = |id| Action::Start(id, ChildRole::Quarantine);
    let mut play = Play::ready(1);
    play.group.quarantine_wanted(vec!["a".into()], play.now);
    play.group.quarantine_wanted(vec!["b".into()], play.now);
    assert_eq!(play.actions(), [quarantine(2)]);
    assert_eq!(play.group.quarantine_queue().as_deref(), Some("a"));
    play.group.ready(2, play.now);
    assert_eq!(play.actions(), [Action::Tell(2, SupervisorMessage::YieldTurn)], "b waits");
    play.group.quarantine_wanted(vec!["b".into()], play.now);
    assert_eq!(play.actions(), [], "it knows");
    play.group.quarantine_wanted(vec!["a".into()], play.now);
    play.ends(2);
    assert_eq!(play.actions(), [quarantine(3)], "a has more, and waits");
    assert_eq!(play.group.quarantine_queue().as_deref(), Some("b"));
    play.group.ready(3, play.now);
    assert_eq!(play.actions(), [Action::Tell(3, SupervisorMessage::YieldTurn)], "a waits");
    play.dies(3);
    assert_eq!(play.after(SECOND), [quarantine(4)]);
    assert_eq!(play.group.quarantine_queue().as_deref(), Some("a"), "what died has its turn again after the others");
    play.group.ready(4, play.now);
    assert_eq!(play.actions(), [Action::Tell(4, SupervisorMessage::YieldTurn)]);
    play.ends(4);
    assert_eq!(play.actions(), [quarantine(5)]);
    assert_eq!(play.group.quarantine_queue().as_deref(), Some("b"), "what killed it is not all there is");
    play.group.ready(5, play.now);
    play.ends(5);
    assert_eq!(play.after(60 * SECOND), []);
    play.group.quarantine_wanted(vec!["a".into()], play.now);
    assert_eq!(play.actions(), [quarantine(6)]);
    play.group.drain(play.now);
    assert_eq!(play.actions(), [drain(1), drain(6)]);
}
