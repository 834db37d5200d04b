//! Certificates and users that are renewed while the daemon runs.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::config::{Config, DoorFiles, Stamps};

/// How often it is looked whether files were renewed.
const LOOKS: Duration = Duration::from_secs(10);

/// The files of each of wharf's doors as they were when they were last looked at.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    seen: Vec<Option<(DoorFiles, Stamps)>>,
}

impl Renewal {
    /// Looks again and again.
    pub(super) async fn watch(
        &mut self,
        config: &Config,
        now: impl Fn() -> SystemTime,
    ) -> Infallible {
        let mut looks = interval(LOOKS);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look(config, now()).await;
            warn_of_ends(config, now());
        }
    }

    /// Reads the files that were written since the last look, and has new connections answered by what they hold.
    async fn look(&mut self, config: &Config, now: SystemTime) {
        self.seen.resize(config.doors().count(), None);
        for (seen, (_, door, files)) in self.seen.iter_mut().zip(config.doors()) {
            let (files, before) = (files.clone(), seen.take());
            let looking = spawn_blocking(move || {
                // Before they are read: what is written meanwhile is seen at the next look.
                let stamps = files.stamps();
                let looked = (files, stamps);
                let read = (before.as_ref() != Some(&looked))
                    .then(|| (looked.0.tls.as_ref().map(|tls| tls.read()), looked.0.read_users()));
                (looked, read)
            });
            let Ok((looked, read)) = looking.await else { continue };
            *seen = Some(looked);
            let Some((tls, users)) = read else { continue };
            // They may be written one after the other: the next look sees more.
            let tls = tls.map(|read| {
                let new = read?;
                let better = door.tls.as_ref().and_then(|tls| tls.has_better_list(&new, now));
                match better {
                    Some(list) => {
                        Err(format!("client_crl holds a list of revoked certificates {list}"))
                    }
                    None => Ok(new),
                }
            });
            match (&door.tls, tls) {
                (Some(tls), Some(Ok(new))) if tls.adopt(&new) => {
                    tracing::info!("certificates were renewed: new connections have them");
                }
                (_, Some(Err(problem))) => {
                    tracing::warn!("certificates stay as they were: {problem}")
                }
                _ => {}
            }
            match (&door.users, users) {
                (Some(users), Some(Ok(new))) if users.adopt(&new) => {
                    tracing::info!("users were changed: the next request has them");
                }
                (_, Some(Err(problem))) => tracing::warn!("users stay as they were: {problem}"),
                _ => {}
            }
        }
    }
}

