//! A command of another host between two steps of a command.

use std::{cell::Cell, rc::Rc};

use pr_target::test_utils::random_command;

use super::{
    comparison::{Pair, is_comparable, nexuses, on_namespace, on_unit, state_of},
    *,
};

/// If the command is GOOD, the result must be that of a SCSI disk that did one of the two commands after the other.
#[test]
fn race_between_steps_is_never_wrong_good() {
    let (mut raced, mut good) = (0_usize, 0_usize);
    let mut pair = Pair::new();
    for number in 0..20_000_u64 {
        let [command, other] =
            [number * 2, number * 2 + 1].map(|entropy| random_command(entropy, &nexuses()));
        if !is_comparable(&command) || !is_comparable(&other) || command.sender == other.sender {
            continue;
        }
        if command.cdb[0] != 0x5f || other.cdb[0] != 0x5f {
            continue;
        }
        let flavour = if number % 5 == 0 { Flavour::Nvmet } else { Flavour::Standard };
        let model = Rc::new(Model::new(flavour));
        model.set_state(pair.state.clone());
        // The other command comes before the step with this number, as a whole.
        let step = usize::try_from(number % 3).unwrap() + 1;
        let (hooked, interposed) = (Rc::clone(&model), other.clone());
        let is_other_good = Rc::new(Cell::new(false));
        let other_answer = Rc::clone(&is_other_good);
        *model.hook.borrow_mut() = Some(Rc::new(move |sent| {
            if sent == step {
                *hooked.hook.borrow_mut() = None;
                other_answer.set(on_namespace(&hooked, &interposed).0 == GOOD);
            }
        }));
        let (ours, _) = on_namespace(&model, &command);
        let has_raced = model.hook.take().is_none();
        if has_raced && ours == GOOD {
            let state = state_of(&mut |command| on_namespace(&model, command));
            // A failure changed nothing, also where nvmet fails and a SCSI disk would not.
            let orders = if is_other_good.get() {
                vec![vec![&other, &command], vec![&command, &other]]
            } else {
                vec![vec![&command]]
            };
            let explained = orders.into_iter().any(|order| {
                let mut unit = pair.unit.clone();
                let is_good = order.into_iter().all(|one| {
                    let (answer, _) = on_unit(&mut unit, one);
                    one != &command || answer == GOOD
                });
                is_good && state_of(&mut |command| on_unit(&mut unit, command)) == state
            });
            assert!(explained, "number {number}: {command:x?}, before step {step} {other:x?}: {state:x?}");
            good += 1;
        }
        raced += usize::from(has_raced);
        // The next pair starts from the state that one of the commands leaves.
        let next = if number % 2 == 0 { &command } else { &other };
        let plain = Model::new(Flavour::Standard);
        plain.set_state(pair.state.clone());
        let (ours, _) = on_namespace(&plain, next);
        let (expected, _) = on_unit(&mut pair.unit, next);
        assert_eq!(ours == GOOD, expected == GOOD);
        pair.state = plain.state();
    }
    assert!(raced > 1_000 && good > 200, "{raced} races, {good} of them GOOD");
}
