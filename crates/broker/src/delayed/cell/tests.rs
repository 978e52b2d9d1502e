use super::*;

#[test]
fn nothing_is_done_until_the_first_is_due_while_there_is_no_room_to_read_ahead() {
    let mut state = State::default();
    let [soon, later] = [(10_000, 0), (14_000, 1)].map(|(due_ms, seq)| Waiting { due_ms, seq });
    state.schedule.add(soon, None);
    assert_eq!(state.schedule.next_pass(5000), [soon]);
    state.schedule.add(Waiting { due_ms: 16_000, seq: 2 }, None);
    state.schedule.add(later, None);
    assert_eq!(state.next_ms(), 10_000, "the first is due before the next pass");
    state.schedule.take(soon, None);
    assert_eq!(state.next_ms(), 11_000, "the next pass");
    state.pass.push_back(later);
    assert_eq!(state.next_ms(), 0, "the rest of this one");
    state.read_bytes = READ_MAX_BYTES;
    assert_eq!(state.next_ms(), 14_000, "a release, which makes room");
}
