//! For whom work is done, where it has to wait in line for that client.
//!
//! Who waits is known at the edge, and needed where a turn is queued, with two dozen calls in between that care for neither.
//! So the edge sets it for all that is polled within [`on_behalf_of`]. A task that is spawned is wharf's own, unless whoever
//! spawns it says otherwise.

use std::net::IpAddr;

use tokio::sync::watch;

/// Who waits for work: clients take turns with each other, and with what wharf does for none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    /// Nobody: it is fetched ahead, looked after, or asked for by a command.
    Wharf,
    /// A client, by what counts as one.
    Client(IpAddr),
}

/// For whom one thing is done that several may wait for: whoever began it, and who has joined since.
#[derive(Debug)]
pub(super) struct Crowd(watch::Sender<Vec<Whose>>);

/// Members of one crowd, so that strangers who join the same thing take no memory without bound. Who comes later waits as long
/// as they do.
const MEMBERS_MAX: usize = 64;

tokio::task_local! {
    static WHOSE: Whose;
}

/// Does `work` for this client: an address that stands for all that count as the same one.
pub fn on_behalf_of<F: Future>(client: IpAddr, work: F) -> impl Future<Output = F::Output> {
    Whose::Client(client).does(work)
}

impl Whose {
    /// For whom the caller works.
    pub(super) fn now() -> Self {
        WHOSE.try_with(|whose| *whose).unwrap_or(Self::Wharf)
    }

    /// Does `work` for this one: for tasks, which belong to nobody else.
    pub(super) fn does<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        WHOSE.scope(self, work)
    }
}

impl Crowd {
    /// Of one, who began.
    pub(super) fn of(whose: Whose) -> Self {
        Self(watch::Sender::new(vec![whose]))
    }

    /// Takes in another, who may be in it already.
    pub(super) fn join(&self, whose: Whose) {
        self.0.send_if_modified(|members| {
            let joins = members.len() < MEMBERS_MAX && !members.contains(&whose);
            if joins {
                members.push(whose);
            }
            joins
        });
    }

    /// The members in the order in which they came, to whom others are only ever added.
    pub(super) fn members(&self) -> watch::Receiver<Vec<Whose>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test]
    async fn work_is_its_clients_and_a_task_is_nobodys() {
        assert_eq!(Whose::now(), Whose::Wharf);
        let (own, spawned, nested) = on_behalf_of(address(1), async {
            let spawned = tokio::spawn(async { Whose::now() }).await.expect("no panic");
            (Whose::now(), spawned, on_behalf_of(address(2), async { Whose::now() }).await)
        })
        .await;
        assert_eq!(
            (own, spawned, nested),
            (Whose::Client(address(1)), Whose::Wharf, Whose::Client(address(2)))
        );
    }

    #[test]
    fn a_crowd_has_each_member_once_and_a_bound() {
        let crowd = Crowd::of(Whose::Wharf);
        for last in [1, 2, 1, 2] {
            crowd.join(Whose::Client(address(last)));
        }
        let [one, two] = [1, 2].map(|last| Whose::Client(address(last)));
        assert_eq!(*crowd.members().borrow(), [Whose::Wharf, one, two]);
        (0..=u8::MAX).for_each(|last| crowd.join(Whose::Client(address(last))));
        assert_eq!(crowd.members().borrow().len(), MEMBERS_MAX);
    }
}
