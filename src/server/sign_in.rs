//! What becomes of the name and the password that a request carries.

use super::{
    Server,
    credentials::Claim,
    peer::Peer,
    respond::{self, Answer},
    users::NotSignedIn,
};

const WRONG: &str = "the name or the password is wrong";
const NO_BASIC: &str =
    "here clients sign in with a name and a password (Basic), and with nothing else";

impl Server {
    /// Makes `peer` the user that `claim` is of.
    ///
    /// # Errors
    /// What to answer, when it is nobody's.
    pub(super) async fn sign_in(&self, claim: Claim, peer: &mut Peer) -> Result<(), Answer> {
        let Some(users) = peer.door.users.clone() else { return Ok(()) };
        let client = peer.address.ip();
        let refused = |why| match peer.door.sign_in {
            true => respond::sign_in(why),
            false => respond::wrong_credentials(why),
        };
        let verdict = match claim {
            Claim::None => return Ok(()),
            // Whoever sends it has something else in mind, and may do so all day: it is no guess.
            Claim::Other => {
                self.metrics.sign_in(NotSignedIn::Wrong.as_str());
                return Err(refused(NO_BASIC));
            }
            Claim::Basic(credentials) => users.verify(credentials, client).await,
        };
        self.metrics.sign_in(verdict.as_ref().err().map_or("good", |refused| refused.as_str()));
        match verdict {
            Ok(user) => {
                peer.user = Some(user);
                Ok(())
            }
            Err(NotSignedIn::Wrong) => Err(refused(WRONG)),
            Err(NotSignedIn::TooOften(pause)) => Err(respond::too_many_failures(client, pause)),
            Err(NotSignedIn::Busy) => Err(respond::too_busy_to_sign_in()),
        }
    }
}
