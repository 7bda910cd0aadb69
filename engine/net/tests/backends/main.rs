//! One suite for all backends: each keeps what the interface promises.

// A helper of a test may panic as the test itself may.
#![allow(clippy::unwrap_used)]

mod bed;
mod faults;
mod receiving;
mod suite;
mod system;

use bed::{BusyBed, MmsgBed, SimBed, UringBed};

/// Instantiates every test of the suite for one backend.
macro_rules! suite {
    ($name:ident, $bed:ty, [$($test:ident),* $(,)?]) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    crate::suite::$test::<$bed>();
                }
            )*
        }
    };
}

macro_rules! suites {
    ($($tests:tt)*) => {
        suite!(uring, crate::UringBed, [$($tests)*]);
        suite!(busy, crate::BusyBed, [$($tests)*]);
        suite!(mmsg, crate::MmsgBed, [$($tests)*]);
        suite!(sim, crate::SimBed, [$($tests)*]);
    };
}

suites! {
    echoes_every_datagram_and_knows_where_it_came_from,
    speaks_ipv6,
    what_the_handler_does_not_take_waits,
    carries_empty_datagrams,
    marks_truncated_datagrams,
    holds_until_submitted,
    forgets_what_is_discarded,
    refuses_when_slots_are_used_up,
    what_is_held_leaves_slots_for_the_rest,
    refuses_unknown_sockets,
    cuts_shared_bytes_into_segments_in_order,
    keeps_the_order_of_one_socket,
    is_woken_by_another_thread,
    makes_many_wakes_one,
    returns_when_the_deadline_is_over,
    does_not_wait_for_a_past_deadline,
    survives_send_errors,
    recovers_from_running_out_of_buffers,
    forgets_a_removed_socket,
    serves_many_sockets,
    serves_more_sockets_than_completions_fit,
    empty_datagrams_hide_nothing,
    says_when_the_sockets_are_dry,
}