/// Says once of each list of revoked certificates that it has run out: whoever sees to it may not have noticed.
fn warn_of_ends(config: &Config, now: SystemTime) {
    for (_, door, _) in config.doors() {
        for list in door.tls.iter().flat_map(|tls| tls.ran_out(now)) {
            tracing::warn!(
                "the list of revoked certificates {list}, counts on: have that authority issue another, and write it to \
                 client_crl"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{
        CertificateParams, CertificateRevocationListParams, CertifiedKey, Issuer, KeyIdMethod,
        RevokedCertParams, date_time_ymd, generate_simple_self_signed,
    };

    use super::*;
    use crate::{
        config::Sources,
        server::{ClientAuth, Clients, Tls, Users},
    };

    #[tokio::test]
    async fn what_is_written_is_taken_up_when_it_fits() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        let identity = || {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["wharf.lan".to_owned()]).expect("a certificate");
            (cert.pem(), signing_key.serialize_pem())
        };
        let (first, second) = (identity(), identity());
        write("wharf.toml", "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n");
        write("cert.pem", &first.0);
        write("key.pem", &first.1);
        let sources = Sources { file: Some(dir.path().join("wharf.toml")), ..Sources::default() };
        let config = Config::load(&sources).expect("good").config;
        let of = |(cert, key): &(String, String)| {
            Tls::new(cert.as_bytes(), key.as_bytes(), None).expect("good")
        };
        let mut renewal = Renewal::default();
        let tls = config.server.door.tls.as_ref().expect("it is there");
        renewal.look(&config, SystemTime::now()).await;
        assert!(tls.is_as(&of(&first)));
        // The new certificate, and still the old key.
        write("cert.pem", &second.0);
        renewal.look(&config, SystemTime::now()).await;
        assert!(tls.is_as(&of(&first)), "they do not belong together");
        write("key.pem", &second.1);
        renewal.look(&config, SystemTime::now()).await;
        assert!(tls.is_as(&of(&second)));
        fs::remove_file(dir.path().join("key.pem")).expect("it was there");
        renewal.look(&config, SystemTime::now()).await;
        assert!(tls.is_as(&of(&second)), "what is gone changes nothing");
    }

    #[tokio::test]
    async fn a_list_of_revoked_certificates_is_taken_up_when_it_is_good() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["wharf.lan".to_owned()]).expect("a certificate");
        let issuer = CertificateParams::new(Vec::new()).expect("no names are good names");
        let issuer = Issuer::new(issuer, &signing_key);
        let issued = |serial: &[u64], since, until| {
            let revoked = |serial: &u64| RevokedCertParams {
                serial_number: (*serial).into(),
                revocation_time: date_time_ymd(2019, 1, 1),
                reason_code: None,
                invalidity_date: None,
            };
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(since, 1, 1),
                next_update: date_time_ymd(until, 1, 1),
                crl_number: 1_u64.into(),
                issuing_distribution_point: None,
                revoked_certs: serial.iter().map(revoked).collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&issuer).expect("the key signs").pem().expect("it is written")
        };
        let list = |serial: &[u64], until| issued(serial, 2019, until);
        let tls = |list: &str| {
            let clients = Clients {
                authorities: cert.pem().into_bytes(),
                revoked: Some(list.as_bytes().to_vec()),
                auth: ClientAuth::Optional,
            };
            let key = signing_key.serialize_pem();
            Tls::new(cert.pem().as_bytes(), key.as_bytes(), Some(clients)).expect("good")
        };
        write(
            "wharf.toml",
            "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nclient_ca = \"cert.pem\"\nclient_crl = \"crl\"\n",
        );
        write("cert.pem", &cert.pem());
        write("key.pem", &signing_key.serialize_pem());
        let first = list(&[1], 2090);
        write("crl", &first);
        let sources = Sources { file: Some(dir.path().join("wharf.toml")), ..Sources::default() };
        let config = Config::load(&sources).expect("good").config;
        let running = config.server.door.tls.as_ref().expect("it is there");
        let mut renewal = Renewal::default();
        renewal.look(&config, SystemTime::now()).await;
        assert!(running.is_as(&tls(&first)));
        write("crl", &list(&[1, 2, 3], 2020));
        renewal.look(&config, SystemTime::now()).await;
        assert!(running.is_as(&tls(&first)), "it has run out");
        // One that was issued later knows more, however short it was to count.
        let newer = issued(&[1, 3], 2021, 2022);
        write("crl", &newer);
        renewal.look(&config, SystemTime::now()).await;
        assert!(running.is_as(&tls(&newer)));
        let second = issued(&[1, 2], 2022, 2090);
        write("crl", &second);
        renewal.look(&config, SystemTime::now()).await;
        assert!(running.is_as(&tls(&second)));
        fs::remove_file(dir.path().join("crl")).expect("it was there");
        renewal.look(&config, SystemTime::now()).await;
        assert!(running.is_as(&tls(&second)), "what is gone changes nothing");
        // 2090-01-01T00:00:00Z
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(3_786_912_000);
        assert_eq!(running.ran_out(end - Duration::from_secs(1)), [""; 0]);
        let told = running.ran_out(end);
        assert!(
            told.len() == 1 && told[0].ends_with(", which ran out at 2090-01-01T00:00:00Z"),
            "{told:?}"
        );
        assert_eq!(running.ran_out(end), [""; 0], "it is told once");
        assert!(running.is_as(&tls(&second)), "it counts on");
        write("crl", &issued(&[1, 2], 2022, 2091));
        renewal.look(&config, SystemTime::now()).await;
        assert_eq!(running.ran_out(end), [""; 0]);
        assert_eq!(
            running.ran_out(end + Duration::from_secs(400 * 86_400)).len(),
            1,
            "the next one"
        );
    }

    #[tokio::test]
    async fn users_are_taken_up_when_their_file_is_good_at_every_door() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        let line = "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";
        let other = line.replace("alice", "carol");
        let users = |text: &str| Users::parse(text).expect("good lines");
        write(
            "wharf.toml",
            "[server]\nlisten = [\"127.0.0.1:5000\"]\nusers = \"one\"\n[[listener]]\naddress = \"127.0.0.1:5002\"\nusers = \"two\"\n",
        );
        write("one", line);
        write("two", line);
        let sources = Sources { file: Some(dir.path().join("wharf.toml")), ..Sources::default() };
        let config = Config::load(&sources).expect("good").config;
        let [one, two] = [&config.server.door, &config.listeners[0].door]
            .map(|door| door.users.clone().expect("it is there"));
        let mut renewal = Renewal::default();
        renewal.look(&config, SystemTime::now()).await;
        write("two", &format!("{line}{other}"));
        renewal.look(&config, SystemTime::now()).await;
        assert!(one.are_as(&users(line)) && two.are_as(&users(&format!("{line}{other}"))));
        write("one", "alice:hunter2");
        write("two", &other);
        renewal.look(&config, SystemTime::now()).await;
        assert!(one.are_as(&users(line)), "what will not do changes nothing");
        assert!(two.are_as(&users(&other)));
        fs::remove_file(dir.path().join("two")).expect("it was there");
        renewal.look(&config, SystemTime::now()).await;
        assert!(two.are_as(&users(&other)), "what is gone changes nothing");
    }
}
