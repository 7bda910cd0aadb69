//! What statements ask for besides a reply is handed on.

use crate::event::{BootEvent, Detail, Kind};
use crate::hooks::{Hooks, Job, Tasks};
use crate::log::EventSink;

/// Logs, and has programs run; `about` is the event of the reply.
pub(super) fn carry_out(
    tasks: Option<Box<Tasks>>,
    about: &BootEvent,
    hooks: &Hooks,
    events: &mut EventSink,
) {
    let Some(tasks) = tasks else { return };
    tasks.logs.iter().for_each(|log| events.emit(log));
    for command in tasks.commands {
        if !hooks.ask(Job::Run(command)) {
            let detail = Detail::Reason("so many programs wait to be run that it was dropped");
            events.emit(&BootEvent { kind: Kind::HookFailed, detail, ..*about });
        }
    }
}
