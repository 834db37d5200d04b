//! One line of an htpasswd file: how a password is kept, and whether another one is the same.

use std::fmt;

use argon2::{Argon2, PasswordHash, PasswordVerifier as _};

/// A password as it is kept: by bcrypt or argon2, which make every guess slow.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Kept {
    text: Box<str>,
    scheme: Scheme,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bcrypt,
    Argon2,
}

/// Highest cost of bcrypt that is taken: each more doubles the time, and 14 takes a Raspberry Pi 4 some seconds.
const BCRYPT_COST_MAX: u32 = 14;

/// Lowest one that is taken: below, a guess is too quick. `htpasswd -B` writes 5 unless it is told more.
const BCRYPT_COST_MIN: u32 = 5;

/// Most memory that argon2 may want for one password, in KiB: what its usual parameters want.
const ARGON2_MEMORY_MAX: u32 = 64 * 1024;

/// Most passes over that memory.
const ARGON2_PASSES_MAX: u32 = 16;

const WRITE_ANEW: &str = "write this line anew with: htpasswd -B -C 10";

impl Kept {
    /// Reads what stands behind the name in an htpasswd file.
    ///
    /// # Errors
    /// How a sentence about this password goes on, which does not repeat it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let scheme = if text.starts_with("$argon2") {
            check_argon2(text)?;
            Scheme::Argon2
        } else if ["$2y$", "$2b$", "$2a$"].iter().any(|start| text.starts_with(start)) {
            check_bcrypt(text)?;
            Scheme::Bcrypt
        } else {
            let by = match text {
                _ if text.starts_with("$apr1$") || text.starts_with("$1$") => {
                    "MD5, which is guessed quickly"
                }
                _ if text.starts_with("{SHA}") => "SHA-1, which is guessed quickly",
                _ if text.starts_with("$5$") || text.starts_with("$6$") => {
                    "SHA-2 of crypt, which is not read here"
                }
                _ if text.starts_with('$') || text.starts_with('{') => {
                    "a scheme that is not read here"
                }
                _ => "nothing that protects it, or by crypt",
            };
            return Err(format!("is kept by {by}: {WRITE_ANEW}"));
        };
        Ok(Self { text: text.into(), scheme })
    }

    /// What stands in the file.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Whether it is this password. Takes long, and as long whatever the password is.
    pub(super) fn is(&self, password: &[u8]) -> bool {
        match self.scheme {
            Scheme::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Scheme::Argon2 => PasswordHash::new(&self.text)
                .is_ok_and(|kept| Argon2::default().verify_password(password, &kept).is_ok()),
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

fn check_bcrypt(text: &str) -> Result<(), String> {
    let parts = text.parse::<bcrypt::HashParts>();
    let Ok(parts) = parts.map_err(|_| ()).and_then(|parts| check_length(text).map(|()| parts))
    else {
        return Err(format!("is no whole bcrypt hash: {WRITE_ANEW}"));
    };
    let cost = parts.get_cost();
    if !(BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&cost) {
        return Err(format!(
            "is kept by bcrypt at cost {cost}, which is not one of {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}: {WRITE_ANEW}"
        ));
    }
    Ok(())
}

/// 22 characters of salt and 31 of hash stand behind the cost.
const fn check_length(text: &str) -> Result<(), ()> {
    if text.len() == "$2y$10$".len() + 22 + 31 { Ok(()) } else { Err(()) }
}

fn check_argon2(text: &str) -> Result<(), String> {
    let broken =
        || format!("is no whole argon2 hash: write this line anew with argon2, or {WRITE_ANEW}");
    let kept = PasswordHash::new(text).map_err(|_| broken())?;
    let parameters = argon2::Params::try_from(&kept).map_err(|_| broken())?;
    argon2::Algorithm::try_from(kept.algorithm).map_err(|_| broken())?;
    if kept.salt.is_none() || kept.hash.is_none() {
        return Err(broken());
    }
    if parameters.m_cost() > ARGON2_MEMORY_MAX || parameters.t_cost() > ARGON2_PASSES_MAX {
        return Err(format!(
            "is kept by argon2 with m={} and t={}: write this line anew with at most m={ARGON2_MEMORY_MAX} and \
             t={ARGON2_PASSES_MAX}",
            parameters.m_cost(),
            parameters.t_cost()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `argon2 somesalt -id -t 1 -k 8 -p 1` makes of "secret" is made here by the crate itself: the form is the PHC's.
    fn argon2id(password: &str) -> String {
        use argon2::{Algorithm, Params, PasswordHasher as _, Version, password_hash::SaltString};
        let params = Params::new(8, 1, 1, None).expect("small ones");
        let salt = SaltString::from_b64("c29tZXNhbHQ").expect("base64");
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        hasher.hash_password(password.as_bytes(), &salt).expect("hashed").to_string()
    }

    fn refusal(text: &str) -> String {
        let problem = Kept::parse(text).expect_err(text);
        assert!(!problem.contains(text), "it repeats it: {problem}");
        problem
    }

    #[test]
    fn bcrypt_and_argon2_are_read_and_nothing_else_is_the_password() {
        // Of the original test vectors of crypt_blowfish.
        let known = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let (y, b) = (known.replace("$2a$", "$2y$"), known.replace("$2a$", "$2b$"));
        for (text, password) in
            [(known, "U*U"), (&y, "U*U"), (&b, "U*U"), (&argon2id("secret"), "secret")]
        {
            let kept = Kept::parse(text).expect(text);
            assert!(kept.is(password.as_bytes()), "{text}");
            for wrong in ["", "u*u", "U*U*", "secre", "secret2", text] {
                assert!(!kept.is(wrong.as_bytes()), "{wrong} for {text}");
            }
        }
    }

    #[test]
    fn what_is_guessed_quickly_is_refused_with_what_to_run() {
        for (text, why) in [
            ("$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00", "is kept by MD5"),
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "is kept by SHA-1"),
            ("$6$saltsalt$hash", "is kept by SHA-2 of crypt"),
            ("$y$j9T$salt$hash", "is kept by a scheme"),
            ("hunter2", "is kept by nothing"),
            ("", "is kept by nothing"),
            ("$2y$05$tooshort", "is no whole bcrypt hash"),
            (&bcrypt_at("04"), "is kept by bcrypt at cost 4"),
            (&bcrypt_at("15"), "is kept by bcrypt at cost 15"),
            (&bcrypt_at("31"), "is kept by bcrypt at cost 31"),
            ("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ", "is no whole argon2 hash"),
            ("$argon2x$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNo", "is no whole argon2 hash"),
            (
                "$argon2id$v=19$m=65537,t=1,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNo",
                "is kept by argon2 with m=65537",
            ),
            (
                "$argon2id$v=19$m=8,t=17,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNo",
                "is kept by argon2 with m=8 and t=17",
            ),
        ] {
            let problem = if text.is_empty() {
                Kept::parse(text).expect_err("refused")
            } else {
                refusal(text)
            };
            assert!(problem.starts_with(why), "{text}: {problem}");
            assert!(problem.contains("write this line anew"), "{text}: {problem}");
        }
    }

    fn bcrypt_at(cost: &str) -> String {
        format!("$2y${cost}$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW")
    }
}
