//! Who may connect, and how often at a time (bug class: one client takes the places of all the others, or whoever reaches
//! the address is served).

use std::net::Ipv4Addr;

use futures_util::future::join_all;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
};

use crate::support::{FakeHub, Wharf, client::get_from, deadline};

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

async fn connect_from(from: Ipv4Addr, wharf: &Wharf) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of this machine");
    socket.connect(wharf.addr).await.expect("wharf listens")
}

async fn until(wharf: &Wharf, metric: &str, value: f64) {
    let reached = async {
        while (wharf.metric(metric) - value).abs() > 0.5 {
            tokio::task::yield_now().await;
        }
    };
    deadline(&format!("{metric} {value}"), reached).await;
}

#[tokio::test]
async fn only_the_clients_that_are_allowed_are_served() {
    let hub = FakeHub::start().await;
    let wharf = Wharf::start_with(&hub, |config| {
        config.server.door.allow_clients = vec!["127.0.0.2/32".parse().expect("a network")];
    })
    .await;
    assert_eq!(get_from(FIRST, wharf.addr, "/v2/", &[]).await.status, 200);
    let refused = get_from(SECOND, wharf.addr, "/v2/", &[]).await;
    assert_eq!(refused.refusal(), (403, "DENIED".to_owned()));
    assert!(refused.json().to_string().contains("127.0.0.3"), "{}", refused.json());
    assert_eq!(wharf.metric("wharf_connections_refused_total{reason=\"not_allowed\"}"), 1.0);
    wharf.end().await;
}

#[tokio::test]
async fn one_client_takes_no_more_than_its_places() {
    const EACH: usize = 20;
    let hub = FakeHub::start().await;
    let wharf =
        Wharf::start_with(&hub, |config| config.server.max_connections_per_client = EACH).await;
    let idle = join_all((0..EACH).map(|_| connect_from(FIRST, &wharf))).await;
    until(&wharf, "wharf_open_connections", EACH as f64).await;
    let refused = get_from(FIRST, wharf.addr, "/v2/", &[]).await;
    assert_eq!(refused.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(get_from(SECOND, wharf.addr, "/v2/", &[]).await.status, 200);
    // However many more come, and say nothing: only so many are told why.
    let more = join_all((0..200).map(|_| connect_from(FIRST, &wharf))).await;
    until(&wharf, "wharf_connections_refused_total{reason=\"too_many\"}", 201.0).await;
    assert_eq!(get_from(SECOND, wharf.addr, "/v2/", &[]).await.status, 200);
    drop((idle, more));
    until(&wharf, "wharf_open_connections", 0.0).await;
    assert_eq!(get_from(FIRST, wharf.addr, "/v2/", &[]).await.status, 200);
    wharf.end().await;
}

#[tokio::test]
async fn connections_that_idle_make_room_for_those_that_ask() {
    const PLACES: usize = 10;
    let hub = FakeHub::start().await;
    let wharf = Wharf::start_with(&hub, |config| config.server.max_connections = PLACES).await;
    let mut oldest = connect_from(FIRST, &wharf).await;
    until(&wharf, "wharf_open_connections", 1.0).await;
    let others = join_all((1..PLACES).map(|_| connect_from(FIRST, &wharf))).await;
    until(&wharf, "wharf_open_connections", PLACES as f64).await;
    assert_eq!(get_from(SECOND, wharf.addr, "/v2/", &[]).await.status, 200);
    assert_eq!(wharf.metric("wharf_connections_refused_total{reason=\"idle\"}"), 1.0);
    let ended = deadline("its end", oldest.read(&mut [0])).await;
    assert!(!matches!(ended, Ok(1..)), "the one that idled for longest was closed");
    drop(others);
    wharf.end().await;
}
