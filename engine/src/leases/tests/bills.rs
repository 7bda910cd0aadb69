//! What leases are billed to.

use super::*;

#[test]
fn what_a_client_says_that_cannot_be_written_takes_no_lease_off_its_bill() {
    let store = Arc::new(MemoryStore::default());
    let site = Site::new(&[("10.0.0.1", "10.0.0.200")], &[]);
    let mut server = Server::start(site, Arc::<MemoryStore>::clone(&store) as _, 1, clock(0));
    let bill = Bill::new("class", None, 1000);
    let address = |number: u32| ip(&format!("10.0.0.{}", number + 1));
    let (low, high) = (address(0).into(), address(199).into());
    let admission = Admission::Pool { low, high, host: None, bill: Some(bill) };
    let offer = |number| Step::Offer { ip: address(number).into(), admission, until: at(60) };
    for number in 0..64 {
        server.step(0, number, offer(number), 0).unwrap();
        let ip = address(number).into();
        let bind = Step::Bind { ip, admission, expires: at(3600), heard: false };
        assert_eq!(server.step_and_submit(0, number, bind, 0), Ok(true));
    }
    server.committer.run_once(at(0));
    let billed = |server: &Server, now| server.shards[0].billed(bill, at(now));
    assert_eq!(billed(&server, 0), 64);
    store.set_failing(true);
    assert!(server.release(0, 0, address(0), 1));
    let decline = Step::Decline { ip: address(1).into(), until: at(9) };
    assert_eq!(server.step_and_submit(0, 1, decline, 1), Ok(true));
    assert_eq!(billed(&server, 1), 62);
    // So many addresses that those that are not billed any more are dropped.
    server.step(0, 64, offer(64), 1).unwrap();
    server.committer.run_once(at(1));
    server.leases.sweep(&clock(9), 1000);
    assert_eq!(server.state(address(1), 9), Some(LeaseState::Active));
    assert_eq!(billed(&server, 9), 65);
    server.check();
}
